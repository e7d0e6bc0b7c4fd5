"""Artifacts as objects of an S3 bucket, by obstore.

obstore's engine does the requests, the signatures and the parts of large uploads, outside Python's lock. What this
module adds is what the port asks for beyond it: keys that are taken as they are, listings in one order on every server,
errors that say what to do and tell no secret, and life after a fork.

**Integrity.** Every body goes up with its SHA-256 twice: in the signature, which AWS checks, and in the header
``x-amz-checksum-sha256``, which servers check that let the other pass (SeaweedFS is one), and keep. So bytes that
changed on the way up are refused. For a server that does not know the header there is ``checksum=None``, and
``config={"unsigned_payload": True}`` leaves the other out; where both are out only TLS guards the way.

**Order.** AWS lists in the order of the keys' UTF-8 bytes. Other servers follow their folder tree (SeaweedFS has
``a/x`` before ``a-b``) or no order at all (directory buckets). Their listings are sorted here, some thousands of keys
at a time.
"""

from __future__ import annotations

import functools
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, Self

import attrs

from emdstore.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    InvalidKeyError,
    KeyConflictError,
    StoreURLError,
    redact,
    redact_url,
)
from emdstore.keys import MAX_KEY_BYTES, join_key, validate_key, validate_prefix
from emdstore.stores.port import ArtifactInfo, ArtifactStore
from emdstore.stores.s3.engine import extension
from emdstore.stores.s3.errors import ErrorTranslator, first_line, is_of_engine
from emdstore.stores.s3.listing import Listing
from emdstore.stores.s3.streams import ObjectReader, ObjectWriter, ServerCopies, describe
from emdstore.stores.spelling import check_endpoint

MIB = 1024 * 1024
_SMALLEST_PART = 5 * MIB
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z").match
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


# To open a client takes some 10 ms and its connections as many handshakes, which a worker should not spend on every
# store that it is sent.
_connected: dict[tuple[object, ...], Any] = {}


def _check_part_size(store: object, field: object, value: int) -> None:
    if value < _SMALLEST_PART:
        raise StoreURLError(f"part_size is {value} bytes; S3 takes no part below {_SMALLEST_PART}")


@attrs.frozen(repr=False, kw_only=True)
class S3ArtifactStore:
    """A bucket, or a folder of one, on AWS or on any server that speaks S3. Needs the extra ``s3``.

    Attributes
    ----------
    url
        ``s3://bucket`` or ``s3://bucket/prefix``, taken as it is: no percent-decoding, no options in it.
    endpoint_url
        The server, where it is not AWS; ``AWS_ENDPOINT_URL`` otherwise. Plain ``http://`` is taken as meant.
    region
        The bucket's region; ``AWS_REGION`` otherwise.
    access_key_id, secret_access_key, session_token
        Credentials. Left out, obstore looks for them: ``AWS_ACCESS_KEY_ID`` and so on, then a web identity token, the
        container's and the instance's role. A store pickles those that were given here, and only those.
    skip_signature
        For public buckets: ask for no credentials and sign nothing.
    timeout
        Seconds that the server may take to answer a request (the upload of its body, a part at most, counts), and then
        to send some more of the answer.
    retries
        How often the engine repeats a request that failed for a passing reason, within a minute and with a short
        backoff. It is small because `transfer` repeats whole artifacts: the two multiply.
    part_size
        Bytes of one part of a large object; what is smaller goes up in one request. An object has at most 10,000
        parts, so the default, which is the smallest that S3 takes, carries 52 GB.
    part_uploads
        How many parts of one object are on their way at once. A writer holds about ``part_size`` times one more than
        that in memory.
    checksum
        The digest that goes up as a header which the server checks and keeps; None for a server that does not know it.
    in_order
        Whether the server lists keys in the order of their UTF-8 bytes. None: AWS does (but for its directory
        buckets), others are not trusted to. True spares large listings on such a server a request per folder.
    config, client_options
        Anything else that obstore takes for S3 and for its HTTP client (proxies, certificates, encryption, ...).
    """

    url: str = attrs.field(kw_only=False)
    endpoint_url: str | None = None
    region: str | None = attrs.field(default=None, eq=False)
    access_key_id: str | None = attrs.field(default=None, eq=False)
    secret_access_key: str | None = attrs.field(default=None, eq=False)
    session_token: str | None = attrs.field(default=None, eq=False)
    skip_signature: bool = attrs.field(default=False, eq=False)
    timeout: float = attrs.field(default=120.0, eq=False)
    retries: int = attrs.field(default=2, eq=False)
    part_size: int = attrs.field(default=_SMALLEST_PART, eq=False, validator=_check_part_size)
    part_uploads: int = attrs.field(default=4, eq=False)
    checksum: Literal["SHA256"] | None = attrs.field(default="SHA256", eq=False)
    in_order: bool | None = attrs.field(default=None, eq=False)
    config: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    client_options: Mapping[str, Any] = attrs.field(factory=dict, eq=False)

    bucket: str = attrs.field(init=False, eq=False)
    prefix: str = attrs.field(init=False, eq=False)
    # The open client by process id, and whether the bucket was seen; shared with the stores of this store's folders.
    _clients: dict[int, tuple[Any, Any]] = attrs.field(init=False, eq=False, factory=dict)
    _buckets_seen: set[str] = attrs.field(init=False, eq=False, factory=set)
    _base: str = attrs.field(init=False, eq=False)
    _errors: ErrorTranslator = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        bucket, prefix = _parse(self.url)
        secrets = [s for s in (self.access_key_id, self.secret_access_key, self.session_token) if s]
        # A frozen value sets what it derives from its own fields like this.
        object.__setattr__(self, "url", join_key(f"s3://{bucket}", prefix))
        object.__setattr__(self, "bucket", bucket)
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(self, "_base", prefix + "/" if prefix else "")
        object.__setattr__(self, "_errors", ErrorTranslator(repr(self), bucket, secrets))

    def __repr__(self) -> str:
        endpoint = f", endpoint_url={redact_url(self.endpoint_url)!r}" if self.endpoint_url else ""
        return f"S3ArtifactStore({redact_url(self.url)!r}{endpoint})"

    def __reduce__(self) -> tuple[object, ...]:
        options = {f.name: getattr(self, f.name) for f in attrs.fields(type(self)) if f.init and f.name != "url"}
        return functools.partial(type(self), **options), (self.url,)

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            self.info(key)
        except ArtifactNotFoundError:
            return False
        return True

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        name = self._name(key)
        obs, client = self._client()
        with self._errors.trying("read", key):
            data: bytes = obs.get(client, name).bytes().to_bytes()
        return data

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        if len(data) > self.part_size:
            with self.open_writer(key) as writer:
                writer.write(data)
            return
        name = self._name(key)
        obs, client = self._client()
        with self._errors.trying("write", key):
            obs.put(client, name, data, use_multipart=False)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`.

        Objects whose names are no keys, such as the ``folder/`` markers of other tools, are left out and logged.
        """
        start = len(self._base)
        return (entry["path"][start:] for entry in self._entries(validate_prefix(prefix)))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        name = self._name(key)
        obs, client = self._client()
        try:
            with self._errors.trying("look at", key):
                try:
                    return describe(key, obs.head(client, name))
                except FileNotFoundError:
                    if self._buckets_seen:
                        raise
                    # The answer to HEAD has no body, so a missing bucket looks like a missing object. GET tells.
                    return describe(key, obs.get(client, name).meta)
        except ArtifactNotFoundError:
            self._buckets_seen.add(self.bucket)
            raise

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        start = len(self._base)
        return (describe(entry["path"][start:], entry) for entry in self._entries(validate_prefix(prefix)))

    def open_reader(self, key: str, /) -> ObjectReader:
        """See `SupportsStreaming.open_reader`: by one request if it is small, in parts if it is large."""
        name = self._name(key)
        obs, client = self._client()
        with self._errors.trying("read", key):
            return ObjectReader(self._errors, key, lambda options: obs.get(client, name, options=options))

    def open_writer(self, key: str, /) -> ObjectWriter:
        """See `SupportsStreaming.open_writer`: in parts, or in one request if it turns out small."""
        name = self._name(key)
        obs, client = self._client()
        with self._errors.trying("write", key):
            file = obs.open_writer(client, name, buffer_size=self.part_size, max_concurrency=self.part_uploads)
        return ObjectWriter(self._errors, key, file, self.part_size)

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`: by ``If-None-Match``, which the server must know."""
        name = self._name(key)
        obs, client = self._client()
        try:
            with self._errors.trying("create", key):
                obs.put(client, name, data, mode="create", use_multipart=False)
        except ArtifactExistsError:
            if self.exists(key):
                raise
            # SeaweedFS keeps folders, and takes the one above `a/b` for an object `a` that is there.
            raise KeyConflictError(
                f"{self!r} does not create {key!r}: the server has a folder of that name; write it instead, or choose "
                "another key",
                key=key,
                store=repr(self),
            ) from None

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`."""
        name = self._name(key)
        obs, client = self._client()
        try:
            with self._errors.trying("delete", key):
                obs.delete(client, name)
        except ArtifactNotFoundError:
            pass

    def scope(self, prefix: str, /) -> Self:
        """See `SupportsScope.scope`."""
        if not validate_prefix(prefix):
            return self
        inner = attrs.evolve(self, url=join_key(self.url, prefix))
        object.__setattr__(inner, "_clients", self._clients)
        object.__setattr__(inner, "_buckets_seen", self._buckets_seen)
        return inner

    def copy_from(self, source: ArtifactStore, /) -> ServerCopies | None:
        """See `SupportsCopyFrom.copy_from`: on the server, from the same bucket with the same credentials."""
        same = ("bucket", "endpoint_url", "access_key_id", "secret_access_key", "session_token", "skip_signature")
        if isinstance(source, S3ArtifactStore) and all(getattr(source, each) == getattr(self, each) for each in same):
            return ServerCopies(source, self, self._copy_object)
        return None

    # -- the engine ----------------------------------------------------------------------------------------------

    def _client(self) -> tuple[Any, Any]:
        """Return obstore's functions and this process' client, which connects when it is first used."""
        try:
            return self._clients[os.getpid()]
        except KeyError:
            return self._clients.setdefault(os.getpid(), self._connect())

    def _connect(self) -> tuple[Any, Any]:
        obs = extension()
        endpoint = self._endpoint()
        config = {
            # Plain DELETE works on every server, the form for many keys at once does not.
            "disable_bulk_delete": True,
            "endpoint": endpoint,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "session_token": self.session_token,
            "skip_signature": self.skip_signature or None,
            "checksum_algorithm": self.checksum,
        }
        options = {
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(10.0, self.timeout)),
            "read_timeout": timedelta(seconds=self.timeout),
            "timeout": timedelta(days=1),  # the engine's own limit is for the whole answer, however large
        }
        retry = {
            "max_retries": self.retries,
            "retry_timeout": timedelta(seconds=60),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        }
        settings = {
            "bucket": self.bucket,
            "config": {name: value for name, value in config.items() if value is not None} | dict(self.config),
            "client_options": options | dict(self.client_options),
            "retry_config": retry,
        }
        around = frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
        same = os.getpid(), pickle.dumps(settings), around
        try:
            if same not in _connected:
                _connected[same] = obs._store.S3Store(**settings)
        except Exception as error:
            if not is_of_engine(error):
                raise
            reason = redact(first_line(str(error)), self._errors.secrets)
            raise StoreURLError(f"{self!r} cannot be opened with these options: {reason}", store=repr(self)) from None
        return obs, _connected[same]

    def _endpoint(self) -> str | None:
        given = self.endpoint_url or next((os.environ[v] for v in _ENDPOINT_VARIABLES if os.environ.get(v)), None)
        return check_endpoint(given) if given else None

    def _name(self, key: str) -> str:
        """Return the object's name for a key, which is checked here."""
        name = self._base + validate_key(key)
        if len(name) * 4 > MAX_KEY_BYTES and len(name.encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"not a valid key: {key!r}: with the store's prefix it is longer than the {MAX_KEY_BYTES} bytes that "
                f"S3 allows; open {self!r} with a shorter prefix",
                key=key,
                store=repr(self),
            )
        return name

    def _copy_object(self, source: S3ArtifactStore, key: str) -> None:
        from_name, to_name = source._name(key), self._name(key)
        obs, client = self._client()
        with source._errors.trying("copy", key):
            obs.copy(client, from_name, to_name)

    # -- listing -------------------------------------------------------------------------------------------------

    def _entries(self, prefix: str) -> Iterator[Any]:
        trusted = self.in_order
        if trusted is None:
            trusted = self._endpoint() is None and not self.bucket.endswith("--x-s3")
        return iter(Listing(self, join_key(self.prefix, prefix), trusted))

    def _signed(self, query: str) -> str:
        """Return a URL that lists this bucket, with the signature in it, for the next five minutes."""
        obs, client = self._client()
        config = dict(client.config)
        endpoint = config.get("endpoint") or f"https://s3.{config.get('region', 'us-east-1')}.amazonaws.com"
        hosted = str(config.get("virtual_hosted_style_request", False)).lower() == "true"
        bucket = endpoint if hosted else f"{endpoint}/{self.bucket}"
        if self.skip_signature:
            return f"{bucket}?{query}"
        # obstore signs URLs of objects only. At an endpoint that ends in a query, the URL of an object without a name
        # is that of a listing; the slash before that name goes to a parameter that S3 ignores.
        config |= {"endpoint": f"{bucket}?{query}&x-id=ListObjectsV2", "virtual_hosted_style_request": True}
        signer = obs._store.S3Store(config=config, client_options=client.client_options)
        url: str = obs.sign(signer, "GET", "", timedelta(minutes=5))
        return url


def _parse(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not _BUCKET(bucket):
        raise StoreURLError(
            f"not an S3 URL: {redact_url(str(url))!r}; write s3://bucket or s3://bucket/prefix, without credentials"
        )
    try:
        # The slash that people put at the end of a folder's URL means no other place.
        return bucket, validate_prefix(prefix.removesuffix("/"))
    except InvalidKeyError as error:
        raise StoreURLError(f"not an S3 URL: {redact_url(url)!r}: {error}") from None
