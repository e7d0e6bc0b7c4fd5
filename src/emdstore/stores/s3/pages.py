"""Pages of a bucket's listing (ListObjectsV2), requested and read without the engine.

The engine takes any answer with status 200 for a listing: it treats an error, a gateway's login page or an empty body
as the end of the bucket. It also drops slashes from names, and fails on some. So listings are read here, and an answer
that is not a whole page is an error.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from emdstore.stores.objects.bucket import Page
from emdstore.stores.objects.listing import Entry
from emdstore.stores.s3.bucket import SignedBucket
from emdstore.stores.s3.http import ServerConnection, asked_patiently, lent_connection


def iter_pages(bucket: SignedBucket, folder: str, *, delimiter: str = "") -> Iterator[Page]:
    """Yield the contents of a folder of a bucket, page by page, in the server's order.

    Parameters
    ----------
    bucket, folder
        What to list; ``""`` for the whole bucket.
    delimiter
        ``"/"`` to list the folders in the folder, instead of their contents.

    Raises
    ------
    StoreUnavailableError
        If the server repeatedly does not answer, or not with a page of this listing.
    """
    prefix = folder and folder + "/"
    query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "delimiter": delimiter}
    with lent_connection(bucket) as connection:
        while True:
            page, token = _ask(bucket, connection, folder, prefix, query)
            yield page
            if token is None:
                return
            query["continuation-token"] = token


def page_between(bucket: SignedBucket, first: str, last: str, most: int) -> Page:
    """Return a page of names from one to another, perhaps with a few before them, after one request and no other.

    What it shows is there. What it does not show may be there, too: not every server goes by the order of the names.

    Raises
    ------
    StoreError
        If the server does not answer, or not with a page of this listing; it is not asked again.
    """
    prefix = os.path.commonprefix([first, last])  # noqa: RUF071 - of two texts: a prefix need not end with a folder
    query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "start-after": first[:-1]}
    query["max-keys"] = str(most)
    with lent_connection(bucket) as connection, bucket.errors.translating("list", prefix):
        return _read(connection.get(query).body, prefix, query)[0]


def _ask(
    bucket: SignedBucket, connection: ServerConnection, folder: str, prefix: str, query: dict[str, str]
) -> tuple[Page, str | None]:
    """Return the page, and the token of the next one."""

    def ask() -> tuple[Page, str | None]:
        with bucket.errors.translating("list", folder):
            return _read(connection.get(query).body, prefix, query)

    return asked_patiently(bucket, ask)


# -- reading a page ----------------------------------------------------------------------------------------------------


def _read(body: bytes, prefix: str, query: dict[str, str]) -> tuple[Page, str | None]:
    try:
        root = ElementTree.fromstring(body)
        if _local(root.tag) != "ListBucketResult":
            # This includes S3's own code, if an error came after the status.
            raise ValueError(f"<{_local(root.tag)}> {body[:1000].decode(errors='replace')}")
        return _page(root, prefix, query)
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise OSError(f"HTTP error: the answer is not a listing, or only a part of one: {error}") from None


def _page(root: ElementTree.Element, prefix: str, query: dict[str, str]) -> tuple[Page, str | None]:
    objects: list[Entry] = []
    folders: list[str] = []
    is_truncated = token = ""
    for child in root:
        kind = _local(child.tag)
        if kind == "Contents":
            objects.append(_object({_local(each.tag): each.text or "" for each in child}))
        elif kind == "CommonPrefixes":
            folders.extend(unquote_plus(each.text or "") for each in child)
        elif kind == "IsTruncated":
            is_truncated = (child.text or "").strip()
        elif kind == "NextContinuationToken":
            token = child.text or ""
    stray = next(
        (name for name in (*(each["path"] for each in objects), *folders) if not name.startswith(prefix)), None
    )
    if stray is not None:
        raise ValueError(f"{stray!r} does not lie in {prefix!r}")
    if is_truncated not in ("true", "false"):
        raise ValueError("it does not say whether it goes on")
    if is_truncated == "false":
        return Page(objects, folders), None
    if not token or token == query.get("continuation-token"):
        raise ValueError("it goes on, and does not say where")
    return Page(objects, folders), token


def _object(fields: dict[str, str]) -> Entry:
    return {
        "path": _unquoted(fields.get("Key") or _missing("Key")),
        "size": int(fields.get("Size") or _missing("Size")),
        "last_modified": datetime.fromisoformat(fields.get("LastModified") or _missing("LastModified")),
        "e_tag": fields.get("ETag"),
    }


def _unquoted(name: str) -> str:
    return unquote_plus(name) if "%" in name or "+" in name else name


def _missing(what: str) -> str:
    raise ValueError(f"an object has no {what}")


@functools.lru_cache(64)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
