"""Maps and lines, drawn from their values: PNG and SVG, as text and bytes that are the same on every machine."""

from __future__ import annotations

import re
import struct
import zlib
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from itertools import pairwise

# -- maps ------------------------------------------------------------------------------------------------------------

_COLOURS = 11
_NOTHING, _COAST, _PAPER = _COLOURS, _COLOURS + 1, _COLOURS + 2
_GREYS = ((205, 205, 205), (40, 40, 40), (255, 255, 255))
_TWO_SIDED = ((23, 64, 121), (91, 155, 206), (245, 245, 242), (224, 130, 85), (125, 25, 30))
_ONE_SIDED = ((253, 246, 205), (150, 207, 160), (44, 133, 140), (33, 41, 95))

_GLYPHS = {  # three dots wide, five high, a digit for each row
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "-": "00700", ".": "00004", "e": "57471", "+": "02720",
}  # fmt: skip
_DOT = 2
_BAR = 34  # pixels below the map: the colours, and numbers


def draw_map(
    values: Sequence[float | None], land: Sequence[bool], columns: int, *, pixels: int, two_sided: bool
) -> bytes:
    """Draw a map with coasts, and below it what its colours stand for.

    Parameters
    ----------
    values
        One for each cell, row by row from the north; None where there is nothing.
    land
        Whether each cell is land.
    columns
        How many cells a row has.
    pixels
        The width and height of a cell.
    two_sided
        Whether the colours part at zero, as for differences.

    Returns
    -------
    bytes
        A PNG file.
    """
    levels = contours([value for value in values if value is not None], two_sided=two_sided)
    colours = bytes(_NOTHING if value is None else bisect(levels, value) for value in values)
    wide = [bytes([colour]) * pixels for colour in range(_PAPER)]
    lines: list[bytes] = []
    for row, (west, north) in enumerate(_coasts(tuple(land), columns)):
        line = bytearray(b"".join([wide[colour] for colour in colours[row * columns : (row + 1) * columns]]))
        for cell in west:
            line[cell * pixels] = _COAST
        first = bytearray(line)
        for cell in north:
            first[cell * pixels : (cell + 1) * pixels] = wide[_COAST]
        lines += [bytes(first), *[bytes(line)] * (pixels - 1)]
    lines += _colour_bar(levels, columns * pixels)
    return _png(lines, [*_shades(_TWO_SIDED if two_sided else _ONE_SIDED), *_GREYS])


@cache
def _coasts(land: Sequence[bool], columns: int) -> list[tuple[list[int], list[int]]]:
    """Return for each row the cells that have a coast in the west, and those that have one in the north."""
    rows = [land[start : start + columns] for start in range(0, len(land), columns)]
    return [
        (
            [cell for cell in range(1, columns) if row[cell] != row[cell - 1]],
            [cell for cell in range(columns) if row[cell] != above[cell]],
        )
        for above, row in zip((rows[0], *rows), rows, strict=False)
    ]


