"""Every error that emdstore raises on purpose.

One family, rooted in `EmdstoreError`; each member is also the builtin that a caller would expect to catch
(`FileNotFoundError`, `ValueError`, ...). Messages name the key and the store's safe URL and say what to do next; they
never hold a credential. Errors cross process boundaries: what they carry pickles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


class EmdstoreError(Exception):
    """The root of the family.

    Attributes
    ----------
    key
        The artifact's key, file or fragment that the error is about, where there is one.
    store
        The safe URL of the store that it happened in, where there is one.
    """

    def __init__(self, message: str = "", *, key: str | None = None, store: str | None = None) -> None:
        # Only the message goes to `args`, so that pickling (`cls(*args)` plus `__dict__`) works for every subclass.
        super().__init__(message)
        self.key = key
        self.store = store

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


# -- keys and stores -------------------------------------------------------------------------------------------------


class InvalidKeyError(EmdstoreError, ValueError):
    """A key or prefix that is not canonical. Nothing was read or written."""


class ArtifactNotFoundError(EmdstoreError, FileNotFoundError):
    """No artifact lies at this key."""


class ArtifactExistsError(EmdstoreError, FileExistsError):
    """Put-if-absent found an artifact at this key and left it alone."""


class KeyConflictError(EmdstoreError, FileExistsError):
    """`a` beside `a/b` in a store that cannot hold both. Nothing was written."""


class UnsafePathError(EmdstoreError, PermissionError):
    """A link leads out of the store's root. Nothing outside the root was read or written."""


class StoreError(EmdstoreError, OSError):
    """The store's engine failed for good: read-only, full, wrong configuration. Old values are intact."""

    def __reduce__(self) -> tuple[Any, ...]:
        # `OSError` keeps the number outside of what is pickled.
        return type(self), self.args, self.__dict__ | {"errno": self.errno}


class StoreAccessError(StoreError, PermissionError):
    """The store refused: wrong credentials, or no permission for this key."""


class IntegrityError(StoreError):
    """Bytes are not what the record or the store's own checksum says. What was to be made of them was not made."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store could not be reached, or answered that it is busy. Translating again may help."""


class StoreURLError(EmdstoreError, ValueError):
    """A store's URL or options make no sense."""


class MissingExtraError(EmdstoreError, ImportError):
    """A feature needs one of emdstore's extras, and it is not installed."""

    @classmethod
    def of(cls, feature: str, extra: str) -> MissingExtraError:
        """Name the feature and the command that installs what it needs."""
        return cls(f"{feature} needs the extra {extra!r}: pip install 'emdstore[{extra}]'")


class ExecutorError(EmdstoreError, RuntimeError):
    """An executor takes no work, cannot do it, or lost its workers. What was not done is as it was."""


# -- transfer --------------------------------------------------------------------------------------------------------


class SourceChangedError(EmdstoreError, RuntimeError):
    """The source changed while it was read. The destination keeps its old value."""


class TransferError(EmdstoreError, RuntimeError):
    """Some keys of a transfer did not arrive; the report says which and why."""


class SameStoreError(EmdstoreError, ValueError):
    """Source and destination are the same place, perhaps through a link. Nothing was moved."""


# -- the format ------------------------------------------------------------------------------------------------------


class BundleError(EmdstoreError, ValueError):
    """A bundle or series file that does not follow the format; the message names the file and the place in it."""


class RecordError(EmdstoreError, ValueError):
    """An execution record that cannot be read, or a set that does not match it."""


class IncompleteSetError(RecordError):
    """A published set of which something is missing, or not as its record says; perhaps it is still being copied."""


class RecordVersionError(RecordError):
    """A record that a newer emdstore wrote."""


class DemotionRefusedError(EmdstoreError, RuntimeError):
    """What was to be published is less than what is published there. The published set was left as it is."""


class VocabularyError(EmdstoreError, ValueError):
    """A controlled vocabulary that cannot be read."""


# -- catalog and lifecycle -------------------------------------------------------------------------------------------


class CatalogError(EmdstoreError, RuntimeError):
    """The catalog's database cannot be used. What it held before is unchanged."""


class CatalogUnavailableError(CatalogError, ConnectionError):
    """The database cannot be reached, or is held up by somebody else's transaction. Translating again may help."""


class CatalogVersionError(CatalogError):
    """The catalog's schema is not the one that this emdstore works with."""


class ClaimLostError(CatalogError):
    """Somebody else has claimed the execution since. Nothing was changed."""


class ClaimHeldError(CatalogError):
    """Somebody else is committing this execution; the message says who, and until when its claim holds."""


class ExportError(EmdstoreError, ValueError):
    """Rows that cannot be exported, or laid out, in the way that was asked for. Nothing was written."""


class InvalidTransitionError(EmdstoreError, RuntimeError):
    """What was asked for cannot follow the state that the execution is in. Nothing was changed."""


class WorkspaceError(EmdstoreError, ValueError):
    """A workspace's configuration that cannot be used."""


class ExecutionNotFoundError(EmdstoreError, LookupError):
    """No execution of this id or fragment."""


# -- secrets ---------------------------------------------------------------------------------------------------------

_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY_SECRETS = re.compile(
    r"([?&](?:[^=&\s]*(?:key|secret|token|password|signature|credential)[^=&\s]*)=)[^&\s'\"]+", re.IGNORECASE
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove credentials from a text that is about to be shown.

    Parameters
    ----------
    text
        A message, perhaps an engine's own.
    secrets
        Values known to be secret; each occurrence is replaced.

    Returns
    -------
    str
        The text with ``***`` in place of the secrets, of ``user:password@`` in URLs and of signed query parameters.
    """
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _QUERY_SECRETS.sub(r"\1***", _URL_CREDENTIALS.sub("***@", text))
