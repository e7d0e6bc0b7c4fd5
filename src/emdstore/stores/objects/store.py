"""What the stores of all object stores have in common: the port, on a `Bucket`."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs

from emdstore.errors import ArtifactNotFoundError, StoreAccessError, StoreURLError, redact_url
from emdstore.keys import join_key, validate_prefix
from emdstore.stores.checksums import read_undamaged, written_ns_of
from emdstore.stores.left_out import only_artifacts
from emdstore.stores.objects.bucket import Bucket, BucketClients, Opening
from emdstore.stores.objects.changes import create, remove, replace
from emdstore.stores.objects.copies import ServerCopies
from emdstore.stores.objects.errors import ErrorTranslator
from emdstore.stores.objects.listing import BucketListing
from emdstore.stores.objects.proof import read_checked
from emdstore.stores.objects.streams import ObjectReader, ObjectWriter, put_whole
from emdstore.stores.place import MANY_REQUESTS, most_requests
from emdstore.stores.port import ArtifactInfo, ArtifactStore, LeftOut, Place
from emdstore.stores.secrecy import (
    FOUND_AGAIN,
    do_credentials_go_along,
    found_again,
    left_behind,
    put_away,
    secrets_among,
    send_to_children,
)

MIB = 1024 * 1024
_SMALLEST_PART = 5 * MIB
_SLOWEST = 50_000  # bytes a second that a slow line carries

_log = logging.getLogger(__name__)


def _check_part_size(store: object, field: object, value: int) -> None:
    if value < _SMALLEST_PART:
        raise StoreURLError(f"part_size is {value} bytes; S3 takes no part below {_SMALLEST_PART}")


def _check_metadata(store: object, field: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    wrong = [name for name, each in value.items() if not isinstance(each, str) or not name.isascii()]
    if wrong:
        raise StoreURLError(f"{field.name} are texts by name: {wrong[0]!r} is not")


@attrs.frozen(repr=False, kw_only=True)
class ObjectArtifactStore:
    """A bucket, or a folder of one, on a service that obstore speaks to; each service has a class of its own.

    Attributes
    ----------
    url
        The bucket and the folder, used literally: without percent-decoding or options.
    endpoint_url
        The server, if it is not the service's own. Plain ``http://`` is accepted.
    send_credentials
        Whether a pickle of the store, as executors send it to workers, contains the credentials given here. By default
        it does not. A copy in this process, in a fork of it or in a process pool has them anyway, and a copy elsewhere
        looks for its own.
    anonymous
        For public buckets: look for no credentials and sign nothing.
    ca_bundle
        A file with certificates in PEM to trust beside those of the system.
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
        parts, so those of an object above 52 GB whose size is known are larger.
    part_uploads
        How many parts of one object are uploaded at once. A writer holds one part more than that in memory.
    in_order
        Whether the server lists keys in the order of their UTF-8 bytes. None: as the service itself does. True saves
        one request per folder in large listings on another server that does.
    storage_class
        The class (or tier) that objects are written in, by the service's own name for it.
    tags
        Tags of every object that is written.
    metadata
        Metadata of every object that is written, by names without the service's prefix.
    config, client_options
        Other options of obstore for the service, and for its HTTP client (proxies and so on).
    lacks
        The options that were removed when this copy was pickled; not to be passed.
    """

    url: str = attrs.field(kw_only=False)
    endpoint_url: str | None = None
    send_credentials: bool = attrs.field(default=False, eq=False)
    anonymous: bool = attrs.field(default=False, eq=False)
    ca_bundle: str | os.PathLike[str] | None = attrs.field(default=None, eq=False)
    verify: bool = attrs.field(default=True, eq=False)
    timeout: float = attrs.field(default=20.0, eq=False)
    connect_timeout: float = attrs.field(default=5.0, eq=False)
    retries: int = attrs.field(default=10, eq=False)
    part_size: int = attrs.field(default=_SMALLEST_PART, eq=False, validator=_check_part_size)
    part_uploads: int = attrs.field(default=4, eq=False)
    in_order: bool | None = attrs.field(default=None, eq=False)
    storage_class: str | None = attrs.field(default=None, eq=False)
    tags: Mapping[str, str] = attrs.field(factory=dict, eq=False, validator=_check_metadata)
    metadata: Mapping[str, str] = attrs.field(factory=dict, eq=False, validator=_check_metadata)
    config: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    client_options: Mapping[str, Any] = attrs.field(factory=dict, eq=False)

    lacks: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    bucket: str = attrs.field(init=False, eq=False)
    prefix: str = attrs.field(init=False, eq=False)
    ground: Bucket = attrs.field(init=False, eq=False)

    secret: ClassVar[tuple[str, ...]]
    """The options that are credentials; stores whose credentials differ copy nothing on the server."""

    def __attrs_post_init__(self) -> None:
        scheme, bucket, prefix = self._parse()
        # This is how a frozen value sets what it derives from its fields.
        object.__setattr__(self, "url", join_key(f"{scheme}://{bucket}", prefix))
        object.__setattr__(self, "bucket", bucket)
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(self, "ground", self._stand(None))

    def __repr__(self) -> str:
        endpoint = f", endpoint_url={redact_url(self.endpoint_url)!r}" if self.endpoint_url else ""
        return f"{type(self).__name__}({redact_url(self.url)!r}{endpoint})"

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

    # -- what a service says of itself -------------------------------------------------------------------------------

    def _parse(self) -> tuple[str, str, str]:
        """Return the scheme, the bucket and the folder in the URL."""
        raise NotImplementedError

    def _stand(self, connection: BucketClients | None) -> Bucket:
        """Return the ground of the store, with a connection of its own if there is none yet."""
        raise NotImplementedError

    def _opening(self, sending: bool) -> Opening:
        """Return what opens a client for requests, or for large uploads."""
        raise NotImplementedError

    def _endpoint(self) -> str | None:
        """Return the address of the server if it is not the service's own."""
        raise NotImplementedError

    def _lists_in_order(self) -> bool:
        """Tell whether the server is known to list in the order of the keys' bytes."""
        raise NotImplementedError

    # -- what they share ---------------------------------------------------------------------------------------------

    def _ground(self, connection: BucketClients | None, kind: str, errors: ErrorTranslator) -> dict[str, Any]:
        """Return the arguments of `Bucket`."""
        attributes = {**({"Storage-Class": self.storage_class} if self.storage_class else {}), **self.metadata}
        return {
            "name": self.bucket,
            "prefix": self.prefix,
            "connection": connection or BucketClients(kind, self._opening, errors),
            "errors": errors,
            "retries": self.retries,
            "part_size": self.part_size,
            "part_uploads": self.part_uploads,
            "attributes": attributes,
            "tags": self.tags,
        }

    def _secrets(self) -> list[str]:
        found = (getattr(self, name) for name in self.secret)
        return [each for each in found if isinstance(each, str) and each]

    def _arguments(self, sending: bool, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of obstore's class: the service's settings, and what is the same for all of them."""
        endpoint = self._endpoint()
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
            return Path(path).expanduser().read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise StoreURLError(
                f"the certificates in {os.fspath(path)!r} (AWS_CA_BUNDLE, or ca_bundle=) cannot be read: "
                f"{error.strerror}",
                store=repr(self),
            ) from None

    def _refuse_if_left_behind(self) -> None:
        """Refuse to open a copy that lacks what cannot be found again."""
        if self.lacks and not FOUND_AGAIN.issuperset(self.lacks):
            raise StoreAccessError(left_behind(", ".join(self.lacks), repr(self)), store=repr(self))

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
        return read_undamaged(partial(read_checked, self.ground, key), self.retries)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        if len(data) <= self.part_size:
            return put_whole(self.ground, key, data)
        with self.open_writer(key) as writer:
            writer.expect(len(data), written_ns_of(data))
            return writer.write(data)

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
        """See `SupportsCreate.create_bytes`: by a condition that the server must know.

        If the answer to a request is lost, the next request may find the object that the first one created. So every
        created object carries a token of its call, and a call recognises its own object by it.
        """
        create(self.ground, key, data)

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """See `SupportsReplaceIf.replace_bytes`: by a condition that the server must know, with a token as above."""
        replace(self.ground, key, data, seen)

    def written_ns(self, key: str, /) -> int | None:
        """See `TellsWritten.written_ns`; it is the metadata ``mtime``, as rclone has it."""
        return self.ground.written_ns(key)

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`."""
        remove(self.ground, key)

    def place(self) -> Place:
        """See `SupportsPlace.place`."""
        requests = most_requests(MANY_REQUESTS)
        return Place(self._holder(), self.prefix, remote=True, shared=True, requests=requests, retries=self.retries)

    def scope(self, prefix: str, /) -> Self:
        """See `SupportsScope.scope`."""
        if not validate_prefix(prefix):
            return self
        inner = attrs.evolve(self, url=join_key(self.url, prefix))
        object.__setattr__(inner, "ground", inner._stand(self.ground.connection))
        return inner

    def copy_from(self, source: ArtifactStore, /) -> ServerCopies | None:
        """See `SupportsCopyFrom.copy_from`: on the server, from the same bucket with the same credentials."""
        if (
            isinstance(source, ObjectArtifactStore)
            and self._has_rights_of(source)
            and source._holder() == self._holder()
        ):
            return ServerCopies(source.ground, self.ground)
        return None

    def _has_rights_of(self, other: ObjectArtifactStore) -> bool:
        """Tell whether another store is of this kind, and opened with the same credentials."""
        same = ("anonymous", *self.secret)
        return type(other) is type(self) and all(getattr(other, each) == getattr(self, each) for each in same)

    def _holder(self) -> tuple[Hashable, ...]:
        return self.url.partition("://")[0], self._endpoint(), self.bucket

    def _found(self, prefix: str) -> Iterator[Any]:
        """Yield the entries of a listing, and what it leaves out."""
        validate_prefix(prefix)
        trusted = self._lists_in_order() if self.in_order is None else self.in_order
        return iter(BucketListing(self.ground, join_key(self.prefix, prefix), trusted))


def _open_again(
    kind: type[ObjectArtifactStore], url: str, options: dict[str, Any], left: tuple[str, tuple[str, ...]] | None
) -> ObjectArtifactStore:
    if left is not None:
        found = found_again(left[0])
        options |= {"lacks": left[1]} if found is None else found
    return kind(url, **options)