def contours(values: Sequence[float], *, two_sided: bool) -> tuple[float, ...]:
    """Return the round numbers at which the colours of a map change, one fewer than there are colours.

    Zero is not among those of a two-sided map: what is about zero has the colour in the middle.
    """
    if two_sided:
        step = _round_up(max(map(abs, values)) * 2 / (_COLOURS + 1))
        return tuple(step * number for number in range(-(_COLOURS // 2), _COLOURS // 2 + 1) if number)
    low = min(values)
    step = _round_up((max(values) - low) / (_COLOURS - 1))
    first = low // step + 1
    return tuple(step * (first + number) for number in range(_COLOURS - 1))


_ROUND = ("1", "2", "3", "4", "5", "6", "8", "10")


def _round_up(step: float) -> float:
    """Return the next larger round number: two digits, and any number of zeros."""
    exponent = f"{step:e}".partition("e")[2] if step else "0"
    return next(nice for digits in _ROUND if (nice := float(f"{digits}e{exponent}")) >= step)


def _shades(anchors: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, ...]]:
    for step in range(_COLOURS):
        at, rest = divmod(step * (len(anchors) - 1), _COLOURS - 1)
        after = anchors[min(at + 1, len(anchors) - 1)]
        yield tuple(one + (other - one) * rest // (_COLOURS - 1) for one, other in zip(anchors[at], after, strict=True))


def _colour_bar(levels: Sequence[float], width: int) -> list[bytes]:
    lines = [bytearray([_PAPER]) * width for _ in range(_BAR)]
    edges = [width * step // _COLOURS for step in range(_COLOURS + 1)]
    for line in lines[6:14]:
        for colour, (start, end) in enumerate(pairwise(edges)):
            line[start:end] = bytes([colour]) * (end - start)
    texts = [f"{level:.6g}" for level in levels]
    every = -(-max(map(_width_of, texts)) * _COLOURS // width)  # as many as there is room for
    for level, text, edge in zip(levels, texts, edges[1:], strict=False):
        left = edge - _width_of(text) // 2
        if round(level / (levels[1] - levels[0])) % every == 0 and left >= 0 and left + _width_of(text) <= width:
            _write(text, lines[18:], left)
    return [bytes(line) for line in lines]


def _width_of(text: str) -> int:
    return (4 * len(text) - 2 * text.count(".")) * _DOT


def _write(text: str, lines: Sequence[bytearray], left: int) -> None:
    for place, letter in enumerate(text):
        start = left + _width_of(text[:place])
        for row, dots in enumerate(_GLYPHS[letter]):
            for column in range(3):
                if int(dots) >> (2 - column) & 1:
                    for line in lines[row * _DOT : (row + 1) * _DOT]:
                        at = start + column * _DOT
                        line[at : at + _DOT] = bytes([_COAST]) * _DOT


# -- PNG -------------------------------------------------------------------------------------------------------------


def _png(lines: Sequence[bytes], palette: Iterable[Iterable[int]]) -> bytes:
    """Return a picture of one byte per pixel; https://www.w3.org/TR/png-3/."""
    chunks = (
        (b"IHDR", struct.pack(">2I5B", len(lines[0]), len(lines), 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(part for colour in palette for part in colour)),
        (b"IDAT", _compress([b"\0" + line for line in lines])),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


_RUN = re.compile(rb"(.)\1*", re.DOTALL)
_SHORTEST, _LONGEST = 3, 258


def _compress(lines: Sequence[bytes]) -> bytes:
    """Return a zlib stream in which runs of equal bytes are short.

    `zlib.compress` would make it smaller still, but not the same: builds of Python come with different libraries for
    it, each of which chooses in its own way. Every byte is below 144. (RFC 1951, 3.2.6: one block of fixed codes.)
    """
    codes = {line: "".join([_code(run[1][0], len(run[0])) for run in _RUN.finditer(line)]) for line in set(lines)}
    bits = "110" + "".join([codes[line] for line in lines]) + "0" * 7
    bits += "0" * (-len(bits) % 8)
    packed = int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")
    return b"\x78\x01" + packed + struct.pack(">I", zlib.adler32(b"".join(lines)))


@cache
def _code(byte: int, times: int) -> str:
    """Return the bits for a byte, and for how often it comes again: "as many as before, one place back"."""
    literal = f"{byte + 0x30:08b}"
    again = []
    rest = times - 1
    while rest >= _SHORTEST:
        length = min(rest, _LONGEST)
        again.append(_length_codes()[length] + "00000")
        rest -= length
    return literal + "".join(again) + literal * rest


@cache
def _length_codes() -> dict[int, str]:
    codes = {}
    length = _SHORTEST
    for symbol in range(257, 285):
        more = max(0, (symbol - 261) // 4)  # bits that follow, lowest first
        for extra in range(1 << more):
            follow = f"{extra:0{more}b}"[::-1] if more else ""
            codes[length + extra] = (f"{symbol - 256:07b}" if symbol < 280 else f"{symbol - 88:08b}") + follow
        length += 1 << more
    return codes | {_LONGEST: f"{285 - 88:08b}"}


# -- lines -----------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 36, 40
_PENS = ("#222222", "#c8502d", "#2d6f9f", "#5a8f3c")


def draw_lines(title: str, x: Sequence[float], x_name: str, y_name: str, lines: Mapping[str, Sequence[float]]) -> str:
    """Draw lines over a common axis.

    Parameters
    ----------
    title, x_name, y_name
        What is written above the picture and at its axes.
    x
        Where the values are.
    lines
        Values, by the names of what they are values of. The first line is black and broken: the reference.

    Returns
    -------
    str
        An SVG file.
    """
    every = [value for values in lines.values() for value in values]
    low, high = min(every), max(every)
    if low == high:
        low, high = low - 1, high + 1

    def across(value: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - x[0]) / (x[-1] - x[0]):.1f}"

    def up(value: float) -> str:
        return f"{_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" fill="#333333">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in _ticks(low, high):
        parts.append(f'<path d="M{_LEFT} {up(tick)}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up(tick)}" dy="4" text-anchor="end">{tick:.6g}</text>')
    parts += [
        f'<text x="{across(tick)}" y="{_HEIGHT - 24}" text-anchor="middle">{tick:.6g}</text>'
        for tick in _ticks(x[0], x[-1])
    ]
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) // 2}" y="{_HEIGHT - 7}">{escape(x_name)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) // 2
    parts.append(
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">{escape(y_name)}</text>'
    )
    for number, (name, values) in enumerate(lines.items()):
        colour, dashes = _PENS[number % len(_PENS)], "" if number else ' stroke-dasharray="5 3"'
        points = " ".join(f"{across(at)},{up(value)}" for at, value in zip(x, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>')
        right = _WIDTH - _RIGHT - 150 * (len(lines) - 1 - number)
        parts.append(f'<text x="{right}" y="{_HEIGHT - 7}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _ticks(low: float, high: float) -> list[float]:
    """Return the round numbers from one number to a larger one, seven at most."""
    step = _round_up((high - low) / 6)
    first = -(-low // step)
    return [tick for number in range(8) if (tick := step * (first + number)) <= high]
