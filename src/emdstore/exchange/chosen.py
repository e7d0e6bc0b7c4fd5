"""Which sets are handed on: those that are published and complete, and were not retracted."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import EmdstoreError, IncompleteSetError
from emdstore.keys import join_key
from emdstore.selection import ALL, Selection
from emdstore.sets.listing import look_at_sets
from emdstore.sets.reading_records import reading_records
from emdstore.sets.record import ExecutionRecord, decode_record
from emdstore.sets.release import read_release
from emdstore.stores.checksums import sha256_of
from emdstore.stores.urls import StoreLike, as_source

EXPECTED = ("failed", "incomplete", "bare", "retracted")
"""Why a set may be left without anything being wrong with the store."""


@attrs.frozen
class Chosen:
    """What was chosen.

    Attributes
    ----------
    records
        The records of the sets, by their folders in the store, in the order of these.
    left
        The sets that are not handed on, each with its state; ``retracted`` for those that were retracted.
    release
        The release that they are of, if they were chosen by one.
    """

    records: Mapping[str, ExecutionRecord]
    left: Mapping[str, str]
    release: str | None = None

    @property
    def doubtful(self) -> dict[str, str]:
        """Those that are damaged, in flux, or cannot be read."""
        return {name: why for name, why in self.left.items() if why not in EXPECTED}


def choose_records(
    store: StoreLike, prefix: str = "", *, selection: Selection = ALL, release: str | None = None
) -> Chosen:
    """Read the records of published sets.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    prefix
        Only sets in this folder.
    selection
        Only sets that are chosen.
    release
        Only the sets of this release, or of the one that this alias points at.

    Raises
    ------
    IncompleteSetError
        If a set is not as it was released.
    ReleaseNotFoundError
        If there is no such release.
    """
    source = as_source(store)
    released = None if release is None else read_release(source, release)
    wanted = None if released is None else released.records
    fit, records, left = {}, {}, {}
    for found, listed in look_at_sets(source, prefix, selection):
        if wanted is not None and listed.fragment not in wanted:
            continue
        if listed.retraction is not None or listed.state != "published":
            left[listed.fragment] = listed.state if listed.retraction is None else "retracted"
            continue
        fit[found.location] = listed.fragment
    with reading_records(source, fit) as read:
        for folder, data in read:
            if isinstance(data, EmdstoreError):
                raise data
            if data is None or (wanted is not None and sha256_of(data) != wanted[fit[folder]]):
                left[fit[folder]] = "changed"
            else:
                records[folder] = decode_record(data, name=join_key(folder, RECORD_NAME))
    if wanted is not None:
        wrong = sorted(wanted.keys() - {each.fragment for each in records.values()})
        if wrong:
            raise IncompleteSetError(
                f"of the release {release!r} these sets are not as they were released: {', '.join(wrong)}; "
                "`emdstore release verify` tells more",
                store=repr(source),
            )
    return Chosen(dict(sorted(records.items())), left, None if released is None else released.name)
