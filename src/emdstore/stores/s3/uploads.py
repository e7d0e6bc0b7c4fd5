"""Unfinished multipart uploads: killed writers leave them, no listing shows them, and they cost money."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from xml.etree import ElementTree

import attrs

from emdstore import system
from emdstore.errors import ArtifactNotFoundError
from emdstore.stores.s3.bucket import SignedBucket
from emdstore.stores.s3.http import ServerConnection


@attrs.frozen
class Upload:
    """An upload that was begun and neither completed nor aborted.

    Attributes
    ----------
    object_name
        The object that it is of.
    number
        The server's name for it.
    begun
        When it was begun; None if the server does not tell.
    """

    object_name: str
    number: str
    begun: datetime | None


def iter_uploads(bucket: SignedBucket) -> Iterator[Upload]:
    """Yield the unfinished uploads in a store's folder.

    Raises
    ------
    StoreError
        If the server does not tell.
    """
    # Without an encoding of names: some servers say that they encode them, and do not; no key needs it.
    query = {"uploads": "", "prefix": bucket.base, "key-marker": "", "upload-id-marker": ""}
    with ServerConnection(bucket) as connection:
        while True:
            with bucket.errors.translating("list the uploads of", ""):
                found, after = _read(connection.get(query).body)
            yield from (each for each in found if each.object_name.startswith(bucket.base))
            if after is None:
                return
            query["key-marker"], query["upload-id-marker"] = after


def _read(body: bytes) -> tuple[list[Upload], tuple[str, str] | None]:
    """Return the uploads of a page, and where the next page begins, if there is one."""
    try:
        root = ElementTree.fromstring(body)
        if _local(root.tag) != "ListMultipartUploadsResult":
            raise ValueError(f"<{_local(root.tag)}> {body[:1000].decode(errors='replace')}")
        said = {_local(child.tag): child.text or "" for child in root}
        found = [_upload(child) for child in root if _local(child.tag) == "Upload"]
        if said.get("IsTruncated", "").strip() != "true":
            return found, None
        after = said.get("NextKeyMarker", ""), said.get("NextUploadIdMarker", "")
        if not any(after):
            raise ValueError("it goes on, and does not say where")
        return found, after
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise OSError(f"HTTP error: the answer is no list of uploads: {error}") from None


def _upload(element: ElementTree.Element) -> Upload:
    said = {_local(each.tag): each.text or "" for each in element}
    begun = said.get("Initiated")
    return Upload(said["Key"], said["UploadId"], datetime.fromisoformat(begun) if begun else None)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _is_old(upload: Upload, now: datetime, seconds: float) -> bool:
    if upload.begun is None:  # then nothing proves that it is, and its writer may be alive
        return seconds <= 0
    return (now - upload.begun).total_seconds() >= seconds


def remove_uploads(bucket: SignedBucket, *, older_than: float, dry_run: bool) -> tuple[str, ...]:
    """Abort unfinished uploads, and return the keys that they were of; see `S3ArtifactStore.remove_uploads`."""
    now, removed = system.current().now(), []
    old = [each for each in iter_uploads(bucket) if _is_old(each, now, older_than)]
    with ServerConnection(bucket) as connection:
        for each in old:
            key = bucket.key_of(each.object_name)
            if not dry_run:
                try:
                    with bucket.errors.translating("abort the upload of", key):
                        connection.delete(each.object_name, {"uploadId": each.number})
                except ArtifactNotFoundError:
                    continue  # it was completed, or aborted, meanwhile
            removed.append(key)
    return tuple(removed)
