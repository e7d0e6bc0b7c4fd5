"""Maps and lines are pictures that others can read, and show their values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from emdstore.demo.drawing import contours, draw_lines, draw_map

SVG = "{http://www.w3.org/2000/svg}"


def decode(picture: bytes) -> tuple[list[bytes], list[tuple[int, ...]]]:
    """Read a PNG as the standard says, with every check sum, and return its lines and its palette."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(picture):
        (size,) = struct.unpack(">I", picture[at : at + 4])
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        assert struct.unpack(">I", picture[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert rest == [8, 3, 0, 0, 0]
    pixels = zlib.decompress(chunks[b"IDAT"])  # fails on any wrong bit
    assert len(pixels) == height * (width + 1)
    lines = [pixels[start : start + width + 1] for start in range(0, len(pixels), width + 1)]
    assert {line[0] for line in lines} == {0}
    palette = [tuple(chunks[b"PLTE"][start : start + 3]) for start in range(0, len(chunks[b"PLTE"]), 3)]
    return [line[1:] for line in lines], palette


def expected(value: float, levels: tuple[float, ...]) -> int:
    return sum(value >= level for level in levels)


def fields() -> Iterator[tuple[str, list[float | None], bool]]:
    ramp = [float(number) for number in range(60)]
    yield "rising", ramp, False  # type: ignore[misc]
    yield "both signs", [value - 30 for value in ramp], True
    yield "all the same", [5.0] * 60, False
    yield "nothing but zero", [0.0] * 60, True
    yield "tiny", [value * 1e-9 for value in ramp], False
    yield "with gaps", [None if number % 7 == 0 else value for number, value in enumerate(ramp)], False


@pytest.mark.parametrize(
    ("values", "two_sided"), [field[1:] for field in fields()], ids=[field[0] for field in fields()]
)
@pytest.mark.parametrize("pixels", [1, 3, 30])
def test_a_map_shows_its_values(values: list[float | None], two_sided: bool, pixels: int) -> None:
    land = [number % 10 > 4 for number in range(60)]
    lines, palette = decode(draw_map(values, land, 10, pixels=pixels, two_sided=two_sided))
    levels = contours([value for value in values if value is not None], two_sided=two_sided)
    nothing, coast = len(levels) + 1, len(levels) + 2
    assert max(max(line) for line in lines) < len(palette)
    assert len(set(palette)) == len(palette)
    for number, value in enumerate(values):
        shown = lines[(number // 10 + 1) * pixels - 1][(number % 10 + 1) * pixels - 1]
        if pixels == 1 and shown == coast:
            continue
        assert shown == (nothing if value is None else expected(value, levels)), number
    # The coast is where land begins, in the middle of each row.
    assert all(line[5 * pixels] == coast for line in lines[: 6 * pixels])
    assert lines[0][0] != coast


def test_the_colours_of_a_two_sided_map_part_at_zero() -> None:
    levels = contours([-3.0, 1.0], two_sided=True)
    assert levels == tuple(-level for level in reversed(levels))
    assert 0 not in levels
    assert expected(0.0, levels) == len(levels) // 2


@pytest.mark.parametrize("low", [-1e3, -3.7, 0.0, 0.001, 273.15])
@pytest.mark.parametrize("span", [1e-5, 0.3, 1.0, 17.0, 1e5])
def test_contours_are_round_numbers_that_cover_the_values(low: float, span: float) -> None:
    levels = contours([low, low + span], two_sided=False)
    step = levels[1] - levels[0]
    assert low < levels[0] + 1e-6 * step
    assert low + span <= levels[-1] + step * (1 + 1e-6)
    assert all(after - before == pytest.approx(step, rel=1e-3) for before, after in pairwise(levels))


def test_runs_of_any_length_are_kept() -> None:
    for width in (1, 2, 3, 4, 10, 11, 66, 67, 130, 131, 257, 258, 259, 260, 261, 262, 516, 517, 1000):
        lines, _ = decode(draw_map([1.0] * 4, [False] * 4, 1, pixels=width, two_sided=False))
        assert {len(line) for line in lines} == {width}
        assert len(set(lines[: 4 * width])) == 1


def test_lines_go_through_their_values() -> None:
    years = range(1950, 1960)
    lines = {"ERA5 <&>": [float(year % 7) for year in years], "CESM2": [year - 1950.0 for year in years]}
    picture = ElementTree.fromstring(draw_lines("A <title> & more", years, "year", "tas [K]", lines))
    assert picture.tag == f"{SVG}svg"
    assert picture.findtext(f"{SVG}title") == "A <title> & more"
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"ERA5 <&>", "CESM2", "year", "tas [K]"} <= set(texts)
    drawn = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in picture.iter(f"{SVG}polyline")
    ]
    assert len(drawn) == 2
    scale = None
    for points, values in zip(drawn, lines.values(), strict=True):
        assert len(points) == len(values)
        assert all(after[0] > before[0] for before, after in pairwise(points))
        # One scale for both, and larger values higher up.
        for (before, after), (low, high) in zip(pairwise(points), pairwise(values), strict=True):
            if low != high:
                found = (after[1] - before[1]) / (high - low)
                scale = scale or found
                assert found == pytest.approx(scale, abs=0.2)
    assert scale is not None
    assert scale < 0


def test_lines_without_any_change_are_drawn_too() -> None:
    picture = ElementTree.fromstring(draw_lines("flat", range(3), "x", "y", {"a": [0.0] * 3, "b": [0.0] * 3}))
    assert len(list(picture.iter(f"{SVG}polyline"))) == 2
