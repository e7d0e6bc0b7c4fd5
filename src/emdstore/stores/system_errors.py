"""What the operating system's error numbers mean for an artifact, on this machine or another."""

from __future__ import annotations

import errno
import os

from emdstore.errors import StoreAccessError, StoreError, StoreUnavailableError

_KINDS: dict[int, tuple[type[StoreError], str]] = {
    errno.EACCES: (StoreAccessError, "check the permissions of the file and its folders"),
    errno.EPERM: (StoreAccessError, "check the permissions of the file and its folders"),
    errno.EROFS: (StoreAccessError, "the file system is mounted read-only"),
    errno.ENOSPC: (StoreError, "what was there before is intact; free some space and run it again"),
    errno.EFBIG: (StoreError, "what was there before is intact; files of this size are not allowed here"),
    errno.EDQUOT: (StoreError, "what was there before is intact; the quota is used up"),
    errno.ESTALE: (StoreUnavailableError, "the file server changed it meanwhile; try again"),
    errno.ETIMEDOUT: (StoreUnavailableError, "the file server does not answer; try again"),
    errno.EAGAIN: (StoreUnavailableError, "try again"),
    errno.EBUSY: (StoreUnavailableError, "try again"),
    errno.EIO: (StoreUnavailableError, "the disk or the file server failed to do it; try again, and look at its state"),
    errno.EMFILE: (StoreUnavailableError, "too many files are open in this process; raise `ulimit -n`, or try again"),
    errno.ENFILE: (StoreUnavailableError, "too many files are open on this machine; try again"),
    errno.ENOMEM: (StoreUnavailableError, "there is no memory left; try again"),
}


def error_of_errno(number: int | None, said: str | None, key: str, store: str, verb: str) -> StoreError:
    """Return the emdstore error for an error of the system.

    Parameters
    ----------
    number, said
        The system's number and text.
    key, store, verb
        What could not be done.
    """
    kind, advice = _KINDS.get(number or 0, (StoreError, "nothing was changed"))
    said = said or os.strerror(number or 0)
    found = kind(f"cannot {verb} {key!r} in {store}: {said}; {advice}", key=key, store=store)
    found.errno = number
    return found
