"""Schedules that failed once, shrunk: what was wrong, and the order of events that showed it."""

from __future__ import annotations

KEPT: dict[str, str] = {
    # A replay kept the rows of the record before, as the machine that had replaced it had an earlier time.
    "a record is later than what it replaced, whatever the clocks say": (
        "('memory', ('edited',), (('publish', 0),), (), (), (-3600.0,), 'replay')"
    ),
    # A clean-up ended with an OSError of the system when a folder of scratch could not be listed.
    "gc ends with an error of ours where a disk fails": (
        "('memory', ('edited',), (('gc', 0),), (), ((0, 0, 'before'),), (), 'commit')"
    ),
    # A transfer put an older copy in the place of a later set, whose scratch had been cleaned up.
    "an older copy does not take the place of what took its place": (
        "('local', ('edited',), (('publish-and-clean', 0), ('bring', 0)), (), (), (), 'replay')"
    ),
}
"""By what they show, as `Schedule.parse` reads them; a fault at step 0 is one at each step in turn."""
