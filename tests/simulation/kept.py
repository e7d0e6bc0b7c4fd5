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
    # A transfer believed a listing of before the set was opened, and sealed what a halted commit had half replaced.
    "a listing proves nothing of a set that was opened after it": (
        "('local', ('edited',), (('bring', 0), ('idle', 0), ('commit', 0)), ((0, 6), (1, None), (2, 52), (0, None), "
        "(2, None)), ((0, 6, 'stop'),), (0.0, 0.0, 0.0), 'replay')"
    ),
    # The same by times: a copy keeps the time of its source, and seemed older than the record that opened the set.
    "a copy is as old as its last change, whatever time it was given": (
        "('local', ('edited',), (('commit-and-clean', 0), ('spoil', 0), ('bring', 0)), ((0, 51), (1, None), (2, 42), "
        "(0, None), (2, None)), ((0, 51, 'stop'),), (0.0, 0.0, 3600.0), 'replay')"
    ),
    # The unfinished file of a halted writer was cleaned up, and its artifact noted as one that the run had not written.
    "an unfinished file that is cleaned up is written again": (
        "('local', ('unknown',), (('publish-and-clean', 0), ('gc', 0), ('bring', 0)), ((0, 23), (1, None), (2, 49), "
        "(0, None), (2, None)), ((0, 23, 'stop'),), (0.0, 0.0, 0.0), 'commit')"
    ),
    # Whoever had looked before another claimed, and was halted, took the other's claim for one that had lapsed.
    "a claim is not taken over by who has not watched it": (
        "('memory', ('stopped',), (('commit', 0), ('commit-and-clean', 0)), ((0, None), (1, 12), (0, None)), "
        "((0, 9, 'stop'),), (0.0, -3600.0), 'commit')"
    ),
    # The power was cut when the identity of the results had its name and not its bytes; nothing could be shipped then.
    "a store's identity is on the disk before a catalog goes by it": (
        "('local', ('stopped',), (('commit-and-clean', 0),), (), ((0, 0, 'cut-names'),), (), 'commit')"
    ),
    # What only the destination's record named was written over, as nothing that the source's vouched for, before the
    # set was opened.
    "what only the older record names does not change before it is opened": (
        "('local', ('behind',), (('bring', 0),), (), ((0, 0, 'cut-names'),), (), 'commit')"
    ),
    # What a transfer had brought back without a flush was taken for proof, scratch cleaned up, and the power cut.
    "scratch goes when results survive a power cut": (
        "('local', ('lost',), (('bring', 0), ('commit-and-clean', 0)), ((0, None), (1, None)), "
        "((1, 0, 'cut-results'),), (), 'commit')"
    ),
    # A transfer put an earlier publication of the same generation in the place of a later one; no replay took its rows.
    "of two publications of one generation the later one stays": (
        "('local', ('behind',), (('bring', 0), ('write', 0), ('commit-and-clean', 0)), ((0, 8), (1, None), (2, 71), "
        "(0, None), (2, None)), ((0, 8, 'stop'),), (), 'replay')"
    ),
    # A commit that waited for the catalog to take its last word did not renew its claim meanwhile, and lost it.
    "a claim is renewed until it is given back": (
        "('memory', ('behind',), (('commit', 0), ('idle', 0), ('commit-and-clean', 0)), ((0, 30), (2, 88), (0, None), "
        "(2, None)), (), (0.0, 0.0, -3600.0), 'replay')"
    ),
    # A power cut left an empty retraction, and a commit of the set ended with an error.
    "a retraction has its bytes before it has its name": (
        "('local', ('edited',), (('retract', 0), ('publish', 0)), ((0, 3), (1, None)), ((1, 1, 'cut-names'),), (), "
        "'replay')"
    ),
    # A file of a set went after the earlier publication was opened to replace it, which then became incomplete.
    "a publication that is open does not end as less": (
        "('local', ('edited',), (('commit-and-clean', 0), ('write', 0)), ((0, 36), (1, None), (0, None)), (), (), "
        "'replay')"
    ),
}
"""By what they show, as `Schedule.parse` reads them; a fault at step 0 is one at each step in turn."""
