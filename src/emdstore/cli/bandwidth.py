"""How `--bwlimit` is written: 20M, off, or a timetable."""

from __future__ import annotations

import re

from emdstore.cli.choosing import parse_size
from emdstore.cli.options import WrongCallError
from emdstore.transfers.bandwidth import MINUTES_OF_DAY, Bandwidth

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CHANGE = re.compile(rf"(?:({'|'.join(_DAYS)})-)?([01]?\d|2[0-3]):([0-5]\d),(\S+)", re.IGNORECASE)
_NO_LIMIT = ("off", "0")


def parse_bandwidth(text: str) -> Bandwidth:
    """Read a limit as people write it: 20M, off, or "8:00,2M 19:00,off Sat-0:00,off", by the local clock."""
    changes: dict[int, float | None] = {}
    words = text.split()
    if len(words) == 1 and ":" not in text:
        return Bandwidth.always(_rate(text))
    for word in sorted(words, key=lambda each: "-" in each):  # a day's own come before those of every day
        found = _CHANGE.fullmatch(word)
        if found is None:
            raise WrongCallError(
                f"{word!r} is no limit: write 20M for so many bytes a second, off, or times with limits such as "
                "'8:00,2M 19:00,off Sat-0:00,off'"
            )
        day, hour, minute, limit = found.groups()
        days = range(7) if day is None else [_DAYS.index(day.lower())]
        changes |= {each * MINUTES_OF_DAY + int(hour) * 60 + int(minute): _rate(limit) for each in days}
    if not changes:
        raise WrongCallError("--bwlimit takes a limit, such as 20M")
    return Bandwidth(tuple(sorted(changes.items())))


def _rate(text: str) -> float | None:
    return None if text.lower() in _NO_LIMIT else parse_size(text)
