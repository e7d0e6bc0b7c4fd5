"""Telling a server's answers from those of something on the way to it, such as a network's login page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NotTheServerError(ConnectionError):
    """Something other than the server has answered, such as a network's gateway."""


_SAID_BY_S3 = {
    "ListObjectsV2": "IsTruncated",
    "ListObjects": "IsTruncated",
    "HeadObject": "ETag",
    "GetObject": "ETag",
    "PutObject": "ETag",
    "UploadPart": "ETag",
    "CreateMultipartUpload": "UploadId",
    "CompleteMultipartUpload": "ETag",
    "CopyObject": "CopyObjectResult",
}
"""What the answer to each request certainly contains if an S3 server has given it."""


def checking_session(profile: str | None) -> Any:
    """Return a botocore session that does not take a gateway's page for an answer; plain botocore does."""
    from aiobotocore.session import AioSession  # of s3fs

    session = AioSession(profile=profile)

    def check(model: Any, parsed: Mapping[str, Any], **_: Any) -> None:
        status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 300:
            return  # an error that botocore understands
        if (said := _SAID_BY_S3.get(model.name)) is not None and said not in parsed:
            raise NotTheServerError(f"the answer to {model.name} is not one of an S3 server")
        if model.name == "DeleteObject" and status != 204:
            raise NotTheServerError(f"the answer to {model.name} has the status {status}")

    session.register("after-call.s3", check)
    return session
