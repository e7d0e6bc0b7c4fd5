"""Media types of artifacts, so that a browser can show what is in a bucket."""

from __future__ import annotations

import functools
import mimetypes

_MORE = {
    ".cdl": "text/plain",
    ".geojson": "application/geo+json",
    ".ipynb": "application/x-ipynb+json",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".nc": "application/x-netcdf",
    ".parquet": "application/vnd.apache.parquet",
    ".toml": "application/toml",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


@functools.cache
def _table() -> mimetypes.MimeTypes:
    table = mimetypes.MimeTypes()  # what Python knows, and not what this machine does: the same everywhere
    for ending, kind in _MORE.items():
        table.add_type(kind, ending)
    return table


def content_type(key: str) -> str | None:
    """Return the media type for a key's suffix; None if it is unknown or a compressed file's."""
    return _type_of(key.rpartition("/")[2])


@functools.lru_cache(1000)  # the files of one set are named like those of the next
def _type_of(name: str) -> str | None:
    kind, encoding = _table().guess_type("x/" + name, strict=False)
    return kind if encoding is None else None
