"""Artifacts as files below one folder of a POSIX file system."""

from emdstore.stores.local.store import LocalArtifactStore

__all__ = ["LocalArtifactStore"]
