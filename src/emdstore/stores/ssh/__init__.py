"""Artifacts as files of another machine, by SSH."""
