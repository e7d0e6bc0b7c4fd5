"""Artifacts as objects of an S3 bucket, by obstore.

obstore's engine does the requests, the signatures and the parts of large uploads, outside Python's lock. This module
adds the rest of the port: keys that are used unchanged, listings in one order on every server, errors that say what to
do and reveal no secret, and survival of forks.

**Integrity.** Every upload carries its SHA-256 twice: in the signature, which AWS checks, and in the header
``x-amz-checksum-sha256``, which servers keep, and which also those check that ignore the other (such as SeaweedFS). So
bytes that changed on the way are refused. ``checksum=None`` leaves out the header, for servers that do not know it, and
``config={"unsigned_payload": True}`` the other one; without both, only TLS protects uploads.

**Order.** AWS lists in the order of the keys' UTF-8 bytes. Other servers follow their folder tree (SeaweedFS lists
``a/x`` before ``a-b``), or no order at all (directory buckets). Their listings are sorted here, some thousands of keys
at a time.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    InvalidKeyError,
    StoreURLError,
    redact_url,
)
from emdstore.keys import join_key, validate_prefix
from emdstore.stores.checksums import read_undamaged
from emdstore.stores.left_out import only_artifacts
from emdstore.stores.place import most_requests
from emdstore.stores.port import ArtifactInfo, ArtifactStore, LeftOut, Place
from emdstore.stores.s3.bucket import Bucket, Connection
from emdstore.stores.s3.changes import create, remove, replace
from emdstore.stores.s3.copies import ServerCopies
from emdstore.stores.s3.errors import ErrorTranslator
from emdstore.stores.s3.listing import Listing
from emdstore.stores.s3.proof import read_object
from emdstore.stores.s3.streams import ObjectReader, ObjectWriter
from emdstore.stores.s3.uploads import remove_uploads
from emdstore.stores.secrecy import do_credentials_go_along, found_again, put_away, secrets_among, send_to_children
from emdstore.stores.spelling import check_endpoint

MIB = 1024 * 1024
_SMALLEST_PART = 5 * MIB
_SLOWEST = 50_000  # bytes a second that a slow line carries
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z").match
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_log = logging.getLogger(__name__)


def _check_part_size(store: object, field: object, value: int) -> None:
    if value < _SMALLEST_PART:
        raise StoreURLError(f"part_size is {value} bytes; S3 takes no part below {_SMALLEST_PART}")


@attrs.frozen(repr=False, kw_only=True)
class S3ArtifactStore:
    """A bucket, or a folder of one, on AWS or on any server that speaks S3. Needs the extra ``s3``.

    Attributes
    ----------
    url
        ``s3://bucket`` or ``s3://bucket/prefix``, used literally: without percent-decoding or options.
    endpoint_url
        The server, if it is not AWS; by default ``AWS_ENDPOINT_URL``. Plain ``http://`` is accepted.
    region
        The bucket's region; by default ``AWS_REGION``.
    access_key_id, secret_access_key, session_token
        Credentials. By default obstore looks for them: ``AWS_ACCESS_KEY_ID`` and so on, then a web identity token, then
        the container's and the instance's role.
    send_credentials
        Whether a pickle of the store, as executors send it to workers, contains the credentials given here. By default
        it does not. A copy in this process, in a fork of it or in a process pool has them anyway, and a copy elsewhere
        looks for its own.
    profile
        The user's profile in ``~/.aws``, whatever the environment says; by default the one in ``AWS_PROFILE``. A
        profile that says how to get credentials (single sign-on, a program, a role) needs the extra ``aws``.
    anonymous
        For public buckets: look for no credentials and sign nothing.
    requester_pays
        Whether these credentials pay for requests and traffic, as some buckets demand.
    ca_bundle
        A file with certificates in PEM to trust beside those of the system; by default that in ``AWS_CA_BUNDLE``.
    verify
        Whether to verify the server's certificate. If not, a warning is logged.
    timeout
        Seconds that the server may take to answer a request, and to send each further part of the answer. An upload has
        as many seconds more as it needs at 50 kB/s.
    connect_timeout
        Seconds that a connection may take.
    retries
        How often a request that fails transiently is tried again, for a minute at most, with growing pauses. 0 fails at
        once.
    part_size
        Bytes in one part of a large object; smaller objects are uploaded in one request. An object has at most 10,000
        parts, so the default, the smallest that S3 allows, is enough for 52 GB.
    part_uploads
        How many parts of one object are uploaded at once. A writer holds one part more than that in memory.
    checksum
        The digest in the header that the server checks and keeps; None for a server that does not know it.
    check_etag
        Whether everything that is read is compared with the object's ETag, if that looks like an MD5 (or an MD5 of
        parts). False for a server whose ETags only look like one.
    in_order
        Whether the server lists keys in the order of their UTF-8 bytes. None: AWS does (except in directory buckets),
        others are not trusted to. True saves one request per folder in large listings on such a server.
    config, client_options
        Other options of obstore for S3 and for its HTTP client (proxies, certificates, encryption, ...).
    lacks
        The options that were removed when this copy was pickled; not to be passed.
    """

    url: str = attrs.field(kw_only=False)
    endpoint_url: str | None = None
    region: str | None = attrs.field(default=None, eq=False)
    access_key_id: str | None = attrs.field(default=None, eq=False)
    secret_access_key: str | None = attrs.field(default=None, eq=False)
    session_token: str | None = attrs.field(default=None, eq=False)
    send_credentials: bool = attrs.field(default=False, eq=False)
    profile: str | None = attrs.field(default=None, eq=False)
    anonymous: bool = attrs.field(default=False, eq=False)
    requester_pays: bool = attrs.field(default=False, eq=False)
    ca_bundle: str | os.PathLike[str] | None = attrs.field(default=None, eq=False)
    verify: bool = attrs.field(default=True, eq=False)
    timeout: float = attrs.field(default=20.0, eq=False)
    connect_timeout: float = attrs.field(default=5.0, eq=False)
    retries: int = attrs.field(default=10, eq=False)
    part_size: int = attrs.field(default=_SMALLEST_PART, eq=False, validator=_check_part_size)
    part_uploads: int = attrs.field(default=4, eq=False)
    checksum: Literal["SHA256"] | None = attrs.field(default="SHA256", eq=False)
    check_etag: bool = attrs.field(default=True, eq=False)
    in_order: bool | None = attrs.field(default=None, eq=False)
    config: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    client_options: Mapping[str, Any] = attrs.field(factory=dict, eq=False)

    lacks: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    bucket: str = attrs.field(init=False, eq=False)
    prefix: str = attrs.field(init=False, eq=False)
    ground: Bucket = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        bucket, prefix = _parse(self.url)
        # This is how a frozen value sets what it derives from its fields.
        object.__setattr__(self, "url", join_key(f"s3://{bucket}", prefix))
        object.__setattr__(self, "bucket", bucket)
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(self, "ground", self._stand(None))

    def _stand(self, connection: Connection | None) -> Bucket:
        secrets = [s for s in (self.access_key_id, self.secret_access_key, self.session_token) if s]
        errors = ErrorTranslator(repr(self), self.bucket, secrets)
        return Bucket(
            name=self.bucket,
            prefix=self.prefix,
            connection=connection or Connection(self._settings, errors, self.lacks, self.profile),
            errors=errors,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
            retries=self.retries,
            signs=not self.anonymous,
            trusts_any_certificate=not self.verify or bool(self.client_options.get("allow_invalid_certificates")),
            ca_bundle=self._trusted,
            check_etag=self.check_etag and not self.bucket.endswith("--x-s3"),
            part_size=self.part_size,
            part_uploads=self.part_uploads,
        )

    def __repr__(self) -> str:
        endpoint = f", endpoint_url={redact_url(self.endpoint_url)!r}" if self.endpoint_url else ""
        return f"S3ArtifactStore({redact_url(self.url)!r}{endpoint})"

    def __init_subclass__(cls) -> None:
        send_to_children(cls)

    def __reduce__(self) -> tuple[object, ...]:
        options = {f.name: getattr(self, f.name) for f in attrs.fields(type(self)) if f.init and f.name != "url"}
        if self.lacks:  # a copy of a copy
            return _open_again, (type(self), self.url, options, None)
        secrets = {} if self.send_credentials or do_credentials_go_along() else secrets_among(options)
        told = {name: value for name, value in options.items() if name not in secrets}
        left = (put_away(secrets), tuple(sorted(secrets))) if secrets else None
        return _open_again, (type(self), self.url, told, left)

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            self.ground.look_at(key)
        except ArtifactNotFoundError:
            return False
        return True

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        return read_undamaged(lambda: self._read(key), self.retries)

    def _read(self, key: str) -> bytes:
        return read_object(self.ground, key)[0]

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        if len(data) > self.part_size:
            with self.open_writer(key) as writer:
                writer.write(data)
            return
        name = self.ground.object_name(key)
        obs, client = self.ground.client(len(data))
        with self.ground.errors.translating("write", key):
            obs.put(client, name, data, use_multipart=False, attributes=self.ground.attributes_of(key))

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`.

        Objects whose names are not keys are left out and logged; `iter_found` yields them. The empty ``folder/``
        markers of other tools are ignored.
        """
        return (self.ground.key_of(entry["path"]) for entry in only_artifacts(self._found(prefix), repr(self)))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        return self.ground.look_at(key)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        entries = only_artifacts(self._found(prefix), repr(self))
        return (self.ground.describe(self.ground.key_of(entry["path"]), entry) for entry in entries)

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        """See `SupportsLeftOut.iter_found`."""
        return (
            found if isinstance(found, LeftOut) else self.ground.describe(self.ground.key_of(found["path"]), found)
            for found in self._found(prefix)
        )

    def open_reader(self, key: str, /) -> ObjectReader:
        """See `SupportsStreaming.open_reader`: by one request if it is small, in parts if it is large."""
        return ObjectReader(self.ground, key)

    def open_writer(self, key: str, /) -> ObjectWriter:
        """See `SupportsStreaming.open_writer`: in parts, or in one request if it turns out small."""
        return ObjectWriter(self.ground, key)

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`: by ``If-None-Match``, which the server must know.

        If the answer to a request is lost, the next request may find the object that the first one created. So every
        created object carries a token of its call, and a call recognises its own object by it.
        """
        create(self.ground, key, data)

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """See `SupportsReplaceIf.replace_bytes`: by ``If-Match``, which the server must know, with a token as above."""
        replace(self.ground, key, data, seen)

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`."""
        remove(self.ground, key)

    def place(self) -> Place:
        """See `SupportsPlace.place`."""
        holder = "s3", self._endpoint(), self.bucket
        return Place(holder, self.prefix, remote=True, shared=True, requests=most_requests(), retries=self.retries)

    def scope(self, prefix: str, /) -> Self:
        """See `SupportsScope.scope`."""
        if not validate_prefix(prefix):
            return self
        inner = attrs.evolve(self, url=join_key(self.url, prefix))
        object.__setattr__(inner, "ground", inner._stand(self.ground.connection))
        return inner

    def copy_from(self, source: ArtifactStore, /) -> ServerCopies | None:
        """See `SupportsCopyFrom.copy_from`: on the server, from the same bucket with the same credentials."""
        same = ("bucket", "endpoint_url", "access_key_id", "secret_access_key", "session_token", "profile", "anonymous")
        if isinstance(source, S3ArtifactStore) and all(getattr(source, each) == getattr(self, each) for each in same):
            return ServerCopies(source.ground, self.ground)
        return None

    def remove_uploads(self, *, older_than: float = 86400.0, dry_run: bool = False) -> tuple[str, ...]:
        """Abort uploads in parts that were begun and never completed. No listing shows them, and they take room.

        Parameters
        ----------
        older_than
            Seconds since the upload was begun. A younger one may belong to a writer that is alive, for whom it fails.
        dry_run
            Only tell which there are.

        Returns
        -------
        tuple of str
            The keys that they were of, one for each upload.

        Raises
        ------
        StoreError
            If the server does not tell of uploads, or does not abort one.
        """
        return remove_uploads(self.ground, older_than=older_than, dry_run=dry_run)

    # -- inside --------------------------------------------------------------------------------------------------

    def _settings(self, sending: bool) -> dict[str, Any]:
        """Return the arguments of obstore's client for requests, or for large uploads."""
        endpoint = self._endpoint()
        config = {
            # Plain DELETE works on every server, the form for many keys at once does not.
            "disable_bulk_delete": True,
            "endpoint": endpoint,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "session_token": self.session_token,
            "skip_signature": self.anonymous or None,
            "checksum_algorithm": self.checksum,
            "request_payer": self.requester_pays or None,
        }
        options: dict[str, Any] = {
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(self.connect_timeout, self.timeout)),
            "read_timeout": timedelta(seconds=self.timeout + sending * self.part_size / _SLOWEST),
            "timeout": timedelta(days=1),  # the engine's own limit is for the whole answer, regardless of its size
        }
        if not self.verify:
            _log.warning("the certificate of %r is not verified: another server may answer in its place", self)
            options["allow_invalid_certificates"] = True
        if (trusted := self._trusted()) is not None:
            options["root_certificate"] = trusted
        retry = {
            "max_retries": self.retries,
            "retry_timeout": timedelta(seconds=Bucket.patience),
            # Each pause is random, up to `base` times the one before, so with 2 they would not grow.
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 4},
        }
        return {
            "bucket": self.bucket,
            "config": {name: value for name, value in config.items() if value is not None} | dict(self.config),
            "client_options": options | dict(self.client_options),
            "retry_config": retry,
        }

    def _trusted(self) -> str | None:
        """Return the certificates to trust beside those of the system."""
        path = self.ca_bundle or os.environ.get("AWS_CA_BUNDLE")
        if not path:
            return None
        try:
            return Path(path).read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise StoreURLError(
                f"the certificates in {os.fspath(path)!r} (AWS_CA_BUNDLE, or ca_bundle=) cannot be read: "
                f"{error.strerror}",
                store=repr(self),
            ) from None

    def _endpoint(self) -> str | None:
        given = self.endpoint_url or next((os.environ[v] for v in _ENDPOINT_VARIABLES if os.environ.get(v)), None)
        return check_endpoint(given) if given else None

    def _found(self, prefix: str) -> Iterator[Any]:
        """Yield the entries of a listing, and what it leaves out."""
        validate_prefix(prefix)
        trusted = self.in_order
        if trusted is None:
            trusted = self._endpoint() is None and not self.bucket.endswith("--x-s3")
        return iter(Listing(self.ground, join_key(self.prefix, prefix), trusted))


def _open_again(
    kind: type[S3ArtifactStore], url: str, options: dict[str, Any], left: tuple[str, tuple[str, ...]] | None
) -> S3ArtifactStore:
    if left is not None:
        found = found_again(left[0])
        options |= {"lacks": left[1]} if found is None else found
    return kind(url, **options)


def _parse(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not _BUCKET(bucket):
        raise StoreURLError(
            f"not an S3 URL: {redact_url(str(url))!r}; write s3://bucket or s3://bucket/prefix, without credentials"
        )
    try:
        # A slash at the end of a folder's URL does not change its meaning.
        return bucket, validate_prefix(prefix.removesuffix("/"))
    except InvalidKeyError as error:
        raise StoreURLError(f"not an S3 URL: {redact_url(url)!r}: {error}") from None


send_to_children(S3ArtifactStore)
