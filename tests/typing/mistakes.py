"""Mistakes that a type checker tells; each ignore would be reported as unused if it did not."""

from __future__ import annotations

from emdstore import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, materialize_outputs, transfer


class NoListing:
    def exists(self, key: str, /) -> bool:
        return False

    def read_bytes(self, key: str, /) -> bytes:
        return b""

    def write_bytes(self, key: str, data: bytes, /) -> None: ...


store: ArtifactStore = NoListing()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
transfer(InMemoryArtifactStore(), InMemoryArtifactStore(), unchanged="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
materialize_outputs("result", source=InMemoryArtifactStore(), dest=InMemoryArtifactStore())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
LocalArtifactStore("results").root = "elsewhere"  # type: ignore[misc,assignment]  # pyright: ignore
