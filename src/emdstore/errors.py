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


class ArtifactChangedError(EmdstoreError, RuntimeError):
    """Compare-and-put found other bytes at this key than its writer had seen, or none, and left them alone."""


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


class DamagedOnTheWayError(IntegrityError, StoreUnavailableError):
    """Other bytes arrived than the store's own checksum says. Nothing was kept of them; trying again may help."""


class UnsupportedError(StoreError, NotImplementedError):
    """The server or the file system cannot do what its store can do elsewhere. Nothing was changed."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no such folder to read from: what is not there is not an empty store. Nothing was read or written."""


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


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work that is told of in a report. What was done is whole; to go on, do it again.

    Attributes
    ----------
    report
        What was done until then.
    """

    _what = "the work"

    def __init__(self, report: Any) -> None:
        super().__init__(f"{self._what} was interrupted; run it again to go on")
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


# -- transfer --------------------------------------------------------------------------------------------------------


class SourceChangedError(EmdstoreError, RuntimeError):
    """The source changed while it was read. The destination keeps its old value."""


class TransferError(EmdstoreError, RuntimeError):
    """Some keys of a transfer did not arrive; the report says which and why."""


class UploadFailedError(TransferError):
    """Artifacts of an execution could not be shipped; those that could are in the results store, whole.

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


class OvertakenError(EmdstoreError, RuntimeError):
    """Somebody else has written a set since this writer looked at it. Theirs stays, and nothing more was changed."""


class PruneRefusedError(EmdstoreError, RuntimeError):
    """More rows would be removed than a store loses by the way. None was."""


class ShadowedSetError(EmdstoreError, RuntimeError):
    """A set without a record, where the catalog's rows are from one or belong to a workspace. They were left alone."""


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


class QueryError(EmdstoreError, ValueError):
    """A question to the catalog that makes no sense: an unknown status or dimension, or too much at once."""


class ExportError(EmdstoreError, ValueError):
    """Rows that cannot be exported, or laid out, in the way that was asked for. Nothing was written."""


class InvalidTransitionError(EmdstoreError, RuntimeError):
    """What was asked for cannot follow the state that the execution is in. Nothing was changed."""


class WorkspaceError(EmdstoreError, ValueError):
    """A workspace's configuration that cannot be used."""


class ExecutionNotFoundError(EmdstoreError, LookupError):
    """No execution of this id or fragment."""


# -- secrets ---------------------------------------------------------------------------------------------------------

_SHOWN_PARAMETERS = frozenset(
    "application_name connect_timeout delimiter encoding-type list-type max-keys page partNumber prefix region "
    "response-content-type sslmode target_session_attrs uploads versionId x-id".lower().split()
)
"""Parameters of a query whose values may be shown. Of all others the value is hidden, whatever they are called."""

_NO_USER = frozenset({"file", "gcs", "gs", "local", "memory", "s3", "s3a", "sqlite"})
"""Schemes whose URLs name no user: an ``@`` in a path of theirs is part of a key, unless a ``:`` comes before it."""

_HIDDEN = "***"
_SHORTEST_SECRET = 4
"""What is shorter is not looked for in other texts: it would be found in the middle of words."""

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
    """Return a text as it may be shown: every URL, option, header and engine's message goes through this one door.

    Of a URL the user and the password go, and the value of every parameter that is not known to be harmless; of a text
    what is set to a name such as ``password``, ``token`` or ``secret_access_key``, and the headers that carry them.

    Parameters
    ----------
    text
        A URL, or a message, perhaps an engine's own, with URLs in it.
    secrets
        Values known to be secret; each occurrence is replaced. `secrets_in` finds those of a URL.

    Returns
    -------
    str
        The text with ``***`` in place of the secrets. A text that went through once stays as it is.
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


def redact_url(url: str) -> str:
    """Return a URL as it may be shown: as `redact`, for a text that is nothing but a URL, whatever is in it."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return redact(url)
    return redact(f"{scheme}://{_safe_rest(scheme, rest)}")


def secrets_in(url: str) -> tuple[str, ...]:
    """Return what of a URL must not be shown, as it is written there and as it is meant."""
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
    forms = (form for each in found for form in (each, unquote(each)))
    return tuple(dict.fromkeys(form for form in forms if len(form) >= _SHORTEST_SECRET))


def has_secrets(url: str) -> bool:
    """Tell whether a URL holds a password, or something else that must not be shown."""
    return redact_url(url) != url


def _end_of_user(scheme: str, rest: str) -> int:
    """Return where the part of a URL ends that says who asks, 0 if there is none. A password may hold any character."""
    host = rest.partition("/")[0]
    if scheme.rpartition("::")[2].lower() in _NO_USER and ":" not in host and "@" not in host:
        return 0
    return rest.rfind("@") + 1


def _split(scheme: str, rest: str) -> tuple[str, str]:
    """Split what follows the host's user into the path, and the query or fragment with the mark that begins it."""
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
    """Return a parameter's name; with a digit in it, it may be the rest of a secret that holds `&` or `;`."""
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
