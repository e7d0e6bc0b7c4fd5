"""Every error that emdstore raises on purpose.

All derive from `EmdstoreError`, and each also from the builtin that a caller would expect to catch
(`FileNotFoundError`, `ValueError`, ...). Messages name the key and the store's safe URL, say what to do next, and never
contain a credential. Errors can be pickled, with everything they carry.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any


class EmdstoreError(Exception):
    """The base class of emdstore's errors.

    Attributes
    ----------
    key
        The key, file or fragment that the error is about, if any.
    store
        The safe URL of the store, if any.
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
    """There is no artifact at this key."""


class ArtifactExistsError(EmdstoreError, FileExistsError):
    """Put-if-absent found an artifact at this key and left it alone."""


class ArtifactChangedError(EmdstoreError, RuntimeError):
    """Compare-and-put found other bytes at this key than its writer had seen, or none. Nothing was changed."""


class KeyConflictError(EmdstoreError, FileExistsError):
    """The store cannot hold this key beside an existing one, as ``a`` beside ``a/b``. Nothing was written."""


class UnsafePathError(EmdstoreError, PermissionError):
    """A link points outside the store's root. Nothing outside the root was read or written."""


class StoreError(EmdstoreError, OSError):
    """The store failed permanently: it is read-only, full or wrongly configured. Old values are intact."""

    def __reduce__(self) -> tuple[Any, ...]:
        # `OSError` keeps the number outside of what is pickled.
        return type(self), self.args, self.__dict__ | {"errno": self.errno}


class StoreAccessError(StoreError, PermissionError):
    """The store refused: wrong credentials, or no permission for this key."""


class LookRefusedError(StoreAccessError):
    """The store does not tell whether something is there. S3 answers so to who may not list a bucket.

    It proves nothing: the artifact may be there, and may not be.
    """


class ArtifactRetainedError(StoreAccessError):
    """The store keeps the artifact by a rule or a hold (object lock): it is neither removed nor replaced."""


class IntegrityError(StoreError):
    """Bytes do not match the record or the store's own checksum. They were not used."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store could not be reached, or is busy. Trying again may help."""


class DamagedOnTheWayError(IntegrityError, StoreUnavailableError):
    """The bytes that arrived do not match the store's own checksum. They were discarded; trying again may help."""


class UnsupportedError(StoreError, NotImplementedError):
    """The server or file system lacks a feature that the store offers elsewhere. Nothing was changed."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """The folder to read from does not exist; it is not taken for an empty store. Nothing was read or written."""


class StoreURLError(EmdstoreError, ValueError):
    """A store's URL or options are not valid."""


class MissingExtraError(EmdstoreError, ImportError):
    """A feature needs one of emdstore's extras, which is not installed."""

    @classmethod
    def of(cls, feature: str, extra: str) -> MissingExtraError:
        """Return the error with the command that installs the extra."""
        return cls(f"{feature} needs the extra {extra!r}: pip install 'emdstore[{extra}]'")


class ExecutorError(EmdstoreError, RuntimeError):
    """An executor accepts no work, cannot do it, or lost its workers. Work that was not done changed nothing."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work that returns a report. What was done is complete; to continue, call it again.

    Attributes
    ----------
    report
        What was done until then.
    """

    _what = "the work"

    def __init__(self, report: Any) -> None:
        super().__init__(f"{self._what} was interrupted; run it again to continue")
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


# -- transfer --------------------------------------------------------------------------------------------------------


class SourceChangedError(EmdstoreError, RuntimeError):
    """The source changed while it was read. The destination keeps its old value."""


class TransferError(EmdstoreError, RuntimeError):
    """Some keys of a transfer did not arrive; the report says which and why."""


class UploadFailedError(TransferError):
    """Some artifacts of an execution could not be shipped; the others are in the results store.

    Attributes
    ----------
    report
        The `UploadReport`: what was shipped and what was not, by role. None if nothing is known.
    """

    def __init__(
        self, message: str = "", *, report: Any = None, key: str | None = None, store: str | None = None
    ) -> None:
        super().__init__(message, key=key, store=store)
        self.report = report


class SameStoreError(EmdstoreError, ValueError):
    """Source and destination are the same place, perhaps through a link. Nothing was copied."""


# -- the format ------------------------------------------------------------------------------------------------------


class BundleError(EmdstoreError, ValueError):
    """A bundle or series file does not follow the format; the message names the file and the position in it."""


class RecordError(EmdstoreError, ValueError):
    """An execution record cannot be read, or its set does not match it."""


class IncompleteSetError(RecordError):
    """Artifacts of a published set are missing or do not match its record; perhaps it is still being copied."""


class RecordVersionError(RecordError):
    """A newer emdstore wrote the record."""


class DemotionRefusedError(EmdstoreError, RuntimeError):
    """The new set is less complete than the one that is published. The published set was not changed."""


class OvertakenError(EmdstoreError, RuntimeError):
    """Another writer has written the set since this one looked at it. That version stays; nothing more was changed."""


