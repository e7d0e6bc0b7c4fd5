"""Schedules that failed once, shrunk: what was wrong, and the order of events that showed it."""

from __future__ import annotations

KEPT: dict[str, str] = {
    # A replay kept the rows of the record before, as the machine that had replaced it had an earlier time.
    "a record proves what it replaced, whatever the clocks say": (
        "('memory', ('edited',), (('publish', 0),), (), (), (-3600.0,), 'replay')"
    ),
    # A clean-up ended with an OSError of the system when a folder of scratch could not be listed.
    "gc ends with an error of ours where a disk fails": (
        "('memory', ('edited',), (('gc', 0),), (), ((0, 0, 'before'),), (), 'commit')"
    ),
}
"""By what they show, as `Schedule.parse` reads them; a fault at step 0 is one at each step in turn."""


UNFENCED = "in the place of one of generation"
"""What the message says of a record that lands on a later one, which compare-and-put is to make impossible."""

UNFENCED_PAIRS = [("publish", "commit", "edited", None), ("commit", "commit-and-clean", "stopped", "stop")]
"""Who is looking, or stopped beyond its lease, while who publishes: the record of the first lands on the later one."""
