"""Artifacts as objects of Google Cloud Storage, by obstore.

**Integrity.** Google's answers have checksums that the engine does not pass on. So an object whose bytes are known
before they are sent carries their SHA-256 as metadata, and everything that is read is compared with it.

**Listings.** The engine takes any answer with status 200 for a listing. So after each listing the server is asked for
an object that is not there, which a gateway's page does not answer as Google does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import ClassVar

import attrs

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError, StoreURLError, redact_url
from emdstore.keys import validate_prefix
from emdstore.stores.objects.bucket import Bucket, BucketClients, Opening, Page
from emdstore.stores.objects.errors import ErrorTranslator
from emdstore.stores.objects.store import ObjectArtifactStore
from emdstore.stores.secrecy import send_to_children
from emdstore.stores.spelling import endpoint_of

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z").match
_NOTHING = ".emdstore/nothing"


@attrs.frozen(repr=False, kw_only=True)
class GoogleArtifactStore(ObjectArtifactStore):
    """A bucket of Google Cloud Storage, or a folder of one. Needs the extra ``gcs``.

    Attributes
    ----------
    url
        ``gs://bucket`` or ``gs://bucket/prefix``, used literally: without percent-decoding or options.
    endpoint_url
        The server, if it is not Google's; by default ``GOOGLE_BASE_URL``.
    credentials
        The file of a service account or of ``gcloud auth application-default login``; by default
        ``GOOGLE_APPLICATION_CREDENTIALS``, then gcloud's own file, then the machine's service account.
    token
        An access token, which is not renewed.
    anonymous, ca_bundle, verify, timeout, connect_timeout, retries, part_size, part_uploads, in_order, storage_class,\
    metadata, send_credentials, config, client_options, lacks
        See `ObjectArtifactStore`.
    """

    credentials: str | os.PathLike[str] | None = attrs.field(default=None, eq=False)
    token: str | None = attrs.field(default=None, eq=False)

    secret: ClassVar = ("credentials", "token")

    def _parse(self) -> tuple[str, str, str]:
        scheme, _, rest = self.url.partition("://") if isinstance(self.url, str) else ("", "", "")
        bucket, _, prefix = rest.partition("/")
        if scheme not in ("gs", "gcs") or not _BUCKET(bucket):
            raise StoreURLError(f"not the URL of a bucket: {redact_url(str(self.url))!r}; write gs://bucket/prefix")
        if self.tags:
            raise StoreURLError(f"{redact_url(self.url)!r}: Google Cloud Storage has no tags; pass metadata=")
        try:
            return "gs", bucket, validate_prefix(prefix.removesuffix("/"))
        except InvalidKeyError as error:
            raise StoreURLError(f"not the URL of a bucket: {redact_url(self.url)!r}: {error}") from None

    def _stand(self, connection: BucketClients | None) -> Bucket:
        errors = ErrorTranslator(
            repr(self),
            self.bucket,
            self._secrets(),
            credentials="run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
            listing="storage.objects.list",
            endpoint="endpoint_url",
        )
        return GoogleFolder(**self._ground(connection, "GCSStore", errors), tells_digests=True)

    def _opening(self, sending: bool) -> Opening:
        self._refuse_if_left_behind()
        config = {
            "base_url": self._endpoint(),
            "application_credentials": None if self.credentials is None else os.fspath(self.credentials),
            "bearer_token": self.token,
            "skip_signature": self.anonymous or None,
        }
        return Opening({"bucket": self.bucket, **self._arguments(sending, config)})

    def _endpoint(self) -> str | None:
        given = self.endpoint_url or os.environ.get("GOOGLE_BASE_URL")
        return endpoint_of(given, self.bucket)[0] if given else None

    def _lists_in_order(self) -> bool:
        return True


@attrs.frozen(repr=False, kw_only=True)
class GoogleFolder(Bucket):
    """See `Bucket`."""

    resumes: ClassVar[bool] = True

    def iter_pages(self, folder: str, *, delimiter: str = "") -> Iterator[Page]:
        """See `Bucket.iter_pages`."""
        yield from super().iter_pages(folder, delimiter=delimiter)
        try:
            self.look_at(_NOTHING)
        except ArtifactNotFoundError:
            return


send_to_children(GoogleArtifactStore)
