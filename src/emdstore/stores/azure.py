"""Artifacts as blobs of Azure Blob Storage, or files of Azure Data Lake Storage, by obstore.

**Integrity.** The engine does not pass on the checksums that Azure keeps. So a blob whose bytes are known before they
are sent carries their SHA-256 as metadata, and everything that is read is compared with it.

**Order.** Azure lists in its own order, so listings are sorted here, some thousands of keys at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from typing import ClassVar

import attrs

from emdstore.errors import InvalidKeyError, StoreURLError, redact_url
from emdstore.keys import validate_prefix
from emdstore.stores.objects.bucket import Bucket, BucketClients, Opening
from emdstore.stores.objects.errors import ErrorTranslator
from emdstore.stores.objects.store import ObjectArtifactStore
from emdstore.stores.secrecy import send_to_children
from emdstore.stores.spelling import endpoint_of

_CONTAINER = re.compile(r"(\$root|\$web|[a-z0-9](-?[a-z0-9]){2,62})\Z").match
_ACCOUNT = re.compile(r"([a-z0-9]{3,24})(\.(blob|dfs)\.core\.windows\.net)?\Z").match
_SCHEMES = ("az", "azure", "abfs", "abfss")
_ACCOUNT_VARIABLES = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_KEY_VARIABLES = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")


@attrs.frozen(repr=False, kw_only=True)
class AzureArtifactStore(ObjectArtifactStore):
    """A container of Azure Blob Storage, or a folder of one. Needs the extra ``azure``.

    Attributes
    ----------
    url
        ``az://container/prefix`` or ``abfs://container@account.dfs.core.windows.net/prefix``, used literally: without
        percent-decoding or options.
    account
        The storage account; by default the one in the URL, or ``AZURE_STORAGE_ACCOUNT_NAME``.
    account_key, sas_token
        Credentials. By default obstore looks for them: ``AZURE_STORAGE_ACCOUNT_KEY`` or ``AZURE_STORAGE_SAS_TOKEN``,
        ``AZURE_CLIENT_ID`` with a secret or a federated token, ``AZURE_USE_AZURE_CLI=true``, then the machine's managed
        identity.
    endpoint_url
        The server with the account in its path or host, if it is not Azure's; by default ``AZURE_STORAGE_ENDPOINT``.
    anonymous, ca_bundle, verify, timeout, connect_timeout, retries, part_size, part_uploads, in_order, storage_class,\
    tags, metadata, send_credentials, config, client_options, lacks
        See `ObjectArtifactStore`.
    """

    account: str | None = attrs.field(default=None)
    account_key: str | None = attrs.field(default=None, eq=False)
    sas_token: str | None = attrs.field(default=None, eq=False)

    secret: ClassVar = ("account_key", "sas_token")

    def _parse(self) -> tuple[str, str, str]:
        scheme, _, rest = self.url.partition("://") if isinstance(self.url, str) else ("", "", "")
        place, _, prefix = rest.partition("/")
        container, at, host = place.partition("@")
        found = _ACCOUNT(host)
        if scheme not in _SCHEMES or not _CONTAINER(container) or (at and found is None):
            raise StoreURLError(
                f"not the URL of a container: {redact_url(str(self.url))!r}; write az://container/prefix or "
                "abfs://container@account.dfs.core.windows.net/prefix"
            )
        if found is not None:
            object.__setattr__(self, "account", found[1])
        try:
            return "az", container, validate_prefix(prefix.removesuffix("/"))
        except InvalidKeyError as error:
            raise StoreURLError(f"not the URL of a container: {redact_url(self.url)!r}: {error}") from None

    def _stand(self, connection: BucketClients | None) -> Bucket:
        errors = ErrorTranslator(
            repr(self),
            self.bucket,
            self._secrets(),
            credentials="set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_USE_AZURE_CLI=true after "
            "`az login`",
            listing="the right to list blobs",
            endpoint="account",
        )
        return Bucket(**self._ground(connection, "AzureStore", errors), tells_digests=True)

    def _opening(self, sending: bool) -> Opening:
        self._refuse_if_left_behind()
        account = self._account()
        if account is None:
            raise StoreURLError(
                f"{self!r} lacks its storage account: pass account=, set AZURE_STORAGE_ACCOUNT_NAME, or write "
                f"abfs://{self.bucket}@account.dfs.core.windows.net",
                store=repr(self),
            )
        key = self.account_key or next((os.environ[v] for v in _KEY_VARIABLES if os.environ.get(v)), None)
        config = {
            "account_name": account,
            "account_key": None if self.sas_token else key,
            "sas_key": self.sas_token,
            "endpoint": self._endpoint(),
            "skip_signature": self.anonymous or None,
        }
        return Opening({"container_name": self.bucket, **self._arguments(sending, config)})

    def _endpoint(self) -> str | None:
        given = self.endpoint_url or os.environ.get("AZURE_STORAGE_ENDPOINT")
        return endpoint_of(given, self.bucket)[0] if given else None

    def _account(self) -> str | None:
        return self.account or next((os.environ[v] for v in _ACCOUNT_VARIABLES if os.environ.get(v)), None)

    def _holder(self) -> tuple[Hashable, ...]:
        return *super()._holder(), self._account()

    def _lists_in_order(self) -> bool:
        return False


send_to_children(AzureArtifactStore)
