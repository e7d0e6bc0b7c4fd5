"""The port for artifacts, and one adapter per module. An adapter's engine is imported when the adapter is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emdstore.stores.port import (
    ArtifactInfo,
    ArtifactReader,
    ArtifactStore,
    ArtifactWriter,
    Copied,
    CopySession,
    LeftOut,
    Place,
    StoreSession,
    SupportsCopyFrom,
    SupportsCreate,
    SupportsDelete,
    SupportsDigest,
    SupportsFlush,
    SupportsInfo,
    SupportsLeftOut,
    SupportsPath,
    SupportsPlace,
    SupportsReplaceIf,
    SupportsScope,
    SupportsSession,
    SupportsStreaming,
)
from emdstore.stores.views import ReadOnlyStore, ScopedStore, scoped

if TYPE_CHECKING:
    from emdstore.stores.azure import AzureArtifactStore
    from emdstore.stores.fsspec import FsspecArtifactStore
    from emdstore.stores.google import GoogleArtifactStore
    from emdstore.stores.local import LocalArtifactStore
    from emdstore.stores.memory import InMemoryArtifactStore
    from emdstore.stores.s3 import S3ArtifactStore
    from emdstore.stores.ssh import SSHArtifactStore
    from emdstore.stores.urls import open_store

__all__ = [
    "ArtifactInfo",
    "ArtifactReader",
    "ArtifactStore",
    "ArtifactWriter",
    "AzureArtifactStore",
    "Copied",
    "CopySession",
    "FsspecArtifactStore",
    "GoogleArtifactStore",
    "InMemoryArtifactStore",
    "LeftOut",
    "LocalArtifactStore",
    "Place",
    "ReadOnlyStore",
    "S3ArtifactStore",
    "SSHArtifactStore",
    "ScopedStore",
    "StoreSession",
    "SupportsCopyFrom",
    "SupportsCreate",
    "SupportsDelete",
    "SupportsDigest",
    "SupportsFlush",
    "SupportsInfo",
    "SupportsLeftOut",
    "SupportsPath",
    "SupportsPlace",
    "SupportsReplaceIf",
    "SupportsScope",
    "SupportsSession",
    "SupportsStreaming",
    "open_store",
    "scoped",
]

_HOME = {
    "AzureArtifactStore": "azure",
    "FsspecArtifactStore": "fsspec",
    "GoogleArtifactStore": "google",
    "LocalArtifactStore": "local",
    "InMemoryArtifactStore": "memory",
    "S3ArtifactStore": "s3",
    "SSHArtifactStore": "ssh",
    "open_store": "urls",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