class ReleaseError(EmdstoreError, ValueError):
    """A release cannot be made, read or relied on."""


class ReleasedSetError(DemotionRefusedError):
    """A set that a release names would be replaced by another one."""


class ReleaseNotFoundError(ReleaseError, LookupError):
    """There is no release of this name."""


class ReleaseChangedError(ReleaseError):
    """A set is not what it was when it was released."""


class SinkError(EmdstoreError, RuntimeError):
    """A sink cannot be used, or did not take events. The sets that the events are about are published all the same."""


class PruneRefusedError(EmdstoreError, RuntimeError):
    """More rows would be removed than a store plausibly loses. None was removed."""


class ShadowedSetError(EmdstoreError, RuntimeError):
    """A set without a record cannot replace rows that come from a record or belong to a workspace. They stay."""


class VocabularyError(EmdstoreError, ValueError):
    """A controlled vocabulary cannot be read."""


# -- catalog and lifecycle -------------------------------------------------------------------------------------------


class CatalogError(EmdstoreError, RuntimeError):
    """The catalog's database cannot be used. Its contents are unchanged."""


class CatalogUnavailableError(CatalogError, ConnectionError):
    """The database cannot be reached, or another transaction blocks it. Trying again may help."""

    # By the order of its bases it would be that of `RuntimeError`, which cannot make one. Dask unpickles errors by it.
    __new__ = ConnectionError.__new__  # type: ignore[assignment]


class CatalogVersionError(CatalogError):
    """The catalog's schema is not the one that this emdstore uses."""


class ReadOnlyCatalogError(CatalogError):
    """The catalog is a snapshot, which can be asked but never changed. Nothing was changed."""


class SnapshotError(CatalogError):
    """A snapshot of a catalog cannot be written, read or relied on."""


class SnapshotNotFoundError(SnapshotError, LookupError):
    """There is no snapshot of a catalog here, or part of it is gone."""


class ClaimLostError(CatalogError):
    """Another process has claimed the execution since. Nothing was changed."""


class ClaimHeldError(CatalogError):
    """Another process is committing this execution; the message says which, and until when its claim holds."""


class QueryError(EmdstoreError, ValueError):
    """A query of the catalog is not valid: an unknown status or dimension, or too much at once."""


class SelectionError(EmdstoreError, ValueError):
    """A selection makes no sense, or cannot be decided: an invalid pattern, a size that the store does not tell."""


class ExportError(EmdstoreError, ValueError):
    """Rows cannot be exported or arranged in the requested form. Nothing was written."""


class InvalidTransitionError(EmdstoreError, RuntimeError):
    """The execution's state does not allow this transition. Nothing was changed."""


class WorkspaceError(EmdstoreError, ValueError):
    """A workspace's configuration cannot be used."""


class ExecutionNotFoundError(EmdstoreError, LookupError):
    """There is no execution with this id or fragment."""


# -- secrets ---------------------------------------------------------------------------------------------------------

_SHOWN_PARAMETERS = frozenset(
    "application_name connect_timeout delimiter encoding-type list-type max-keys page partNumber prefix region "
    "response-content-type sslmode target_session_attrs uploads versionId x-id".lower().split()
)
"""Query parameters whose values may be shown. The values of all others are hidden, whatever their names."""

_NO_USER = frozenset({"file", "gcs", "gs", "local", "memory", "s3", "s3a", "sqlite"})
"""Schemes whose URLs name no user: an ``@`` in their paths is part of a key, unless a ``:`` comes before it."""

_HIDDEN = "***"
_SHORTEST_SECRET = 4
"""Shorter secrets are not searched for in other texts: they would match parts of words."""
_SHORTEST_PIECE = 6
_MARKS = re.compile(r"[/?#@:]")

