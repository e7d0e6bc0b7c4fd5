"""Doing work side by side: in threads, in forks of this process, or wherever an executor has its workers."""
