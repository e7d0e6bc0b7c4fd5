"""Releases in a catalog: which sets each of them names, so that queries can be narrowed to exactly these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa

from emdstore.catalog.database import Database
from emdstore.catalog.rows import ExecutionRow
from emdstore.catalog.schema import execution, release, release_alias, release_set
from emdstore.errors import ReleaseChangedError, ReleaseNotFoundError

_NAMED = 5


@attrs.frozen
class ReleaseContent:
    """What a catalog is to hold of one release.

    Attributes
    ----------
    name, at, by, note
        As in `emdstore.Release`.
    sets
        The folder of each set, with the SHA-256 of its record.
    """

    name: str
    at: datetime
    by: str
    note: str
    sets: Sequence[tuple[str, str]]


@attrs.frozen
class ReleaseRow:
    """A release, with the number of its sets and the aliases that point at it."""

    name: str
    at: datetime
    by: str
    note: str
    sets: int
    aliases: tuple[str, ...]


class Releases:
    """The releases that one catalog knows; see `Catalog.releases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace(self, releases: Iterable[ReleaseContent], aliases: Mapping[str, str]) -> None:
        """Put all releases and aliases of a results store in place of those that were known, in one transaction.

        Nothing is written where these are known already. If it fails, those that were known stay.
        """
        contents = list(releases)
        named = [{"name": each.name, "at": each.at, "by": each.by, "note": each.note} for each in contents]
        members = [
            {"release": each.name, "fragment": fragment, "record_digest": digest}
            for each in contents
            for fragment, digest in each.sets
        ]
        known = {each.name for each in contents}
        pointing = [{"name": name, "release": target} for name, target in aliases.items() if target in known]

        tables: tuple[tuple[sa.Table, list[dict[str, Any]]], ...]
        tables = (release, named), (release_set, members), (release_alias, pointing)

        def put() -> None:
            with self._database.replacing(release) as connection:
                connection.execute(sa.delete(release))  # takes its sets and aliases along
                for table, rows in tables:
                    if rows:
                        connection.execute(sa.insert(table), rows)

        if not all(self._holds(table, rows) for table, rows in tables):
            self._database.patiently(put)

    def _holds(self, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> bool:
        held = self._database.fetch(sa.select(table))
        return {tuple(row) for row in held} == {tuple(row[column.name] for column in table.c) for row in rows}

    def list(self) -> list[ReleaseRow]:
        """Return all releases, by name."""
        aliases: dict[str, list[str]] = {}
        for name, target in self._database.fetch(
            sa.select(release_alias.c.name, release_alias.c.release).order_by(release_alias.c.name)
        ):
            aliases.setdefault(target, []).append(name)
        count = sa.func.count(release_set.c.fragment)
        statement = sa.select(*release.c, count).outerjoin(release_set).group_by(*release.c).order_by(release.c.name)
        rows = self._database.fetch(statement)
        return [ReleaseRow(name, at, by, note, sets, tuple(aliases.get(name, ()))) for name, at, by, note, sets in rows]

    def naming(self, row: ExecutionRow) -> Sequence[ReleaseRow]:
        """Return the releases that name a set as the catalog has it, by name."""
        of = release_set.c
        same = (of.fragment == row.fragment, of.record_digest == row.record_digest)
        names = {name for (name,) in self._database.fetch(sa.select(of.release).where(*same))}
        return tuple(each for each in self.list() if each.name in names) if names else ()

    def naming_each(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """Return by fragment and digest of its record the names and aliases of all releases that name a set."""
        aliases = {each.name: each.aliases for each in self.list()}
        of, found = release_set.c, dict[tuple[str, str], list[str]]()
        for name, *which in self._database.fetch(
            sa.select(of.release, of.fragment, of.record_digest).order_by(of.release)
        ):
            found.setdefault((which[0], which[1]), []).extend((name, *aliases.get(name, ())))
        return found


def sets_of(database: Database, name: str) -> sa.ColumnElement[bool]:
    """Return the condition that selects the sets of a release, by its own name or an alias.

    Raises
    ------
    ReleaseNotFoundError
        If the catalog knows no such release.
    ReleaseChangedError
        If the rows of one of its sets are missing, or from another record than the one that was released.
    """
    pointing = sa.select(release_alias.c.release).where(release_alias.c.name == name)
    found = database.fetch(
        sa.select(release.c.name).where(sa.or_(release.c.name == name, release.c.name.in_(pointing)))
    )
    if not found:
        raise ReleaseNotFoundError(
            f"the catalog {database.safe_url} knows no release {name!r}: `emdstore release list` shows those of a "
            "results store, and `emdstore replay` has the catalog know them",
            key=name,
            store=database.safe_url,
        )
    meant = name if (name,) in {tuple(row) for row in found} else found[0][0]
    of = release_set.c.release == meant
    same = sa.and_(
        execution.c.fragment == release_set.c.fragment, execution.c.record_digest == release_set.c.record_digest
    )
    differing: Any = (
        sa.select(release_set.c.fragment).where(of, ~sa.exists().where(same)).order_by(release_set.c.fragment)
    )
    wrong = [fragment for (fragment,) in database.fetch(differing.limit(_NAMED + 1))]
    if wrong:
        more = "; ..." if len(wrong) > _NAMED else ""
        raise ReleaseChangedError(
            f"the catalog {database.safe_url} does not hold these sets as the release {meant!r} has them: "
            f"{'; '.join(wrong[:_NAMED])}{more}. `emdstore replay` brings it up to date, and `emdstore release verify` "
            "tells whether the results store still has them",
            key=wrong[0],
            store=database.safe_url,
        )
    return execution.c.fragment.in_(sa.select(release_set.c.fragment).where(of))
