"""Doing work in parallel: in threads, in forks of this process, or on the workers of an executor."""
