"""The list of files that a publisher puts beside them (``emdstore manifest results > SHA256SUMS``).

A web server may have no index pages, or pages that link to a part of what is there. Where such a list lies, it is the
listing, and its digests prove what is read.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from emdstore.keys import why_invalid

NAMES = ("SHA256SUMS", "manifest-sha256.txt")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)\Z").match


def read_manifest(fs: Any, base: str) -> dict[str, str] | None:
    """Return the digest of each key in the list in a folder of a web server; None if there is no list."""
    for name in NAMES:
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            found = [_LINE(line) for line in bytes(fs.cat_file(base + name)).decode().splitlines() if line]
            if found and None not in found:
                lines = [line for line in found if line is not None]
                return {line[2].removeprefix("./"): line[1].lower() for line in lines if _is_key(line[2])}
    return None


def _is_key(name: str) -> bool:
    return why_invalid(name.removeprefix("./")) is None
