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

import http.client
import os
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import attrs

from emdstore.errors import InvalidKeyError, StoreAccessError, StoreURLError, redact_url
from emdstore.keys import validate_prefix
from emdstore.per_process import PerProcess
from emdstore.stores.checksums import Check
from emdstore.stores.encryption import check_encryption
from emdstore.stores.objects.bucket import BucketClients, Opening, Page
from emdstore.stores.objects.copies import ServerCopies
from emdstore.stores.objects.errors import ErrorTranslator
from emdstore.stores.objects.store import MIB, ObjectArtifactStore
from emdstore.stores.port import ArtifactStore
from emdstore.stores.s3.bucket import SignedBucket
from emdstore.stores.s3.credentials import Found, from_environment
from emdstore.stores.s3.pages import iter_pages
from emdstore.stores.s3.proof import is_no_checksum
from emdstore.stores.s3.uploads import remove_uploads
from emdstore.stores.secrecy import left_behind, send_to_children
from emdstore.stores.spelling import endpoint_of

__all__ = ["MIB", "S3ArtifactStore"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z").match
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CHECKSUMS = {"SHA256": True, "on": True, "off": False, "when-required": False, None: False}
_REGION_SECONDS = 2.0

_regions: PerProcess[dict[tuple[str, str], str | None]] = PerProcess(dict)


def _check_checksum(store: object, field: object, value: object) -> None:
    if value not in _CHECKSUMS:
        raise StoreURLError(f"checksum is on, off or when-required, not {value!r}")


def _check_encryption(store: S3ArtifactStore, field: object, value: str | None) -> None:
    check_encryption(store.encryption, store.kms_key_id, value)


def _check_addressing(store: object, field: object, value: object) -> None:
    if value not in (None, "path", "virtual"):
        raise StoreURLError(f"addressing is path or virtual, not {value!r}")


@attrs.frozen(repr=False, kw_only=True)
class S3ArtifactStore(ObjectArtifactStore):
    """A bucket, or a folder of one, on AWS or on any server that speaks S3. Needs the extra ``s3``.

    Attributes
    ----------
    url
        ``s3://bucket`` or ``s3://bucket/prefix``, used literally: without percent-decoding or options.
    endpoint_url
        The server, if it is not AWS; by default ``AWS_ENDPOINT_URL``. Plain ``http://`` is accepted; without a scheme
        it is ``https://``. A bucket in its path or its host is not counted twice.
    region
        The bucket's region; by default ``AWS_REGION``, or what the server says when it is asked.
    addressing
        ``path`` has the bucket in the path of each request, ``virtual`` in the name of the host, as some servers
        demand. None: ``virtual`` if the endpoint's host begins with the bucket, otherwise ``path``.
    access_key_id, secret_access_key, session_token
        Credentials. By default they are looked for: ``AWS_ACCESS_KEY_ID`` and so on, the user's profile, a web identity
        token, the container's and the instance's role.
    profile
        The user's profile in ``~/.aws``, whatever the environment says; by default the one in ``AWS_PROFILE``. A
        profile that says how to get credentials (single sign-on, a program, a role) needs the extra ``aws``.
    requester_pays
        Whether these credentials pay for requests and traffic, as some buckets demand.
    encryption
        How the server encrypts what is written: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``; by default as the bucket
        says.
    kms_key_id
        The key for ``aws:kms``; by default the account's own.
    customer_key
        A key of 32 bytes, in base64, with which the server encrypts and decrypts (SSE-C); needed for reading, too.
    checksum
        Whether a digest goes along in a header that the server checks and keeps: ``on`` (or ``SHA256``), or ``off``
        (or ``when-required``) for a server that does not know it; by default on, unless
        ``AWS_REQUEST_CHECKSUM_CALCULATION`` says ``when_required``.
    check_etag
        Whether everything that is read is compared with the object's ETag, if that looks like an MD5 (or an MD5 of
        parts). False for a server whose ETags only look like one.
    anonymous, ca_bundle, verify, timeout, connect_timeout, retries, part_size, part_uploads, in_order, storage_class,\
    tags, metadata, send_credentials, config, client_options, lacks
        See `ObjectArtifactStore`. AWS lists in order (except in directory buckets), other servers are not trusted to.
    """

    region: str | None = attrs.field(default=None, eq=False)
    addressing: Literal["path", "virtual"] | None = attrs.field(default=None, eq=False, validator=_check_addressing)
    access_key_id: str | None = attrs.field(default=None, eq=False)
    secret_access_key: str | None = attrs.field(default=None, eq=False)
    session_token: str | None = attrs.field(default=None, eq=False)
    profile: str | None = attrs.field(default=None, eq=False)
    requester_pays: bool = attrs.field(default=False, eq=False)
    encryption: str | None = attrs.field(default=None, eq=False)
    kms_key_id: str | None = attrs.field(default=None, eq=False)
    customer_key: str | None = attrs.field(default=None, eq=False, validator=_check_encryption)
    checksum: Literal["SHA256", "on", "off", "when-required"] | None = attrs.field(
        default=attrs.Factory(
            lambda: "off" if os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "").lower() == "when_required" else "on"
        ),
        eq=False,
        validator=_check_checksum,
    )
    check_etag: bool = attrs.field(default=True, eq=False)

    secret: ClassVar = ("access_key_id", "secret_access_key", "session_token", "profile", "customer_key")

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
        return remove_uploads(self._signed_ground(), older_than=older_than, dry_run=dry_run)

    def copy_from(self, source: ArtifactStore, /) -> ServerCopies | None:
        """See `SupportsCopyFrom.copy_from`: on the server, from any of its buckets, with the same credentials."""
        if not isinstance(source, S3ArtifactStore) or not self._has_rights_of(source):
            return None
        is_inside, stores = source._holder() == self._holder(), (source, self)
        # A copy has everything that the object has, and what is to be other than that is uploaded.
        if (
            source._endpoint() != self._endpoint()
            or any(each.bucket.endswith("--x-s3") or each.encryption or each.config for each in stores)
            or (self.customer_key or self.storage_class or self.tags or self.metadata)
        ):
            return ServerCopies(source.ground, self.ground) if is_inside else None
        from emdstore.stores.s3.copies import CopiesBetweenBuckets, SignedCopies  # seldom needed

        here, there = (each._signed_ground() for each in stores)
        return SignedCopies(here, there) if is_inside else CopiesBetweenBuckets(here, there)

    # -- inside --------------------------------------------------------------------------------------------------

    def _signed_ground(self) -> S3Folder:
        assert isinstance(self.ground, S3Folder)
        return self.ground

    def _parse(self) -> tuple[str, str, str]:
        return "s3", *_parse(self.url)

    def _stand(self, connection: BucketClients | None) -> S3Folder:
        errors = ErrorTranslator(repr(self), self.bucket, self._secrets())
        is_plain = self.encryption in (None, "AES256") and self.customer_key is None
        return S3Folder(
            **self._ground(connection, "S3Store", errors),
            tells_digests=True,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
            signs=not self.anonymous,
            trusts_any_certificate=not self.verify or bool(self.client_options.get("allow_invalid_certificates")),
            ca_bundle=self._trusted,
            check_etag=self.check_etag and is_plain and not self.bucket.endswith("--x-s3"),
        )

    def _opening(self, sending: bool) -> Opening:
        endpoint, is_virtual = self._address()
        customer = {"server_side_encryption": "sse-c"} if self.customer_key else {}
        config: dict[str, Any] = {
            # Plain DELETE works on every server, the form for many keys at once does not.
            "disable_bulk_delete": True,
            "endpoint": endpoint,
            "virtual_hosted_style_request": is_virtual or None,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "session_token": self.session_token,
            "skip_signature": self.anonymous or None,
            "checksum_algorithm": "SHA256" if _CHECKSUMS[self.checksum] else None,
            "request_payer": self.requester_pays or None,
            "server_side_encryption": self.encryption,
            "sse_kms_key_id": self.kms_key_id,
            "sse_customer_key_base64": self.customer_key,
            **customer,
        }
        arguments = {"bucket": self.bucket, **self._arguments(sending, config)}
        found = self._found_around(arguments["config"])
        config = {**found.settings, **arguments["config"]}
        if not any(name in config or f"aws_{name}" in config for name in ("region", "default_region")) and not any(
            os.environ.get(each) for each in _REGION_VARIABLES
        ):
            config |= {"region": region} if (region := self._region(config.get("endpoint"), is_virtual)) else {}
        return Opening({**arguments, "config": config}, found.provider, self.profile)

    def _found_around(self, config: dict[str, Any]) -> Found:
        self._refuse_if_left_behind()
        try:
            return from_environment(config, repr(self), self.profile)
        except StoreAccessError:
            if self.lacks:
                raise StoreAccessError(left_behind(", ".join(self.lacks), repr(self)), store=repr(self)) from None
            raise

    def _given_endpoint(self) -> str | None:
        return self.endpoint_url or next((os.environ[v] for v in _ENDPOINT_VARIABLES if os.environ.get(v)), None)

    def _address(self) -> tuple[str | None, bool]:
        """Return what the engine takes for the endpoint, and whether the bucket is in its host."""
        given = self._given_endpoint()
        if not given:
            return None, self.addressing == "virtual"
        endpoint, is_virtual = endpoint_of(given, self.bucket)
        if self.addressing != "virtual" and not (is_virtual and self.addressing is None):
            return endpoint, False
        scheme, _, rest = endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{rest}", True

    def _endpoint(self) -> str | None:
        given = self._given_endpoint()
        return endpoint_of(given, self.bucket)[0] if given else None

    def _region(self, endpoint: str | None, is_virtual: bool) -> str | None:
        """Ask the server for the bucket's region, which it says to everyone; None if it does not."""
        url = endpoint or "https://s3.amazonaws.com"
        place = url, self.bucket
        known = _regions.get()
        if place not in known:
            parts = urlsplit(url)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(parts.netloc, timeout=min(self.connect_timeout, _REGION_SECONDS))
            try:
                connection.request("HEAD", f"{parts.path}/" if is_virtual else f"{parts.path}/{self.bucket}")
                known[place] = connection.getresponse().getheader("x-amz-bucket-region")
            except (OSError, http.client.HTTPException):
                return None
            finally:
                connection.close()
        return known[place]

    def _lists_in_order(self) -> bool:
        return self._endpoint() is None and not self.bucket.endswith("--x-s3")


@attrs.frozen(repr=False, kw_only=True)
class S3Folder(SignedBucket):
    """See `Bucket`."""

    def iter_pages(self, folder: str, *, delimiter: str = "") -> Iterator[Page]:
        """See `Bucket.iter_pages`."""
        if self.name.endswith("--x-s3"):  # only the engine can sign requests to a directory bucket
            return super().iter_pages(folder, delimiter=delimiter)
        return iter_pages(self, folder, delimiter=delimiter)

    def is_no_checksum(self, key: str, check: Check) -> bool:
        """See `Bucket.is_no_checksum`."""
        return is_no_checksum(self, key, check)


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
