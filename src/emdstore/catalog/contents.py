"""Comparing what two files show: pictures as people see them, tables by cells, text without what always differs."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Collection
from importlib.util import find_spec
from itertools import zip_longest
from typing import Literal, TypeAlias

import attrs

from emdstore.errors import MissingExtraError

Closeness = Literal["equal", "within", "changed", "unknown"]
Close: TypeAlias = "Callable[[float, float], bool]"

HASH_BITS = 256
"""How many bits the perceptual hash of a picture has."""

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp")
_TABLES = {".csv": ",", ".tsv": "\t"}
_TEXTS = (".txt", ".json", ".html", ".htm", ".xhtml", ".svg", ".xml", ".md", ".yml", ".yaml", ".log", ".tex", ".css")
_MOST_TOLD = 60

_DIFFERS_ALWAYS = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:\s?(?:Z|UTC|[+-]\d{2}:?\d{2}))?"  # 2025-01-31T12:00Z
    r"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?(?:\d{1,2} +)?"  # Fri Jan 31 12:00:00 UTC 2025, 31 January 2025
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
    r"(?: +\d{1,2})?(?:[, ]+\d{2}:\d{2}:\d{2})?(?: +[A-Z]{3,4})?,? +\d{4}"
    r"|\d{1,2}:\d{2}:\d{2}(?:\.\d+)?"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # a UUID
    r"|(?<![\w.:/<])/(?:[\w.@+~-]+/)+[\w.@+~-]*"  # an absolute path, which is of one machine
)


@attrs.frozen
class Seen:
    """How close two files are.

    Attributes
    ----------
    closeness
        ``equal`` in what they show; ``within`` the tolerance; ``changed``; ``unknown``: nobody here can read them.
    distance
        Of pictures the number of bits in which their hashes differ, of `HASH_BITS`; of tables how far apart numbers
        are, at most.
    detail
        What is different.
    """

    closeness: Closeness
    distance: float | None = None
    detail: str = ""


def compare_contents(key: str, a: bytes, b: bytes, *, close: Close, bits: int = 0, hosts: Collection[str] = ()) -> Seen:
    """Compare two files that are not equal byte by byte.

    Parameters
    ----------
    key
        What they are called; its ending tells what they are.
    a, b
        Their bytes.
    close
        Tells whether two numbers in a table are close enough.
    bits
        In how many bits the hashes of two pictures may differ; they are within the tolerance then.
    hosts
        Names of machines, which do not count in text.

    Raises
    ------
    MissingExtraError
        If they are pictures, and the extra ``compare`` is not installed.
    """
    suffix = key[key.rfind(".") :].lower() if "." in key else ""
    if suffix in _PICTURES:
        return _pictures(a, b, bits)
    try:
        if suffix in _TABLES:
            return _tables(a.decode(), b.decode(), _TABLES[suffix], close, hosts)
        if suffix in _TEXTS:
            return _texts(a.decode(), b.decode(), hosts)
    except (UnicodeDecodeError, csv.Error):
        pass  # it is not what its name says, so nothing is known of it but its digest
    return Seen("unknown")


def _pictures(a: bytes, b: bytes, bits: int) -> Seen:
    if find_spec("imagehash") is None:
        raise MissingExtraError.of("comparing pictures", "compare")
    import imagehash
    from PIL import Image, UnidentifiedImageError

    def opened(data: bytes) -> Image.Image:
        # On white, as pages show it: what is transparent has any colour.
        picture = Image.open(io.BytesIO(data)).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            one, other = opened(a), opened(b)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return Seen("unknown")
    if one.size == other.size and one.tobytes() == other.tobytes():
        return Seen("equal")
    apart = int(imagehash.phash(one, hash_size=16) - imagehash.phash(other, hash_size=16))
    detail = f"{apart} of {HASH_BITS} bits of the perceptual hash differ"
    return Seen("within" if apart <= bits else "changed", apart, detail)


def _tables(a: str, b: str, delimiter: str, close: Close, hosts: Collection[str]) -> Seen:
    one, other = (list(csv.reader(io.StringIO(text), delimiter=delimiter)) for text in (a, b))
    if (shape := [list(map(len, rows)) for rows in (one, other)])[0] != shape[1]:
        return Seen(
            "changed", detail=f"{len(one)} rows and {len(other)}" if len(one) != len(other) else "other columns"
        )
    farthest, moved, near, first = 0.0, 0, 0, ""
    for number, (cells, others) in enumerate(zip(one, other, strict=True), 1):
        for column, (x, y) in enumerate(zip(cells, others, strict=True)):
            if x == y:
                continue
            numbers = _number(x), _number(y)
            if None not in numbers:
                farthest = max(farthest, abs(numbers[0] - numbers[1]))  # type: ignore[operator]
                is_near = close(*numbers)  # type: ignore[arg-type]
            else:
                is_near = _plain(x, hosts) == _plain(y, hosts)
            near += is_near
            moved += not is_near
            if not is_near and not first:
                name = one[0][column] if one[0][column] else f"column {column + 1}"
                first = f"row {number}, {name}: {_short(x)} → {_short(y)}"
    if moved:
        cells_text = "cell differs" if moved == 1 else "cells differ"
        return Seen("changed", farthest or None, f"{moved} {cells_text}; {first}")
    return Seen("within" if near else "equal", farthest or None)


def _texts(a: str, b: str, hosts: Collection[str]) -> Seen:
    one, other = _plain(a, hosts).splitlines(), _plain(b, hosts).splitlines()
    if one == other:
        return Seen("equal")
    number, x, y = next((n, x, y) for n, (x, y) in enumerate(zip_longest(one, other), 1) if x != y)
    return Seen("changed", detail=f"line {number}: {_short(x or '')} → {_short(y or '')}")


def _plain(text: str, hosts: Collection[str]) -> str:
    """Return a text without dates, times, paths and names of machines."""
    for host in sorted(filter(None, hosts), key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "…", text)
    return _DIFFERS_ALWAYS.sub("…", text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + "…"
