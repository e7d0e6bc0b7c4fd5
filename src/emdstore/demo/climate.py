"""A small made-up climate, from which all numbers of the demo follow.

A field is a sum of a few patterns on a globe of 4° cells. So means, errors and correlations over a region are sums of a
few products, maps agree with scalars, and a large ensemble costs little.

The numbers are the same on every machine and with every Python from 3.11 on: the code uses only arithmetic that IEEE
754 defines to the last bit, `math.fsum` and `math.sqrt`, which are exact, and rounded sines. (`sum` adds floats
differently since 3.12; the last bits of a sine depend on the C library.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise

Field = tuple[float, ...]
"""A value for each cell, in rows from north to south, each from 180° W eastward."""

CELL = 4
ROWS, COLUMNS = 180 // CELL + 1, 360 // CELL
_LATITUDES = tuple(90 - CELL * row for row in range(ROWS))
_LONGITUDES = tuple(CELL * column - 180 for column in range(COLUMNS))

REGIONS: Mapping[str, tuple[int, int]] = {
    "global": (-90, 90),
    "tropics": (-20, 20),
    "northern-extratropics": (20, 90),
    "southern-extratropics": (-90, -20),
    "arctic": (60, 90),
    "antarctic": (-90, -60),
}
"""The latitudes between which each region lies."""

SEASONS: Mapping[str, tuple[int, ...]] = {
    "ANN": tuple(range(1, 13)),
    "DJF": (12, 1, 2),
    "MAM": (3, 4, 5),
    "JJA": (6, 7, 8),
    "SON": (9, 10, 11),
}
"""The months of each season."""

_COASTS: tuple[tuple[tuple[int, int], ...], ...] = (  # longitude and latitude of capes and bays, roughly
    ((-6, 35), (10, 37), (20, 32), (32, 31), (43, 12), (51, 12), (40, -4), (35, -24), (28, -33), (18, -34), (12, -17),
     (9, 4), (-8, 5), (-17, 14), (-13, 28)),
    ((-9, 37), (-9, 43), (-1, 45), (-4, 48), (8, 54), (5, 61), (14, 68), (26, 71), (42, 67), (60, 69), (73, 72),
     (105, 77), (140, 73), (180, 69), (180, 65), (163, 60), (157, 51), (155, 59), (137, 54), (141, 48), (128, 36),
     (122, 39), (121, 29), (110, 20), (106, 9), (100, 13), (103, 1), (98, 9), (92, 21), (87, 21), (80, 14), (77, 8),
     (73, 17), (67, 25), (57, 26), (59, 21), (45, 13), (35, 29), (36, 36), (27, 37), (23, 37), (17, 40), (3, 43),
     (-1, 37)),
    ((-168, 66), (-156, 71), (-128, 70), (-95, 74), (-80, 73), (-66, 66), (-78, 64), (-94, 60), (-82, 54), (-77, 62),
     (-65, 59), (-56, 51), (-65, 45), (-75, 37), (-81, 31), (-80, 25), (-84, 30), (-97, 27), (-97, 19), (-88, 21),
     (-84, 11), (-78, 8), (-83, 8), (-95, 16), (-106, 22), (-113, 31), (-118, 34), (-124, 41), (-124, 48), (-135, 58),
     (-152, 59), (-165, 60)),
    ((-72, 78), (-60, 82), (-30, 84), (-18, 78), (-22, 70), (-43, 60), (-52, 65), (-55, 71)),
    ((-78, 8), (-72, 12), (-60, 9), (-50, 0), (-35, -6), (-39, -15), (-48, -27), (-58, -36), (-65, -43), (-68, -55),
     (-75, -50), (-73, -37), (-70, -18), (-81, -6), (-80, 1)),
    ((114, -22), (122, -18), (130, -12), (137, -16), (142, -11), (146, -19), (153, -27), (150, -38), (140, -38),
     (131, -32), (115, -35)),
    ((-180, -78), (-120, -73), (-75, -73), (-58, -63), (-60, -77), (-20, -73), (20, -69), (90, -66), (150, -68),
     (170, -72), (180, -78), (180, -91), (-180, -91)),
    ((109, 2), (117, 7), (118, -4), (110, -4)),
    ((131, -1), (142, -3), (150, -10), (138, -8)),
    ((43, -20), (50, -13), (47, -26)),
    ((130, 31), (141, 37), (145, 44), (139, 44)),
)  # fmt: skip


_ROOT_OF_THREE = math.sqrt(3)  # a number from 0 to 1 has a variance of 1/12


def uniform(*key: object) -> float:
    """Draw a number from 0 to 1 for a key: the same in every process, on every machine."""
    return random.Random("/".join(map(str, key))).random()


def normal(*key: object) -> float:
    """Draw a number around 0 with standard deviation 1 for a key."""
    return normals(1, *key)[0]


def normals(count: int, *key: object) -> list[float]:
    """Draw several numbers around 0 for a key."""
    draw = random.Random("/".join(map(str, key))).random
    return [(draw() + draw() + draw() + draw() - 2) * _ROOT_OF_THREE for _ in range(count)]


@cache
def _sine(degrees: float) -> float:
    return round(math.sin(math.radians(degrees)), 9)


PHASES = {month: -_sine(30 * month + 75) for month in range(1, 13)}
"""How much of the northern summer there is in a month, from -1 to 1."""


def phase(season: str) -> float:
    """Return the mean phase of a season's months."""
    return math.fsum(PHASES[month] for month in SEASONS[season]) / len(SEASONS[season])


