"""The folder of a bucket behind a store, and the engine's client for it."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import attrs

from emdstore import system
from emdstore.errors import (
    ArtifactNotFoundError,
    InvalidKeyError,
    StoreError,
    StoreUnavailableError,
    StoreURLError,
    redact,
)
from emdstore.keys import MAX_KEY_BYTES, validate_key
from emdstore.per_process import PerProcess
from emdstore.stores.checksums import Check, sha256_of, written_ns_of
from emdstore.stores.content_types import content_type
from emdstore.stores.objects.engine import extension
from emdstore.stores.objects.errors import (
    ErrorTranslator,
    first_line,
    is_of_engine,
    is_panic,
    is_refused_without_reason,
)
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.waiting import heard

# Opening a client takes some 10 ms, and each of its connections a handshake, which a worker should not spend on every
# store that it receives. The keys are the settings, and what the environment may add to them.
_clients: PerProcess[dict[object, Any]] = PerProcess(dict)


_CONFIGURING = ("AWS_", "AZURE_", "GOOGLE_")
_SENT_AT_ONCE = 512 * 1024  # that goes up in the time of an answer, over whatever line


class _Heard:
    """The engine's functions, made interruptible by Ctrl-C."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(extension(), name)
        made = functools.partial(heard, found) if callable(found) else found
        setattr(self, name, made)  # so that this is not asked again for each artifact
        return made


_heard: PerProcess[_Heard] = PerProcess(_Heard)


@attrs.frozen
class Opening:
    """What opens the engine's client.

    Attributes
    ----------
    arguments
        Of obstore's class.
    provider
        Returns credentials that expire, whenever it is called; None if the engine finds its own.
    profile
        Whose credentials the provider returns.
    """

    arguments: dict[str, Any]
    provider: Callable[[], dict[str, Any]] | None = None
    profile: str | None = None


class BucketClients:
    """The engine's clients for one bucket. They connect on first use, and all folders of a store share them.

    Parameters
    ----------
    kind
        obstore's class.
    opening
        Returns what opens a client for requests, or (True) for large uploads. It is called when the store is used,
        because credentials may come from the environment.
    errors
        The translator of errors.

    Attributes
    ----------
    bucket_seen
        Whether any answer has proved that the bucket exists.
    knows_conditions
        Whether the server may support conditional puts; False once it has said that it does not.
    shows_copies
        Whether a listing may show what was just copied; False once it has not.
    idle
        Connections without the engine that wait for their next request, and since when.
    """

    def __init__(self, kind: str, opening: Callable[[bool], Opening], errors: ErrorTranslator) -> None:
        self._kind, self._opening, self._errors = kind, opening, errors
        self._asking: PerProcess[Any] = PerProcess(lambda: self._connect(False))
        self._sending: PerProcess[Any] = PerProcess(lambda: self._connect(True))
        self.bucket_seen = False
        self.knows_conditions = True
        self.shows_copies = True
        self.idle: PerProcess[list[tuple[Any, float]]] = PerProcess(list)

    def client(self, sending: int = 0) -> tuple[Any, Any]:
        """Return obstore's functions, and this process' client for requests that send so many bytes.

        The engine has one limit for a server's silence, and the time of an upload counts towards it. So there is a more
        patient client for large uploads.
        """
        return _heard.get(), (self._sending if sending > _SENT_AT_ONCE else self._asking).get()

    def _connect(self, sending: bool) -> Any:
        around = frozenset((name, value) for name, value in os.environ.items() if name.startswith(_CONFIGURING))
        kind = getattr(extension()._store, self._kind)  # before credentials are looked for: it may not be installed
        opening = self._opening(sending)
        key = self._kind, pickle.dumps(opening.arguments), around, opening.profile
        opened = _clients.get()
        try:
            if key not in opened:
                opened[key] = kind(**opening.arguments, credential_provider=opening.provider)
        except BaseException as error:
            if is_panic(error):
                raise self._errors.broken_down("open", "") from None
            if not isinstance(error, Exception) or not is_of_engine(error):
                raise
            name, reason = self._errors.name, redact(first_line(str(error)), self._errors.secrets)
            raise StoreURLError(f"{name} cannot be opened with these options: {reason}", store=name) from None
        return opened[key]


SHA256 = "sha256"
"""The name of the metadata in which an object's digest goes along, if it was known before the upload."""

WRITTEN = "mtime"
"""The name of the metadata that says when the bytes were first written, which is rclone's."""