# A URL in a text ends at white space, or at the quote or bracket that a sentence puts after it.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^\s\"'`<>]*)")
_PARAMETER = re.compile(r"(?P<name>[?&;#][^=&;?#\s\"'<>]{1,100})=(?P<value>[^&;#\s\"'<>]*)")
_PIECES = re.compile(r"([?&;#])")
_HEADER = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization|\b(?:set-)?cookie|\bx-[\w-]*(?:token|key|secret|auth|signature|credential)\w*)"
    r"(?P<mark>[\"']?\s*[:,]\s*)(?P<value>[^\r\n]+)",
    re.IGNORECASE,
)
_SCHEME_OF_HEADER = re.compile(
    r"\b(?P<name>Bearer|Basic|Digest|AWS4-HMAC-SHA256)(?P<mark>\s+)(?P<value>[\w+/=.:~-]{8,}.*)"
)
_ASSIGNED = re.compile(
    r"(?P<name>[\w-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|signature|\bsig\b|\bsas\b|api[_-]?key"
    r"|account[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key|connection[_-]?string)[\w-]*)"
    r"(?P<mark>[\"']?\s*(?:=>|[=:])\s*)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&)\]}\"']+)",
    re.IGNORECASE,
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without its secrets. Every URL, option, header and engine's message that is shown passes here.

    In URLs this hides user and password, and the value of every parameter that is not known to be harmless; in text,
    values that are assigned to a name such as ``password``, ``token`` or ``secret_access_key``, and secret headers.

    Parameters
    ----------
    text
        A URL or a message that may contain URLs.
    secrets
        Values known to be secret; each occurrence is replaced. `secrets_in` finds those of a URL.

    Returns
    -------
    str
        The text with ``***`` in place of the secrets. Redacting it again changes nothing.
    """
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    if "://" in text:
        text = _URL.sub(_safe_url, text)
    if "=" in text:
        text = _PARAMETER.sub(_safe_parameter, text)
    if "=" in text or ":" in text:
        text = _HEADER.sub(_hidden, text)
        text = _ASSIGNED.sub(_hidden_value, text)
    return _SCHEME_OF_HEADER.sub(_hidden, text)


@functools.lru_cache(64)  # each store and each error of it says where it is
def redact_url(url: str) -> str:
    """Return a URL without its secrets: like `redact`, for a text that is nothing but a URL, whatever it contains."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return redact(url)
    return redact(f"{scheme}://{_safe_rest(scheme, rest)}")


def secrets_in(url: str) -> tuple[str, ...]:
    """Return the secrets of a URL, both as written and percent-decoded.

    Of one with a mark in it that ends a part of a URL, such as an unquoted slash, also the pieces: other people's
    parsers break it there, and show one of them.
    """
    from urllib.parse import unquote

    scheme, mark, rest = url.partition("://")
    if not mark:
        return ()
    end = _end_of_user(scheme, rest)
    if any(mark in rest[:end] for mark in "?#"):
        end = 0
    user, _, password = rest[: max(0, end - 1)].partition(":")
    found = [password or user]
    _, query = _split(scheme, rest[end:])
    for piece in _PIECES.split(query):
        name, equals, value = piece.partition("=")
        if name.lower() not in _SHOWN_PARAMETERS:
            found.append(value if equals else piece)
    forms = [form for each in found for form in (each, unquote(each))]
    pieces = [piece for form in forms for piece in _MARKS.split(form) if len(piece) >= _SHORTEST_PIECE]
    return tuple(dict.fromkeys([form for form in forms if len(form) >= _SHORTEST_SECRET] + pieces))


def has_secrets(url: str) -> bool:
    """Tell whether a URL contains a password or another secret."""
    return redact_url(url) != url


def _end_of_user(scheme: str, rest: str) -> int:
    """Return where the user part of a URL ends, 0 if it has none. A password may contain any character."""
    host = rest.partition("/")[0]
    if scheme.rpartition("::")[2].lower() in _NO_USER and ":" not in host and "@" not in host:
        return 0
    return rest.rfind("@") + 1


def _split(scheme: str, rest: str) -> tuple[str, str]:
    """Split what follows the user part into the path, and the query or fragment with its leading mark."""
    marks = "?" if scheme.rpartition("::")[2].lower() in _NO_USER else "?#"
    at = min((found for mark in marks if (found := rest.find(mark)) >= 0), default=len(rest))
    return rest[:at], rest[at:]


def _safe_rest(scheme: str, rest: str) -> str:
    end = _end_of_user(scheme, rest)
    if any(mark in rest[:end] for mark in "?#"):
        return _HIDDEN  # a password with such a mark in it, or a parameter with an `@`: nobody can tell
    path, query = _split(scheme, rest[end:])
    safe = "".join(map(_safe_piece, _PIECES.split(query)))
    return f"{_HIDDEN}@{path}{safe}" if end else path + safe


def _safe_piece(piece: str) -> str:
    name, equals, _ = piece.partition("=")
    if name.lower() in _SHOWN_PARAMETERS or piece in ("", "?", "&", ";", "#", _HIDDEN):
        return piece
    return f"{_safe_name(name)}={_HIDDEN}" if equals else _HIDDEN


def _safe_name(name: str) -> str:
    """Return a parameter's name, hidden if it has a digit: it may be part of a secret that contains `&` or `;`."""
    return _HIDDEN if any(letter.isdigit() for letter in name) else name


def _safe_url(found: re.Match[str]) -> str:
    return f"{found['scheme']}://{_safe_rest(found['scheme'], found['rest'])}"


def _safe_parameter(found: re.Match[str]) -> str:
    if found["name"][1:].lower() in _SHOWN_PARAMETERS:
        return found[0]
    return f"{found['name'][0]}{_safe_name(found['name'][1:])}={_HIDDEN}"


def _hidden(found: re.Match[str]) -> str:
    return f"{found['name']}{found['mark']}{_HIDDEN}"


def _hidden_value(found: re.Match[str]) -> str:
    value = found["value"]
    if found["mark"] == ": " and value.isalpha() and value.islower():
        return found[0]  # a sentence goes on after its colon
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['name']}{found['mark']}{quote}{_HIDDEN}{quote}"
