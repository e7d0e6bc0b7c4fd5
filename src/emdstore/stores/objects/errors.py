"""The meaning of obstore's errors.

obstore has few kinds of exceptions, and even fewer for streams and writers. But their texts always contain the server's
whole answer: the status, and the service's own code, which alone tells a missing bucket from a missing object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType

import attrs

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    LookRefusedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    redact,
)
from emdstore.stores.answers import Meaning, meaning_of_answer

_NOT_THE_SERVER = re.compile(
    "Unable to extract metadata from headers|Header missing from response|invalid (multipart|list|bulk delete) response"
).search
_METADATA = re.compile(r"/latest/api/token|security-credentials|169\.254\.169\.254|metadata\.google|/metadata/").search
_LOOKS = frozenset({"look at", "read", "list"})
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_NO_OBJECT = ("NoSuchKey", "NoSuchUpload", "BlobNotFound")
# An answer that says why, such as that a key of KMS refuses, says that something is there.
_UNEXPLAINED = [meaning_of_answer(403, code, "") for code in (None, "AccessDenied")]
_STATUS = re.compile(r"status code: (\d{3})").search
_CODE = re.compile(r"<Code>([\w.]+)</Code>").search
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>").search


@attrs.frozen
class ErrorTranslator:
    """Translates the engine's errors about one store.

    Attributes
    ----------
    name
        The store, as its `repr` has it.
    bucket
        Its bucket.
    secrets
        What no message may contain.
    credentials
        How to pass credentials, as the rest of a sentence.
    listing
        What one needs the right for to be told that there is no object.
    endpoint
        The options that say where the bucket is.
    """

    name: str
    bucket: str
    secrets: Sequence[str] = attrs.field(repr=False)
    credentials: str = "pass them, or set AWS_ACCESS_KEY_ID and so on"
    listing: str = "s3:ListBucket"
    endpoint: str = "endpoint_url and region"

    def translating(self, verb: str, key: str) -> Translating:
        """Return a context that translates the engine's errors."""
        return Translating(self, verb, key)

    def translated(self, error: Exception, verb: str, key: str) -> EmdstoreError:
        """Return the emdstore error for an error of the engine."""
        text = str(error)
        status, code, reason = _answer(text)
        engine_kind = type(error).__name__
        if engine_kind == "AlreadyExistsError":
            said = f"{key!r} is already there in {self.name}; it was left as it is"
            return ArtifactExistsError(said, key=key, store=self.name)
        if engine_kind == "PreconditionError":
            said = f"{key!r} in {self.name} is not what was seen there before; it was left as it is"
            return ArtifactChangedError(said, key=key, store=self.name)
        if code not in _NO_BUCKET and (isinstance(error, FileNotFoundError) or code in _NO_OBJECT):
            return ArtifactNotFoundError(f"no artifact {key!r} in {self.name}", key=key, store=self.name)
        found = self._meaning(text, status, code)
        if verb in _LOOKS and status == 403 and found in _UNEXPLAINED:
            advice = (
                f"check the credentials, and what they may do in this bucket: without {self.listing} this is the "
                "answer also where nothing is"
            )
            found = Meaning(LookRefusedError, advice)
        what = f"cannot {verb} {key!r} in {self.name}" if key else f"cannot {verb} {self.name}"
        told = redact(f"{what}: {reason}; {found.advice}", self.secrets)
        translated = found.kind(told, key=key or None, store=self.name)
        translated.errno = found.errno
        return translated

    def broken_down(self, verb: str, key: str) -> StoreError:
        """Return the emdstore error for a panic of the engine."""
        what = f"cannot {verb} {key!r} in {self.name}" if key else f"cannot {verb} {self.name}"
        return StoreError(f"{what}: the engine broke down; please report it", key=key or None, store=self.name)

    def _meaning(self, text: str, status: int | None, code: str | None) -> Meaning:
        if code in _NO_BUCKET:
            return Meaning(StoreError, f"there is no bucket {self.bucket!r}: check its name, {self.endpoint}")
        if _METADATA(text):
            return Meaning(StoreAccessError, f"no credentials were found: {self.credentials}")
        if (found := meaning_of_answer(status, code, text)) is not None:
            return found
        if status is None and _NOT_THE_SERVER(text):
            advice = "something other than the server has answered, perhaps a gateway; try again"
            return Meaning(StoreUnavailableError, advice)
        if status is None and "HTTP error" in text:
            return Meaning(StoreUnavailableError, "check endpoint_url and the network, or try again later")
        if "object with invalid path" in text:
            return Meaning(StoreError, "the listing cannot go past a name that no key can spell: rename that object")
        if "redirect" in text.lower():
            return Meaning(StoreError, "the bucket is probably in another region: set AWS_REGION, or pass region=")
        return Meaning(StoreError, "nothing was changed")


class Translating:
    """A block that translates the engine's errors."""

    __slots__ = ("_errors", "_key", "_verb")

    def __init__(self, errors: ErrorTranslator, verb: str, key: str) -> None:
        self._errors, self._verb, self._key = errors, verb, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            return
        if is_panic(error):
            raise self._errors.broken_down(self._verb, self._key) from None
        if isinstance(error, Exception) and is_of_engine(error):
            # `from None`: the engine's own text is pages long and may quote headers.
            raise self._errors.translated(error, self._verb, self._key) from None


def is_of_engine(error: Exception) -> bool:
    """Tell whether an error is obstore's."""
    # By name, since every copy of the engine (see `emdstore.stores.objects.engine`) has classes of its own.
    by_engine = isinstance(error, OSError | ValueError) or type(error).__module__.startswith("obstore")
    return by_engine and not isinstance(error, EmdstoreError)


def is_panic(error: BaseException | None) -> bool:
    """Tell whether the engine's own code, which is Rust, broke down; no ``except Exception`` catches that."""
    return type(error).__name__ == "PanicException"


def is_refused_without_reason(error: Exception) -> bool:
    """Tell whether the server refused without a reason, as in the answer to HEAD."""
    status, code, _ = _answer(str(error))
    return status in (301, 307, 400, 401, 403) and code is None


def has_no_such_range(error: Exception) -> bool:
    """Tell whether the server returned no part because the object is empty, or the server has no parts."""
    return _answer(str(error))[0] == 416 or "non-partial" in str(error)


def first_line(text: str) -> str:
    """Return the part of the engine's text that is meant for people."""
    return text.partition("\n")[0][:300]


def _answer(text: str) -> tuple[int | None, str | None, str]:
    """Find the server's answer: the status, S3's code, and a line for people."""
    status, code, message = _STATUS(text), _CODE(text), _MESSAGE(text)
    if status is None and code is None:
        return None, None, first_line(text)
    said = [f"HTTP {status[1]}" if status else "", code[1] if code else "", message[1] if message else ""]
    return int(status[1]) if status else None, code[1] if code else None, " ".join(filter(None, said))
