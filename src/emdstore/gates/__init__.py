"""Promotion through gates: results are compared with what was, checked, and only then made a release."""
