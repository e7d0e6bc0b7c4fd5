"""The page of one execution group, whose address lasts: its versions, what changed between them, and their releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from emdstore.catalog import Catalog
from emdstore.catalog.history import Version, history_of
from emdstore.catalog.releases import ReleaseRow

MOST_VERSIONS = 50


@attrs.frozen
class GroupPage:
    """One execution group.

    Attributes
    ----------
    provider, diagnostic, group
        Its name.
    release
        The release, or the alias, that was asked for; ``""`` for none.
    versions
        Its versions, the newest first.
    releases
        By an execution's id, the releases that name its set as it is.
    more
        How many older versions there are that are not shown.
    """

    provider: str
    diagnostic: str
    group: str
    release: str
    versions: Sequence[Version]
    releases: Mapping[int, Sequence[ReleaseRow]]
    more: int = 0


def read_group(catalog: Catalog, place: str, release: str = "") -> GroupPage:
    """Read the page of a group; it has no versions if there is no such group.

    Parameters
    ----------
    catalog
        Where to ask; what it has of a release, if one was asked for.
    place
        ``provider/diagnostic/group``.
    release
        The release that was asked for.
    """
    provider, diagnostic, group = (*place.split("/", 2), "", "")[:3]
    versions = history_of(catalog, provider, diagnostic, group, most=MOST_VERSIONS)
    there = catalog.executions(provider=provider, diagnostic=diagnostic, group=group, retracted=None).count()
    naming = {each.row.execution_id: catalog.releases.naming(each.row) for each in versions}
    return GroupPage(provider, diagnostic, group, release, versions, naming, there - len(versions))
