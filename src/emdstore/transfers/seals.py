"""Writing the file that vouches for its folder: only over what its writer has seen (fencing).

A writer can be halted for an hour between its last look and its last write. Whoever has sealed the folder meanwhile
stays: the late one finds out, and changes nothing more. Bytes that it was about to write may land all the same, right
before the seal, which no time tells of afterwards. So what is sealed over an open folder is read back, and what is not
what was sent is sent again.
"""

from __future__ import annotations

from emdstore.errors import ArtifactChangedError, OvertakenError
from emdstore.stores.port import ArtifactStore
from emdstore.stores.replacing import put_over

ATTEMPTS = 3
"""How often a folder that was found open is sealed, at most, before whoever disturbs it has won."""


def write_seal(store: ArtifactStore, key: str, data: bytes, seen: str | None, *, folder: str) -> None:
    """Write a seal over the one that was seen.

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
        If the store cannot be read or written. What was there stays.
    """
    try:
        put_over(store, key, data, seen)
    except ArtifactChangedError:
        raise overtaken(folder, store) from None


def overtaken(folder: str, store: ArtifactStore) -> OvertakenError:
    """Return the error of a writer who is too late."""
    return OvertakenError(
        f"{folder!r} was written, or removed, by somebody else since it was looked at: what they have there stays, and "
        "this one changes nothing more. If theirs is the set that you want, see by `emdstore verify` that it is whole "
        "(`emdstore repair` mends it); if not, do it again",
        key=folder,
        store=repr(store),
    )