MOST_PARTS = 10_000
_LARGEST = 5 * 1024**4
_LATEST = 253_402_300_800 * 10**9  # the year 10,000, which no date can spell
_DATE = re.compile(r"(.{19})(\.\d{1,9})?(\S*)").fullmatch
_MIB = 1024 * 1024


def time_in(attributes: Mapping[str, Any]) -> int | None:
    """Return the time among what was uploaded with an object, in nanoseconds: seconds are there, or a date."""
    said = str(attributes.get(WRITTEN) or "")
    with contextlib.suppress(ValueError, ArithmeticError):
        return int(Decimal(said) * 10**9)
    with contextlib.suppress(ValueError, OverflowError):
        if (date := _DATE(said)) is not None:
            whole = datetime.fromisoformat(date[1] + (date[3] or "Z")).timestamp()
            return int(whole) * 10**9 + int(Decimal(date[2] or 0) * 10**9)
    return None


def in_quotes(tag: str | None) -> str | None:
    """Return an ETag in quotes: some answers have it so, others of the same server without."""
    return f'"{tag}"' if tag and not tag.endswith('"') else tag


@attrs.frozen
class Page:
    """A page of a listing, with unchanged names.

    Attributes
    ----------
    objects
        The objects, as the engine describes them.
    folders
        If folders were asked for: their names, each with a slash at its end.
    """

    objects: list[Any]
    folders: list[str]