@cache
def is_land() -> tuple[bool, ...]:
    """Tell for each cell whether it is land."""
    return tuple(any(_inside(x, y, coast) for coast in _COASTS) for y in _LATITUDES for x in _LONGITUDES)


def _inside(x: int, y: int, coast: tuple[tuple[int, int], ...]) -> bool:
    # A line from here to the east crosses the coast an odd number of times.
    crossed = [
        x < x1 + (y - y1) * (x2 - x1) / (y2 - y1)
        for (x1, y1), (x2, y2) in pairwise((*coast, coast[0]))
        if (y1 > y) != (y2 > y)
    ]
    return crossed.count(True) % 2 == 1


def _square(value: float) -> float:
    return value * value


def _bump(distance: float) -> float:
    return max(0.0, 1 - _square(distance))


_PATTERNS: Mapping[str, Callable[[float, float, bool], float]] = {  # of longitude, latitude, and whether it is land
    "everywhere": lambda x, y, land: 1.0,
    "poleward": lambda x, y, land: 2 / 3 - _square(_sine(90 - y)),
    "equatorward": lambda x, y, land: _square(_sine(90 - y)),
    "northward": lambda x, y, land: _sine(y),
    "summer": lambda x, y, land: _sine(y) * _square(_sine(90 - y)),
    "land": lambda x, y, land: float(land),
    "continents": lambda x, y, land: _sine(y) * land,
    "rain belt": lambda x, y, land: _bump((y - 5) / 14),
    "second belt": lambda x, y, land: _bump((y + 10) / 9),
    "cold tongue": lambda x, y, land: _bump(y / 9) * _bump((x + 115) / 50),
    "waves": lambda x, y, land: _square(_sine(90 - y)) * _sine(x + 60),
    "storm tracks": lambda x, y, land: _square(_sine(2 * y)) * _sine(2 * x + 30),
    "arctic": lambda x, y, land: min(1.0, max(0.0, (y - 58) / 16)),
    "southern ocean": lambda x, y, land: min(1.0, max(0.0, (-y - 56) / 14)),
}


@cache
def pattern(name: str) -> Field:
    """Return a pattern: what fields are made of."""
    of = _PATTERNS[name]
    places = ((x, y) for y in _LATITUDES for x in _LONGITUDES)
    return tuple(of(x, y, land) for (x, y), land in zip(places, is_land(), strict=True))


@cache
def _weights(region: str, domain: str) -> Field:
    """Return the area of each cell of a region, as a share of the whole; 0 outside of it."""
    south, north = REGIONS[region]
    latitudes = (y for y in _LATITUDES for _ in _LONGITUDES)
    areas = [
        _sine(90 - y) if south <= y <= north and covers(domain, land) else 0.0
        for y, land in zip(latitudes, is_land(), strict=True)
    ]
    total = math.fsum(areas)
    return tuple(area / total for area in areas)


def covers(domain: str, land: bool) -> bool:
    """Tell whether a cell, land or not, belongs to a domain: ``all``, ``land`` or ``ocean``."""
    return domain == "all" or (domain == "land") == land


@cache
def _mean(region: str, domain: str, name: str) -> float:
    return math.fsum(weight * value for weight, value in zip(_weights(region, domain), pattern(name), strict=True))


@cache
def _covariance(region: str, domain: str, one: str, other: str) -> float:
    mean, other_mean = _mean(region, domain, one), _mean(region, domain, other)
    return math.fsum(
        weight * (a - mean) * (b - other_mean)
        for weight, a, b in zip(_weights(region, domain), pattern(one), pattern(other), strict=True)
        if weight
    )


def mean(region: str, domain: str, field: Mapping[str, float]) -> float:
    """Return the mean of a field over a region; a field is given as how much of each pattern is in it."""
    return math.fsum(amount * _mean(region, domain, name) for name, amount in field.items())


def covariance(region: str, domain: str, one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the covariance of two fields over a region."""
    return math.fsum(
        amount * other_amount * _covariance(region, domain, *sorted((name, other_name)))
        for name, amount in one.items()
        for other_name, other_amount in other.items()
    )


def cells(field: Mapping[str, float]) -> list[float]:
    """Return the value of a field in each cell."""
    values = [0.0] * (ROWS * COLUMNS)
    for name, amount in field.items():
        values = [value + amount * share for value, share in zip(values, pattern(name), strict=True)]
    return values
