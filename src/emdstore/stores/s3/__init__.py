"""Artifacts as objects of an S3 bucket."""

from emdstore.stores.s3.store import S3ArtifactStore

__all__ = ["S3ArtifactStore"]
