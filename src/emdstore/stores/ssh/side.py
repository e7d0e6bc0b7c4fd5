"""The far side: what the program over there and SFTP both can do with one folder, and errors that both raise.

What the system's error numbers mean is in `emdstore.stores.system_errors`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

from emdstore import system
from emdstore.errors import ArtifactExistsError, ArtifactNotFoundError, KeyConflictError, UnsafePathError
from emdstore.stores.port import ArtifactInfo, ArtifactReader, ArtifactWriter, LeftOut

FAR_SECONDS = 0.005
"""One stream is bound by OpenSSH's window; from here on a second one is quicker."""


def round_trip_of(ask: Callable[[], object]) -> float:
    """Return how many seconds an answer takes, at least: a busy machine may keep the first ones waiting."""
    least = math.inf
    for _ in range(3):
        began = system.current().monotonic()
        ask()
        least = min(least, system.current().monotonic() - began)
        if least <= FAR_SECONDS:
            break
    return least


class FarSide(Protocol):
    """One folder at the other end of a connection. Keys and prefixes were validated; threads call it side by side.

    It is made of a connection, the folder (absolute, or relative to the user's home; ``"."`` is the home) and the name
    of the store in errors: ``FarEnd(connection, root, name, durability="system")``. When its connection is cut, what
    is under way ends with a `StoreUnavailableError`, `is_cut` is true from then on, and the store makes another one.
    """

    @property
    def is_cut(self) -> bool:
        """Whether the connection is gone, so that nothing more can be asked."""
        ...

    @property
    def round_trip(self) -> float:
        """Seconds that an answer took, at least, as measured when it was opened."""
        ...

    def exists(self, key: str) -> bool:
        """See `ArtifactStore.exists`."""
        ...

    def info(self, key: str) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        ...

    def read_bytes(self, key: str) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        ...

    def write_bytes(self, key: str, data: bytes) -> None:
        """See `ArtifactStore.write_bytes`."""
        ...

    def create_bytes(self, key: str, data: bytes) -> None:
        """See `SupportsCreate.create_bytes`."""
        ...

    def replace_bytes(self, key: str, data: bytes, seen: str) -> None:
        """See `SupportsReplaceIf.replace_bytes`."""
        ...

    def delete(self, key: str) -> None:
        """See `SupportsDelete.delete`; folders that become empty go too."""
        ...

    def iter_found(self, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
        """See `SupportsLeftOut.iter_found`: in the order of the keys' bytes."""
        ...

    def open_reader(self, key: str) -> ArtifactReader:
        """See `SupportsStreaming.open_reader`."""
        ...

    def open_writer(self, key: str) -> ArtifactWriter:
        """See `SupportsStreaming.open_writer`."""
        ...

    def flush(self) -> None:
        """See `SupportsFlush.flush`, as far as the other side can do it."""
        ...

    def remove_staging(self, older_than: float, dry_run: bool) -> tuple[str, ...]:
        """See `LocalArtifactStore.remove_staging`."""
        ...

    def close(self) -> None:
        """Remove what is unfinished over there, and close the connection."""
        ...


def not_found(key: str, store: str) -> ArtifactNotFoundError:
    """Return the error for a key at which nothing lies."""
    return ArtifactNotFoundError(f"no artifact {key!r} in {store}", key=key, store=store)


def exists_already(key: str, store: str) -> ArtifactExistsError:
    """Return the error for a key at which something lies."""
    return ArtifactExistsError(f"{key!r} is already there in {store}; it was left as it is", key=key, store=store)


def leads_out(key: str, store: str) -> UnsafePathError:
    """Return the error for a link that leads out of the root."""
    return UnsafePathError(
        f"{key!r} in {store} leads out of the store through a link; put the file itself there instead",
        key=key,
        store=store,
    )


def holds_artifacts(key: str, store: str) -> KeyConflictError:
    """Return the error for a key at which a folder with artifacts lies."""
    return KeyConflictError(
        f"cannot hold {key!r} in {store} beside artifacts below it: a file cannot be a folder too; choose another key "
        "or delete those artifacts",
        key=key,
        store=store,
    )


def is_below_artifact(key: str, blocker: str, store: str) -> KeyConflictError:
    """Return the error for a key on whose way an artifact lies."""
    return KeyConflictError(
        f"cannot hold {key!r} beside the artifact {blocker!r} in {store}: a file cannot be a folder too; "
        "choose another key or delete that artifact",
        key=key,
        store=store,
    )
