"""Writing the file that vouches for its folder: only over what its writer has seen (fencing).

A writer can be halted for an hour between its last look and its last write. If another writer has sealed the folder
meanwhile, that seal stays: the late writer finds out, and changes nothing more. But a write that was already under way
may still land right before the seal, and no time reveals it afterwards. So what is sealed over an open folder is read
back, and what differs is sent again.
"""

from __future__ import annotations

from emdstore.errors import ArtifactChangedError, OvertakenError
from emdstore.stores.port import ArtifactStore
from emdstore.stores.replacing import put_over

ATTEMPTS = 3
"""How often a folder that was found open is sealed, at most, before giving in to the other writer."""


def write_seal(store: ArtifactStore, key: str, data: bytes, seen: str | None, *, folder: str) -> None:
    """Write a seal, only over the one that was seen.

    Parameters
    ----------
    store, key, data
        What to write, and where.
    seen
        The SHA-256 of the one that was seen; None if there was none.
    folder
        The folder that it vouches for, as errors name it.

    Raises
    ------
    OvertakenError
        If another one is there by now. It stays.
    StoreError
        If the store cannot be read or written. The old seal stays.
    """
    try:
        put_over(store, key, data, seen)
    except ArtifactChangedError:
        raise overtaken(folder, store) from None


def overtaken(folder: str, store: ArtifactStore) -> OvertakenError:
    """Return the error for a writer that is too late."""
    return OvertakenError(
        f"{folder!r} was written, or removed, by somebody else since it was looked at: what they have there stays, and "
        "this one changes nothing more. If theirs is the set that you want, see by `emdstore verify` that it is whole "
        "(`emdstore repair` mends it); if not, do it again",
        key=folder,
        store=repr(store),
    )
