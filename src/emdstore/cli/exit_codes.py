"""How commands end: every exit code, what it means, and which one an error leads to."""

from __future__ import annotations

from collections.abc import Mapping

from emdstore.cli.options import WrongCallError
from emdstore.errors import (
    ArtifactNotFoundError,
    CatalogUnavailableError,
    CatalogVersionError,
    EmdstoreError,
    ExportError,
    IntegrityError,
    InvalidKeyError,
    MissingExtraError,
    QueryError,
    ReadOnlyCatalogError,
    SameStoreError,
    SelectionError,
    SnapshotError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    StoreURLError,
    VocabularyError,
    WorkspaceError,
)

OK, FAILED, WRONG_CALL, UNREACHABLE, UNMATCHED = 0, 1, 2, 3, 4
INTERRUPTED, HUNG_UP, TERMINATED, BROKEN_PIPE = 130, 129, 143, 141
SIGNALLED = 128
"""And the number of the signal, as shells have it."""

MEANINGS: Mapping[int, str] = {
    OK: "all was done, and all is well",
    FAILED: "done, but not all, or not all is well: the output says what",
    WRONG_CALL: "wrong call or configuration; nothing was changed",
    UNREACHABLE: "a store or a database could not be reached: try again",
    UNMATCHED: "nothing matched what was named or chosen",
    INTERRUPTED: "interrupted by Ctrl-C; the same command goes on from there",
    HUNG_UP: "ended by SIGHUP, as by Ctrl-C",
    TERMINATED: "ended by SIGTERM, as by Ctrl-C",
    BROKEN_PIPE: "the reader of the output stopped reading",
}

_WRONG_CALLS = (
    WrongCallError,
    CatalogVersionError,
    ExportError,
    InvalidKeyError,
    MissingExtraError,
    QueryError,
    ReadOnlyCatalogError,
    SameStoreError,
    SelectionError,
    SnapshotError,
    StoreAccessError,
    StoreURLError,
    VocabularyError,
    WorkspaceError,
)


def exit_code(error: EmdstoreError) -> int:
    """Tell a wrong call or configuration from something that failed, is not there, or cannot be reached."""
    if isinstance(error, LookupError | ArtifactNotFoundError):  # of a set, an execution, a release, a snapshot, a key
        return UNMATCHED
    if isinstance(error, _WRONG_CALLS):
        return WRONG_CALL
    if isinstance(error, StoreUnavailableError | CatalogUnavailableError):
        return UNREACHABLE
    # A store that could not be used at all, for a reason that is neither passing nor the system's (a full disk), was
    # given wrongly: a bucket that does not exist, say.
    for_good = isinstance(error, StoreError) and not isinstance(error, IntegrityError) and error.errno is None
    return WRONG_CALL if for_good else FAILED


def table() -> str:
    """Return all codes with their meanings, one a line."""
    return "\n".join(f"{code:>3}  {meaning}" for code, meaning in MEANINGS.items())
