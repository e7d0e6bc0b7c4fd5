"""`Catalog`: the only access to the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from html import escape
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from emdstore.catalog import browse, queries, writing
from emdstore.catalog.claims import Claims
from emdstore.catalog.content import ExecutionContent, ReplaceResult
from emdstore.catalog.database import DATABASES, Database
from emdstore.catalog.filters import Filters, ScalarFilters, SeriesFilters, ValueFilters
from emdstore.catalog.lease import Claim
from emdstore.catalog.migrate import CatalogStatus
from emdstore.catalog.plotting import Plots
from emdstore.catalog.query import Query, ScalarQuery, SeriesQuery, ValueQuery
from emdstore.catalog.records import Records
from emdstore.catalog.releases import Releases
from emdstore.catalog.replays import Replays
from emdstore.catalog.rows import ArtifactRow, ExecutionRow, InputRow, OutputRow, WarningRow
from emdstore.catalog.snapshots import Snapshot
from emdstore.catalog.values import HeldValues
from emdstore.errors import InvalidTransitionError
from emdstore.shown import html_table
from emdstore.stores.identity import StoreIdentity
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import knows_scheme, open_store


class Catalog:
    """A SQL database of what was published.

    Nothing is opened before the first use, which also sets up an empty database; several processes may do so at once. A
    catalog pickles as its configuration. It may be used in a forked child, by several threads, and by many processes:
    writers wait for each other, readers never wait.

    Parameters
    ----------
    url
        A path or ``sqlite:///…`` for a SQLite file; ``sqlite://`` for a database in the memory of this process, until
        `close`; ``postgresql+psycopg://…`` (or just ``postgresql://…``) for PostgreSQL, which needs the extra
        ``postgres``. Relative paths are resolved immediately. A folder, any other URL of a store (``s3://…``,
        ``https://…``), or a store: the newest snapshot in this results store, or the one in this folder; it can only be
        read, and needs the extra ``snapshot``. Or a `Database`, which has the other two parameters itself.
    create
        False to refuse an empty or missing database instead of setting it up.
    busy_timeout
        How many seconds to wait for other writers, and for a PostgreSQL server that went away while an execution was
        being replaced. On PostgreSQL, a writer that is suspended for half this time (at least a second) loses its
        transaction, so that it does not block others.

    Attributes
    ----------
    claims
        The steps in the life of executions that must happen only once, however many processes try.
    records
        Which record each execution's rows came from.
    releases
        Which sets each release of the results store names.
    replays
        When the catalog was last brought up to date with the results store.

    Raises
    ------
    CatalogError
        If the URL is not valid. From every method: if the database cannot be used; the message has the reason, and the
        URL without password. A call that raises has changed nothing.
    CatalogUnavailableError
        From every method: if the database cannot be reached, or another transaction was in the way for too long.
        Nothing was changed; if the connection broke during the commit, either everything was or nothing.
    ReadOnlyCatalogError
        From every method that writes: if it is a snapshot.
    SnapshotNotFoundError
        From every method: if there is no snapshot.
    CatalogVersionError
        From every method but `check` and `upgrade`: if the schema is older (`upgrade` helps), newer, or another
        program's.
    """

    def __init__(
        self, url: str | Path | Database | ArtifactStore, *, create: bool = True, busy_timeout: float = 60.0
    ) -> None:
        self._database = _opened(url, create=create, busy_timeout=busy_timeout)
        self.claims = Claims(self._database)
        self.records = Records(self._database)
        self.releases = Releases(self._database)
        self.replays = Replays(self._database)
        self._always: Mapping[str, Any] = {}
        self._seen: tuple[ArtifactStore, ...] = ()  # its results store does not change once it was found

    def __repr__(self) -> str:
        return f"Catalog({self._database.safe_url!r})"

    def _repr_html_(self) -> str:
        """Return how many executions there are of each kind, for notebooks."""
        counts = self.survey().facets()
        rows = [(name, *each) for name in ("status", "provider", "diagnostic") for each in counts[name].items()]
        return f"<p>{escape(repr(self))}</p>{html_table(('', '', 'executions'), rows)}"

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
        """Close the connections; a catalog in memory is lost. Any later call raises a `CatalogError`."""
        self._database.close()
        self._seen = ()

    def refuse_to_write(self) -> None:
        """Raise `ReadOnlyCatalogError` if it is a snapshot, before any work is done for nothing."""
        self._database.refuse_to_write()

    def write_snapshot(
        self, store: ArtifactStore, name: str | None, on_progress: Callable[[str, int], object] | None
    ) -> Snapshot:
        """Write all tables into a store; see `emdstore.write_snapshot`, which makes sure that it is the right store."""
        from emdstore.catalog.snapshot_writing import write_tables

        return write_tables(self._database, store, name, on_progress)

    def release_connections(self) -> bool:
        """Close unused connections; return whether none is left, so that this process may be forked.

        Always False for a catalog in memory, which is itself a connection.
        """
        return self._database.release_connections()

    # -- the schema ----------------------------------------------------------------------------------------------

    def check(self) -> CatalogStatus:
        """Return the status of the database's schema. Nothing is changed."""
        return self._database.check()

    def upgrade(self) -> CatalogStatus:
        """Bring the schema up to date and return the new status. If it fails, the old schema and its rows stay.

        Raises
        ------
        CatalogVersionError
            If a newer emdstore made the schema, or another program.
        """
        return self._database.upgrade()

    # -- which results store it belongs to --------------------------------------------------------------------------

    def bound_results(self) -> StoreIdentity | None:
        """Return the results store that the catalog is tied to; None if there is none yet."""
        return writing.bound_results(self._database)

    def note_results(self, store: StoreIdentity, *, instead_of: StoreIdentity | None) -> StoreIdentity:
        """Tie the catalog to a results store, if it is still tied to the one that the caller has seen.

        Returns
        -------
        StoreIdentity
            The store that it is tied to now; not `store` if somebody else was faster.
        """
        self._seen = ()
        return writing.note_results(self._database, store, instead_of)

    def is_bound_to(self, store: ArtifactStore) -> bool:
        """Tell whether `keep_bound` was called with this store object, which saves a request."""
        return any(each is store for each in self._seen)

    def keep_bound(self, store: ArtifactStore) -> None:
        """Remember in this process that a store is the one that the catalog is tied to."""
        self._seen = (store,)

    # -- writing -------------------------------------------------------------------------------------------------

    def replace_execution(
        self, content: ExecutionContent, *, claim: Claim | None = None, replace: bool = False
    ) -> ReplaceResult:
        """Write one execution into the catalog, replacing everything it had of it, in one transaction.

        At every instant, every reader sees either all of the old rows or all of the new ones. Replacing twice with
        equal content leaves equal rows and ids. If the server goes away meanwhile, this is retried for as long as the
        catalog waits (`busy_timeout`), unless there is a claim or a part is an iterator.

        Parameters
        ----------
        content
            The execution. Its rows are consumed one by one inside the transaction, so there may be very many.
        claim
            The caller's claim, if any: it must still be the newest, and is released with the commit. Its owner has just
            published the set, so it may replace anything.
        replace
            Whether a failed, incomplete or older set may replace the rows of a complete publication.

        Returns
        -------
        ReplaceResult
            The id, and the numbers of rows now.

        Raises
        ------
        ClaimLostError
            If somebody else has claimed the execution since. Nothing was changed.
        ShadowedSetError
            If the set has no record, and the rows of its folder come from one or belong to a workspace. Nothing was
            changed.
        DemotionRefusedError
            If the set is less than the complete publication in the catalog, or older. Nothing was changed.
        CatalogError
            If the database refused. Nothing was changed. Exceptions from the iterables pass through; then nothing was
            changed either.
        """
        return writing.replace_execution(self._database, content, claim, replace=replace)

    def forget(self, wanted: str | int) -> ExecutionRow:
        """Remove one execution by name, with everything that belongs to it, and return it.

        The results store is not touched: if it still has the set, the next replay brings the execution back.

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

    def of_release(self, name: str) -> Catalog:
        """Return this catalog with nothing but the sets of a release, or of the one that an alias points at.

        It shares the connections of this one, and cannot be asked for another release. All its queries raise
        `ReleaseChangedError` if the catalog does not have a set as it was released. In it, `latest` means nothing: what
        a release names is what is meant.
        """
        if self._always:
            return self
        narrowed = copy(self)
        narrowed._always = {"release": name}
        return narrowed

    def _narrow(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        merged = {**filters, **self._always}
        if self._always:
            merged.pop("latest", None)
        return merged

    def executions(self, **filters: Unpack[Filters]) -> Query[ExecutionRow]:
        """Return the executions, by fragment; see `Filters`."""
        return queries.executions(self._database, **self._narrow(filters))

    def artifacts(self, **filters: Unpack[Filters]) -> Query[ArtifactRow]:
        """Return the files of the executions' sets, in curated order; see `Filters`."""
        return queries.artifacts(self._database, **self._narrow(filters))

    def outputs(self, **filters: Unpack[ValueFilters]) -> ValueQuery[OutputRow]:
        """Return the entries of the output bundles, in the bundles' order; see `ValueFilters`."""
        return queries.outputs(self._database, **self._narrow(filters))

    def scalars(self, **filters: Unpack[ScalarFilters]) -> ScalarQuery:
        """Return the scalars, in the bundles' order; see `ScalarFilters`."""
        return queries.scalars(self._database, **self._narrow(filters))

    def series(self, **filters: Unpack[SeriesFilters]) -> SeriesQuery:
        """Return the series, in the files' order; see `SeriesFilters`."""
        return queries.series(self._database, **self._narrow(filters))

    def inputs(self, **filters: Unpack[Filters]) -> Query[InputRow]:
        """Return what the executions read, in the order of their records; see `Filters`.

        With `dataset`, only inputs of this name, of everything that these executions read.
        """
        return queries.inputs(self._database, **self._narrow(filters))

    def warnings(self, **filters: Unpack[Filters]) -> Query[WarningRow]:
        """Return the warnings of ingest, in the order in which they were found; see `Filters`."""
        return queries.warnings(self._database, **self._narrow(filters))

    def values_of(self, executions: Sequence[int]) -> HeldValues:
        """Return the values of some executions, by their ids; all of them are loaded into memory."""
        return HeldValues.of(self._database, executions)

    def execution(self, wanted: str | int) -> ExecutionRow:
        """Return one execution.

        Parameters
        ----------
        wanted
            Its fragment, its id, or the end of its fragment after a ``/`` if that is unique.

        Raises
        ------
        ExecutionNotFoundError
            If there is none, or more than one.
        """
        row = queries.find_execution(self._database, wanted)
        if self._always and self.executions(ids=[row.execution_id], retracted=None).first() is None:
            raise queries.execution_not_found(self._database, str(wanted))
        return row

    @property
    def plot(self) -> Plots:
        """Drawings of what the catalog holds, as the site shows them: ``catalog.plot.portrait()``; see `Plots`."""
        # By name, as pandas finds what draws for it: the pages are built on the catalog, and it does not know them.
        plots: Plots = import_module("emdstore.web.plots").CatalogPlots(self)
        return plots

    def survey(
        self, search: str = "", *, concerns: bool = False, newest: bool = False, **filters: Unpack[Filters]
    ) -> browse.Survey:
        """Return the executions for browsing, those that need attention first; see `Survey`."""
        return browse.Survey(
            self._database, search, concerns, newest and "release" not in self._always, self._narrow(filters)
        )

    def scalar_facets(self, **filters: Unpack[ValueFilters]) -> browse.ScalarFacets:
        """Count scalars by provider, diagnostic and group, and by each of their dimensions.

        Each count ignores the filter on what it counts, so it shows what another choice would select.
        """
        return browse.scalar_facets(self._database, self._narrow(filters))


def is_database(place: str | Path) -> bool:
    """Tell whether a catalog's URL means a database, and not a store with a snapshot."""
    scheme, mark, _ = str(place).partition("://")
    if isinstance(place, Path) or not mark:
        return not Path(place).is_dir()
    # What nobody knows is left to the database, which tells what a catalog's URL looks like.
    return scheme.partition("+")[0].lower() in DATABASES or not knows_scheme(scheme)


def _opened(place: str | Path | Database | ArtifactStore, *, create: bool, busy_timeout: float) -> Database:
    if isinstance(place, Database):
        return place
    if isinstance(place, str | Path):
        if is_database(place):
            return Database(place, create=create, busy_timeout=busy_timeout)
        place = open_store(place)
    from emdstore.catalog.snapshot_database import SnapshotDatabase

    return SnapshotDatabase(place)