@attrs.frozen(repr=False, kw_only=True)
class Bucket:
    """A folder of a bucket, with everything that operations on it need.

    Attributes
    ----------
    name
        The bucket.
    prefix
        The folder; ``""`` for the whole bucket.
    connection
        To the server.
    errors
        The translator of errors.
    retries, part_size, part_uploads
        See `S3ArtifactStore`.
    attributes
        Attributes of every object that is written.
    tags
        Tags of every object that is written.
    tells_digests
        Whether objects carry their SHA-256.
    """

    name: str
    prefix: str
    connection: BucketClients
    errors: ErrorTranslator
    retries: int
    part_size: int
    part_uploads: int
    attributes: Mapping[str, str]
    tags: Mapping[str, str]
    tells_digests: bool
    base: str = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.prefix + "/" if self.prefix else "", takes_self=True)
    )

    patience: ClassVar[float] = 60.0
    """Seconds after which no request is tried again; an outage of about a minute does no harm."""

    resumes: ClassVar[bool] = False
    """Whether the server's order is that of the names' bytes, so that a listing can go on after a name."""

    def __repr__(self) -> str:
        return self.errors.name

    # -- what differs between services -------------------------------------------------------------------------------

    def iter_pages(self, folder: str, *, delimiter: str = "") -> Iterator[Page]:
        """Yield the contents of a folder of the bucket, page by page, in the server's order.

        Parameters
        ----------
        folder
            What to list; ``""`` for the whole bucket.
        delimiter
            ``"/"`` to list the folders in the folder, instead of their contents.
        """
        last: str | None = None
        for attempt in range(self.retries + 1):  # the engine does not ask again for a body that was cut off
            try:
                for page in self._pages(folder, delimiter, last if self.resumes else None):
                    yield page
                    last = page.objects[-1]["path"] if page.objects else last
                return
            except StoreUnavailableError:
                if attempt == self.retries:
                    raise
                system.current().sleep(min(0.1 * 2**attempt, 10.0))

    def _pages(self, folder: str, delimiter: str, after: str | None) -> Iterator[Page]:
        obs, client = self.client()
        with self.errors.translating("list", folder):
            if delimiter:
                found = obs.list_with_delimiter(client, folder or None)
                yield Page(found["objects"], [each.rstrip("/") + "/" for each in found["common_prefixes"]])
                return
            for objects in obs.list(client, folder or None, offset=after, chunk_size=1000):
                yield Page([each for each in objects if each["size"] or self._is_there(each["path"])], [])

    def _is_there(self, name: str) -> bool:
        """Tell an empty object from another tool's marker ``name/`` for a folder, whose slash the engine drops."""
        obs, client = self.client()
        try:
            return bool(obs.head(client, name))
        except FileNotFoundError:
            return False

    @property
    def tags_tell_content(self) -> bool:
        """Whether equal ETags mean equal bytes, also of two objects."""
        return False

    def checksum_of(self, entry: Any) -> str | None:
        """Return the checksum that the server's description of an object contains, as in `ArtifactInfo.checksum`."""
        return None

    def is_no_checksum(self, key: str, check: Check) -> bool:
        """Tell whether what looks like a checksum is none; asked only if it does not match."""
        return False

    # -- what does not -----------------------------------------------------------------------------------------------

    def client(self, sending: int = 0) -> tuple[Any, Any]:
        """See `BucketClients.client`."""
        return self.connection.client(sending)

    def object_name(self, key: str) -> str:
        """Check a key, and return the object's name."""
        name = self.base + validate_key(key)
        if len(name) * 4 > MAX_KEY_BYTES and len(name.encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"not a valid key: {key!r}: with the store's prefix it is longer than the {MAX_KEY_BYTES} bytes that "
                f"object stores allow; open {self!r} with a shorter prefix",
                key=key,
                store=repr(self),
            )
        return name

    def key_of(self, object_name: str) -> str:
        """Return the key, valid or not, of an object that lies in the folder."""
        return object_name[len(self.base) :]

    def describe(self, key: str, entry: Any) -> ArtifactInfo:
        """Return an artifact's info from what obstore or a listing says of the object."""
        tag, modified = in_quotes(entry["e_tag"]), entry["last_modified"].timestamp()
        return ArtifactInfo(key, entry["size"], modified, tag, self.checksum_of(entry))

    def spell_time(self, seconds: int, nanoseconds: int) -> str:
        """Return a time as rclone writes it into the metadata of this service."""
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"

    def sent_with(
        self,
        key: str,
        data: bytes | bytearray | None = None,
        written_ns: int | None = None,
        *,
        sha256: str | None = None,
        also: Mapping[str, str] = {},
    ) -> dict[str, Any]:
        """Return the arguments of the engine for attributes and tags that are uploaded with an artifact's bytes.

        Parameters
        ----------
        key, data
            The artifact, and its bytes if they are known before they are sent.
        written_ns
            When these were written where they come from, if that is known otherwise than by `written_ns_of`.
        sha256
            The digest of the bytes, if it is known otherwise than by `sha256_of`.
        also
            Other attributes.
        """
        kind = content_type(key)
        attributes = {**self.attributes, **({} if kind is None else {"Content-Type": kind}), **also}
        if data is not None and self.tells_digests:
            attributes[SHA256] = sha256 or sha256_of(data)
        if written_ns is None and data is not None:
            written_ns = written_ns_of(data)
        if written_ns is not None and 0 <= written_ns < _LATEST:
            attributes[WRITTEN] = self.spell_time(*divmod(written_ns, 10**9))
        return {"attributes": attributes, **({"tags": dict(self.tags)} if self.tags else {})}

    def written_ns(self, key: str) -> int | None:
        """Return when an artifact's bytes were first written, according to its metadata; None if these do not say."""
        name = self.object_name(key)
        obs, client = self.client()
        with self.errors.translating("look at", key):
            found = obs.get(client, name, options={"head": True})
        self.described(key, found.meta)
        return time_in(found.attributes)

    def part_size_for(self, key: str, size: int) -> int:
        """Return the size of the parts of an object of so many bytes.

        Raises
        ------
        StoreError
            If it is too large for any object.
        """
        if size > _LARGEST:
            raise StoreError(
                f"cannot write {key!r} in {self!r}: it has {size} bytes, and an object has 5 TiB at most; split it",
                key=key,
                store=repr(self),
            )
        least = -(-size // MOST_PARTS)
        return max(self.part_size, -(-least // _MIB) * _MIB)

    def described(self, key: str, entry: Any) -> ArtifactInfo:
        """Return an artifact's info from an answer about the object.

        Raises
        ------
        StoreUnavailableError
            If it lacks what every server says of an object, because a gateway has answered.
        """
        if entry["e_tag"] is None and not entry["last_modified"].timestamp():
            raise StoreUnavailableError(
                f"cannot look at {key!r} in {self!r}: the answer is not about an object; something other than "
                "the server has answered, a gateway perhaps; try again",
                key=key,
                store=repr(self),
            )
        return self.describe(key, entry)

    def look_at(self, key: str) -> ArtifactInfo:
        """Return the server's info of an artifact; `ArtifactNotFoundError` if nothing lies at the key."""
        name = self.object_name(key)
        obs, client = self.client()
        try:
            with self.errors.translating("look at", key):
                try:
                    return self.described(key, obs.head(client, name))
                except Exception as error:
                    if not is_of_engine(error):
                        raise
                    is_absent = isinstance(error, FileNotFoundError)
                    if self.connection.bucket_seen if is_absent else not is_refused_without_reason(error):
                        raise
                    # The answer to HEAD has no body: a missing bucket looks like a missing object, and a refusal has no
                    # reason. GET tells.
                    return self.described(key, obs.get(client, name).meta)
        except ArtifactNotFoundError:
            self.connection.bucket_seen = True
            raise
