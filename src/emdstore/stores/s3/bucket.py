"""A folder of a bucket on S3: signing requests without the engine, and what an ETag says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import attrs

from emdstore import system
from emdstore.errors import UnsupportedError
from emdstore.stores.checksums import md5_of_etag
from emdstore.stores.objects.bucket import Bucket
from emdstore.stores.s3.signing import Credentials, signed_headers

_FLAGS = frozenset({"uploads", "versioning", "object-lock"})
"""Parameters that mean something without a value."""

_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})


@attrs.frozen(repr=False, kw_only=True)
class SignedBucket(Bucket):
    """See `Bucket`.

    Attributes
    ----------
    timeout, connect_timeout
        See `S3ArtifactStore`.
    signs
        Whether requests are signed.
    trusts_any_certificate
        Whether every certificate of the server is accepted.
    ca_bundle
        Returns certificates in PEM that are trusted beside those of the system, or None.
    check_etag
        Whether an ETag that looks like an MD5 is one.
    """

    timeout: float
    connect_timeout: float
    signs: bool
    trusts_any_certificate: bool
    ca_bundle: Callable[[], str | None]
    check_etag: bool

    @property
    def tags_tell_content(self) -> bool:
        """See `Bucket.tags_tell_content`."""
        return self.check_etag

    def spell_time(self, seconds: int, nanoseconds: int) -> str:
        """See `Bucket.spell_time`."""
        return f"{seconds}.{nanoseconds:09}"

    def checksum_of(self, entry: Any) -> str | None:
        """See `Bucket.checksum_of`."""
        return md5_of_etag(entry["e_tag"]) if self.check_etag else None

    def signed(
        self, method: str, object_name: str, query: Mapping[str, str], more: Mapping[str, str] = {}, body: bytes = b""
    ) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of a signed request.

        Parameters
        ----------
        method
            What to ask.
        object_name
            The object; ``""`` for the bucket.
        query
            The parameters; those without a value are left out.
        more, body
            Other headers, in small letters, and what is sent.

        Raises
        ------
        UnsupportedError
            If there are other headers, or a body, and only the engine knows the credentials.
        """
        obs, client = self.client()
        config = dict(client.config)
        region = _setting(config, "region", "default_region") or "us-east-1"
        endpoint = _setting(config, "endpoint") or f"https://s3.{region}.amazonaws.com"
        is_hosted = (_setting(config, "virtual_hosted_style_request") or "").lower() == "true"
        place = "/".join(filter(None, [endpoint.rstrip("/"), "" if is_hosted else self.name, quoted(object_name, "/")]))
        asked = "&".join(f"{name}={quoted(query[name])}" for name in sorted(query) if query[name] or name in _FLAGS)
        url = f"{place}?{asked}"
        if not self.signs:
            return url, dict(more)
        pays = (_setting(config, "request_payer") or "").lower() in ("true", "requester")
        more = {**more, **({"x-amz-request-payer": "requester"} if pays else {})}
        if client.credential_provider is not None:
            told = client.credential_provider()
            who = Credentials(told["access_key_id"], told["secret_access_key"], told["token"])
            return url, signed_headers(method, url, region, who, system.current().now(), more, body)
        key, secret = _setting(config, "access_key_id"), _setting(config, "secret_access_key")
        if key and secret:
            who = Credentials(key, secret, _setting(config, "session_token", "token"))
            return url, signed_headers(method, url, region, who, system.current().now(), more, body)
        if more or method not in _WITHOUT_BODY:  # a signed URL covers neither
            raise UnsupportedError(f"requests of this kind cannot be signed for {self!r}", store=repr(self))
        # Only the engine knows the credentials of a role, and it signs only URLs of objects. With an endpoint that ends
        # in a query, the URL of an object without a name is that of what comes before it; the slash before the name
        # goes to a parameter that S3 ignores.
        config |= {"endpoint": f"{url}{asked and '&'}x-id=emdstore", "virtual_hosted_style_request": True}
        signer = obs._store.S3Store(config=config, client_options=client.client_options)
        return obs.sign(signer, method, "", timedelta(minutes=5)), {}


def _setting(config: Mapping[str, Any], *names: str) -> str | None:
    """Return a value from the engine's settings or, as the engine does, from the environment."""
    for name in names:
        found = config.get(name) or config.get(f"aws_{name}") or os.environ.get(f"AWS_{name.upper()}")
        if found:
            return str(found)
    return None


def quoted(text: str, safe: str = "") -> str:
    """Return a text as it stands in the URL of a signed request."""
    return quote(text, safe=safe + "~")
