"""`Catalog`: the one door to the database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from emdstore.catalog import browse, queries, writing
from emdstore.catalog.claims import Claims
from emdstore.catalog.content import ExecutionContent, ReplaceResult
from emdstore.catalog.database import Database
from emdstore.catalog.lease import Claim
from emdstore.catalog.migrate import CatalogStatus
from emdstore.catalog.queries import Filters, Query, SeriesFilters, SeriesQuery, ValueFilters, ValueQuery
from emdstore.catalog.records import Records
from emdstore.catalog.releases import Releases
from emdstore.catalog.rows import ArtifactRow, ExecutionRow, InputRow, OutputRow, ScalarRow, WarningRow
from emdstore.catalog.values import HeldValues
from emdstore.errors import InvalidTransitionError
from emdstore.stores.identity import StoreIdentity
from emdstore.stores.port import ArtifactStore


class Catalog:
    """What was published, in a SQL database.

    Nothing is opened before the first use. An empty database is set up then; several processes may do so at once. A
    catalog pickles as its configuration and may be used in a forked child, by several threads, and by many processes:
    writers wait for each other, readers never wait.

    Parameters
    ----------
    url
        A path or ``sqlite:///…`` for a SQLite file; ``sqlite://`` for one that lives in memory, in this process, until
        `close`; ``postgresql+psycopg://…`` (or just ``postgresql://…``) for PostgreSQL, which needs the extra
        ``postgres``. Relative paths are taken from the current folder now, not later. Or a `Database`, which has the
        other two parameters itself.
    create
        False to refuse an empty or missing database instead of setting it up.
    busy_timeout
        How many seconds to wait for other writers, and for a PostgreSQL server that went away while an execution was
        being replaced. A writer that is suspended for half that time, and a second at least, loses its transaction on
        PostgreSQL, so that it does not block others.

    Attributes
    ----------
    claims
        The steps of executions' lives that must happen once, however many try.
    records
        Which record each execution's rows came from.
    releases
        Which sets each release of the results store names.

    Raises
    ------
    CatalogError
        If the URL makes no sense. From every method: if the database cannot be used; the message has the reason and the
        URL without password. A call that raises has changed nothing.
    CatalogUnavailableError
        From every method: if the database cannot be reached, or somebody's transaction was in the way for too long.
        Nothing was changed, unless the connection broke in the instant of the commit: then all was, or nothing.
    CatalogVersionError
        From every method but `check` and `upgrade`: if the schema is older (`upgrade` helps), newer, or not ours.
    """

    def __init__(self, url: str | Path | Database, *, create: bool = True, busy_timeout: float = 60.0) -> None:
        self._database = url if isinstance(url, Database) else Database(url, create=create, busy_timeout=busy_timeout)
        self.claims = Claims(self._database)
        self.records = Records(self._database)
        self.releases = Releases(self._database)
        self._seen: tuple[ArtifactStore, ...] = ()  # what was found to be its results store does not change

    def __repr__(self) -> str:
        return f"Catalog({self._database.safe_url!r})"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_seen": ()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The database, without password."""
        return self._database.safe_url

    def close(self) -> None:
        """Close the connections; a catalog in memory is gone. Any later call is a `CatalogError`."""
        self._database.close()
        self._seen = ()

    def release_connections(self) -> bool:
        """Close the connections that are not in use; tell whether none is left, so that this process may be forked.

        Never so for a catalog in memory, which is a connection.
        """
        return self._database.release_connections()

    # -- the schema ----------------------------------------------------------------------------------------------

    def check(self) -> CatalogStatus:
        """Tell what schema the database has, and change nothing."""
        return self._database.check()

    def upgrade(self) -> CatalogStatus:
        """Bring the schema up to date and return the new status. If it fails, the old schema and its rows stay.

        Raises
        ------
        CatalogVersionError
            If a newer emdstore made the schema, or another program.
        """
        return self._database.upgrade()

    # -- which results store it speaks of --------------------------------------------------------------------------

    def bound_results(self) -> StoreIdentity | None:
        """Return the results store whose sets the catalog holds; None as long as it is tied to none."""
        return writing.bound_results(self._database)

    def note_results(self, store: StoreIdentity, *, instead_of: StoreIdentity | None) -> StoreIdentity:
        """Tie the catalog to a results store, if it is still tied to the one that the caller saw.

        Returns
        -------
        StoreIdentity
            The one that it is tied to now: another than `store` if somebody else was quicker.
        """
        self._seen = ()
        return writing.note_results(self._database, store, instead_of)

    def is_bound_to(self, store: ArtifactStore) -> bool:
        """Tell whether `keep_bound` was called with this very store: to look again would take a request."""
        return any(each is store for each in self._seen)

    def keep_bound(self, store: ArtifactStore) -> None:
        """Remember, in this process, that a store is the one that the catalog is tied to."""
        self._seen = (store,)

    # -- writing -------------------------------------------------------------------------------------------------

    def replace_execution(
        self, content: ExecutionContent, *, claim: Claim | None = None, replace: bool = False
    ) -> ReplaceResult:
        """Put one execution into the catalog, whole, in place of all that was held of it, in one transaction.

        Afterwards, and for every reader at every instant, the catalog has either all of the old or all of the new.
        Replacing twice by equal content leaves equal rows and equal ids. If the server goes away meanwhile, it is tried
        again for as long as the catalog waits (`busy_timeout`), unless there is a claim or a part is an iterator.

        Parameters
        ----------
        content
            The execution. Its rows are consumed inside the transaction, one by one; there may be very many.
        claim
            The caller's claim, if it has one: it must still be the newest, and is given back with the commit. Who holds
            one has published the set just now, so it may replace anything.
        replace
            Whether a failed, incomplete or older set may take the place of a complete publication's rows.

        Returns
        -------
        ReplaceResult
            The id and what is held now.

        Raises
        ------
        ClaimLostError
            If somebody else has claimed the execution since. Nothing was changed.
        ShadowedSetError
            If the set has no record, and what is held of its folder is from one, or belongs to a workspace. Nothing was
            changed.
        DemotionRefusedError
            If the set is less than the complete publication whose rows are held, or older. Nothing was changed.
        CatalogError
            If the database refused. Nothing was changed. An exception from one of the iterables passes through, and
            nothing was changed either.
        """
        return writing.replace_execution(self._database, content, claim, replace=replace)

    def forget(self, wanted: str | int) -> ExecutionRow:
        """Remove one execution by name, with all that belongs to it, and return what it was.

        The results store is not touched: if it still holds the set, the next replay brings the execution back.

        Parameters
        ----------
        wanted
            See `execution`.

        Raises
        ------
        ExecutionNotFoundError
            If there is none, or more than one.
        InvalidTransitionError
            If it is running, or somebody is committing it. Nothing was changed.
        """
        row = self.execution(wanted)
        if not writing.forget(self._database, row.fragment):
            now = self.execution(row.fragment)
            raise InvalidTransitionError(
                f"{row.fragment!r} is {now.status}, and cannot be forgotten meanwhile: wait for its end, or abort it",
                key=row.fragment,
                store=self.url,
            )
        return row

    # -- asking --------------------------------------------------------------------------------------------------

    def executions(self, **filters: Unpack[Filters]) -> Query[ExecutionRow]:
        """Return the executions, by fragment; see `Filters`."""
        return queries.executions(self._database, **filters)

    def artifacts(self, **filters: Unpack[Filters]) -> Query[ArtifactRow]:
        """Return the files of the executions' sets, in curated order; see `Filters`."""
        return queries.artifacts(self._database, **filters)

    def outputs(self, **filters: Unpack[ValueFilters]) -> ValueQuery[OutputRow]:
        """Return the entries of the output bundles, in the bundles' order; see `ValueFilters`."""
        return queries.outputs(self._database, **filters)

    def scalars(self, **filters: Unpack[ValueFilters]) -> ValueQuery[ScalarRow]:
        """Return the scalars, in the bundles' order; see `ValueFilters`."""
        return queries.scalars(self._database, **filters)

    def series(self, **filters: Unpack[SeriesFilters]) -> SeriesQuery:
        """Return the series, in the files' order; see `SeriesFilters`."""
        return queries.series(self._database, **filters)

    def inputs(self, **filters: Unpack[Filters]) -> Query[InputRow]:
        """Return what the executions read, in the order that their records name it; see `Filters`.

        With `dataset` only what is called so, of all that these executions read.
        """
        return queries.inputs(self._database, **filters)

    def warnings(self, **filters: Unpack[Filters]) -> Query[WarningRow]:
        """Return what ingest found odd, in the order it was found; see `Filters`."""
        return queries.warnings(self._database, **filters)

    def values_of(self, executions: Sequence[int]) -> HeldValues:
        """Return the values of some executions, by their ids; all of them are in memory then."""
        return HeldValues.of(self._database, executions)

    def execution(self, wanted: str | int) -> ExecutionRow:
        """Return one execution.

        Parameters
        ----------
        wanted
            Its fragment, or the end of it from a ``/`` on if no other fragment ends so, or its id.

        Raises
        ------
        ExecutionNotFoundError
            If there is none, or more than one.
        """
        return queries.find_execution(self._database, wanted)

    def survey(
        self, search: str = "", *, concerns: bool = False, newest: bool = False, **filters: Unpack[Filters]
    ) -> browse.Survey:
        """Return the executions for somebody who looks around: what needs attention first; see `Survey`."""
        return browse.Survey(self._database, search, concerns, newest, filters)

    def scalar_facets(self, **filters: Unpack[ValueFilters]) -> browse.ScalarFacets:
        """Count scalars by provider, diagnostic and group, and by each of their dimensions.

        Each count disregards the filter on what it counts: it tells what another choice would select.
        """
        return browse.scalar_facets(self._database, filters)
