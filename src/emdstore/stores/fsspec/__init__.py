"""Artifacts on any file system that fsspec knows."""

from emdstore.stores.fsspec.store import FsspecArtifactStore

__all__ = ["FsspecArtifactStore"]
