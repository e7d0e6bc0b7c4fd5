"""The signature in the header of a request to S3 (AWS Signature Version 4), for requests without the engine.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

import attrs

from emdstore.stores.checksums import sha256_of


@attrs.frozen
class Credentials:
    """Who asks."""

    access_key_id: str
    secret_access_key: str = attrs.field(repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)


def signed_headers(
    method: str,
    url: str,
    region: str,
    who: Credentials,
    when: datetime,
    more: Mapping[str, str] = {},
    body: bytes = b"",
) -> dict[str, str]:
    """Return the headers that sign a request.

    Parameters
    ----------
    method, url
        The request. The URL's path and query are encoded, and the query's names are in order.
    region
        The bucket's.
    who
        Who asks.
    when
        The time, in UTC.
    more
        Other headers to sign and to return, in small letters.
    body
        What is sent.
    """
    content = sha256_of(body)
    parts = urlsplit(url)
    date = when.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": content, "x-amz-date": date, **more}
    if who.session_token:
        headers["x-amz-security-token"] = who.session_token
    names = ";".join(sorted(headers))
    lines = [f"{name}:{headers[name]}\n" for name in sorted(headers)]
    request = "\n".join([method, parts.path or "/", parts.query, "".join(lines), names, content])
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, sha256_of(request.encode())])
    key = f"AWS4{who.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={who.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers
