"""How people spell the place of a store, and which spellings are refused because they would mean another place."""

from __future__ import annotations

import functools
import os
import re
from urllib.parse import urlsplit

from emdstore.errors import StoreURLError, redact_url

_USUAL = (
    "abfs", "abfss", "adl", "az", "box", "dav", "davs", "file", "ftp", "gcs", "github", "gs", "hdfs", "http", "https",
    "local", "memory", "oci", "oss", "s3", "s3a", "sftp", "smb", "ssh", "webdav", "webdavs", "webhdfs", "zip",
)  # fmt: skip
"""Schemes in use, so that no library has to be asked for them."""

_CHAINED = ("blockcache", "cached", "dir", "filecache", "libarchive", "reference", "simplecache", "tar")
"""Schemes that come before another URL."""

_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/?(?![/:])")
_HERE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?(/|\Z)").match
_HOST = re.compile(r"[\w.:-]+\Z").match
_CHAIN = re.compile(r"::|://")


def spelled(place: str) -> str:
    """Return a store's place with its scheme in lower case.

    Raises
    ------
    StoreURLError
        For ``s3:/bucket`` and ``s3:bucket``: a folder of that name is hardly ever meant.
    """
    scheme, mark, rest = place.partition("://")
    if mark:
        return scheme.lower() + mark + rest if "::" not in scheme and scheme.isascii() else place
    found = _ONE_SLASH.match(place)
    if found is not None and found[1].lower() in _USUAL:
        kind, rest = found[1].lower(), place[found.end() :]
        url = f"{kind}:///{rest}" if kind in ("file", "local") else f"{kind}://{rest}"
        raise StoreURLError(
            f"{redact_url(place)!r} lacks a slash to be a URL: write {redact_url(url)}, as text and not as a Path (a "
            f"folder of that name is ./{redact_url(place)})"
        )
    return place


def is_chain(place: str) -> bool:
    """Tell a chain of file systems (``zip::/data/a.zip``) from a folder with colons in its name."""
    first, mark, _ = place.partition("::")
    return bool(mark) and first in (*_USUAL, *_CHAINED) and not os.path.lexists(place)


def unknown_scheme(place: str) -> StoreURLError:
    """Return the error for an unknown scheme, with the scheme that was probably meant."""
    from difflib import get_close_matches

    scheme = _CHAIN.split(place, maxsplit=1)[0]
    near = get_close_matches(scheme.lower(), _USUAL, n=1)
    meant = (
        f"did you mean {near[0]}://?" if near else "use a path, s3://bucket/prefix, memory://name, or what fsspec knows"
    )
    return StoreURLError(f"nothing serves the scheme {scheme!r} of {redact_url(place)!r}; {meant}")


@functools.lru_cache(64)  # each batch of copies asks again where its stores are
def check_endpoint(address: str) -> str:
    """Return the address of a server as it is to be used: with a scheme, and without a slash at its end.

    Without a scheme it is ``https://``, or ``http://`` on this machine, where nobody can listen.

    Raises
    ------
    StoreURLError
        If it is not an ``http://`` or ``https://`` address, or contains a password or a query.
    """
    address = address.strip()
    shown = redact_url(address) if "://" in address or "@" not in address else "***"
    what = f"the endpoint {shown!r} is not the address of a server"
    if "://" not in address:
        address = f"{'http' if _HERE(address) else 'https'}://{address}"
    try:
        parts = urlsplit(address)
        is_address = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_address = None, False
    if parts is None or not is_address or not _HOST(parts.hostname or ""):
        raise StoreURLError(f"{what}: write http://host:port or https://host")
    if parts.username is not None or parts.query or parts.fragment:
        raise StoreURLError(
            f"{what}: it holds more than scheme, host, port and path; credentials come from AWS_ACCESS_KEY_ID and so on"
        )
    return f"{parts.scheme.lower()}://{address.partition('://')[2].rstrip('/')}"


def endpoint_of(address: str, bucket: str) -> tuple[str, bool]:
    """Return the address of a server without a bucket that somebody has put into it, and whether that was its host."""
    address = check_endpoint(address)
    scheme, _, rest = address.partition("://")
    host, _, path = rest.partition("/")
    if path == bucket or path.endswith(f"/{bucket}"):
        address = f"{scheme}://{host}/{path.removesuffix(bucket)}".rstrip("/")
    if host.startswith(f"{bucket}."):
        return f"{scheme}://{rest.removeprefix(bucket + '.')}", True
    return address, False
