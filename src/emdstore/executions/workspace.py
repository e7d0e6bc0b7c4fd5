"""Where one project's executions live: a scratch folder, a results store and a catalog."""

from __future__ import annotations

import os
import secrets
import tempfile
import tomllib
from collections.abc import Collection, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from emdstore.catalog import Catalog, ExecutionRow
from emdstore.errors import ArtifactExistsError, CatalogError, InvalidKeyError, MissingExtraError, WorkspaceError
from emdstore.executions.transitions import STATUSES
from emdstore.keys import join_key, validate_key
from emdstore.sets.record import ExecutionRecord
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.urls import open_store

if TYPE_CHECKING:
    from emdstore.catalog import Query
    from emdstore.emds import Vocabulary
    from emdstore.executions.batch import BatchCallback
    from emdstore.executions.execution import Execution
    from emdstore.executions.housekeeping import GcReport
    from emdstore.executions.report import UploadReport

CONFIG_NAME = "emdstore.toml"
_ENVIRONMENT = "EMDSTORE_"
_SETTINGS = ("scratch", "results", "catalog", "vocabulary", "clean_folder", "lease_seconds", "results_options")


def _scratch(value: str | os.PathLike[str] | LocalArtifactStore) -> LocalArtifactStore:
    if isinstance(value, LocalArtifactStore):
        return value
    if "://" in os.fspath(value) and not os.fspath(value).startswith("file://"):
        raise WorkspaceError(f"scratch is a folder of this machine, where programs write files; not {value!r}")
    store = open_store(value)
    assert isinstance(store, LocalArtifactStore)
    return store


def _results(value: str | os.PathLike[str] | ArtifactStore) -> ArtifactStore:
    return open_store(value) if isinstance(value, str | os.PathLike) else value


def _catalog(value: str | os.PathLike[str] | Catalog) -> Catalog:
    return value if isinstance(value, Catalog) else Catalog(os.fspath(value))


@attrs.frozen(kw_only=True)
class Workspace:
    """A scratch folder, a results store and a catalog that belong together.

    It pickles as its configuration, so that executions can be committed in other processes. The catalog is tied to the
    results store when it is first used; another results store is refused then.

    Attributes
    ----------
    scratch
        The folder in which executions run: a `LocalArtifactStore`, or its path.
    results
        The store in which sets are published: a store, or its URL.
    catalog
        The database: a `Catalog`, or its URL.
    vocabulary
        What dimensions and values are compared with at ingest; None for nothing.
    clean_folder
        Whether a commit removes the execution's scratch folder when all is done.
    lease_seconds
        How long a commit's claim holds unless it is renewed. Its owner renews it while it lives.
    """

    scratch: LocalArtifactStore = attrs.field(converter=_scratch)
    results: ArtifactStore = attrs.field(converter=_results)
    catalog: Catalog = attrs.field(converter=_catalog)
    vocabulary: Vocabulary | None = attrs.field(default=None, repr=False)
    clean_folder: bool = False
    lease_seconds: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    _temporary: tempfile.TemporaryDirectory[str] | None = attrs.field(
        default=None, alias="temporary", repr=False, eq=False
    )

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, *, catalog: str | None = None) -> Self:
        """Open the workspace that a file describes, as ``emdstore init`` writes it.

        Parameters
        ----------
        path
            The file, or the folder with an ``emdstore.toml``; None looks in the current folder and those above it.
            Relative paths in it are relative to it. ``EMDSTORE_SCRATCH``, ``EMDSTORE_RESULTS``, ``EMDSTORE_CATALOG``,
            ``EMDSTORE_VOCABULARY``, ``EMDSTORE_CLEAN_FOLDER`` and ``EMDSTORE_LEASE_SECONDS`` come before what it says,
            and may replace it altogether.
        catalog
            Another catalog than they say, or where they say none.

        Raises
        ------
        WorkspaceError
            If there is no such file, or it makes no sense; with the place in it.
        """
        file = _find_config(path)
        settings = _read_config(file) if file is not None else {}
        base = file.parent if file is not None else Path.cwd()
        settings = {name: _anchored(name, value, base) for name, value in settings.items()} | _from_environment()
        if catalog is not None:
            settings["catalog"] = catalog
        missing = [name for name in ("scratch", "results", "catalog") if name not in settings]
        if missing:
            raise WorkspaceError(
                f"no {', '.join(missing)} given{f' in {file}' if file else f': there is no {CONFIG_NAME} here'}; "
                "`emdstore init` writes one, or set EMDSTORE_SCRATCH, EMDSTORE_RESULTS and EMDSTORE_CATALOG"
            )
        options = settings.pop("results_options", {})
        if (vocabulary := settings.get("vocabulary")) is not None:
            from emdstore.emds import load_vocabulary

            settings["vocabulary"] = load_vocabulary(Path(vocabulary))
        try:
            settings["results"] = open_store(settings["results"], **options)
            return cls(**settings)
        except (TypeError, ValueError, CatalogError, MissingExtraError) as error:
            raise WorkspaceError(f"{file or 'the environment'}: {error}") from error

    @classmethod
    def in_memory(cls) -> Self:
        """Return a workspace for tests: results and catalog in memory, scratch in a temporary folder.

        All of it is gone with `close`, or when nothing refers to it any more.
        """
        temporary = tempfile.TemporaryDirectory(prefix="emdstore-")
        return cls(scratch=temporary.name, results=InMemoryArtifactStore(), catalog="sqlite://", temporary=temporary)

    def close(self) -> None:
        """Close the catalog's connections; a workspace in memory is gone."""
        self.catalog.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in attrs.fields(Workspace)} | {"_temporary": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    # -- executions ----------------------------------------------------------------------------------------------

    def start_execution(
        self,
        *,
        provider: str,
        diagnostic: str,
        group: str = "default",
        selectors: Mapping[str, Any] | None = None,
        dataset_hash: str | None = None,
        description: str | None = None,
        name: str | None = None,
    ) -> Execution:
        """Enter a new execution, and return its handle: a context manager to run it in.

        Parameters
        ----------
        provider, diagnostic
            Who made the diagnostic, and its name: one path segment each.
        group
            The key of the group of input datasets; it may have several segments.
        selectors, dataset_hash
            What the group's datasets have in common, and which datasets exactly.
        description
            In your words; kept in the record and in the catalog.
        name
            The execution's own name, the last segment of its fragment; by default the time and a random number.

        Returns
        -------
        Execution
            In state ``created``, with a folder of its own in scratch.

        Raises
        ------
        InvalidKeyError
            If one of the names cannot be part of a path.
        ArtifactExistsError
            If the group has an execution of this name already, in the catalog or in scratch. Nothing was changed.
        CatalogError
            If the catalog cannot be used. An empty folder may be left in scratch; `gc_executions` removes it.
        """
        now = datetime.now(UTC)
        own = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}" if name is None else name
        for what, value in (("provider", provider), ("diagnostic", diagnostic), ("name", own)):
            if "/" in value:
                raise InvalidKeyError(f"{what} is one path segment, without '/': {value!r}", key=value)
        identity = ExecutionRecord(
            fragment=join_key(*map(validate_key, (provider, diagnostic, group, own))),
            provider=provider,
            diagnostic=diagnostic,
            group=group,
            selectors=dict(selectors or {}),
            dataset_hash=dataset_hash,
            description=description,
            created_at=now,
        )
        if name is not None:
            self._take(identity.fragment)
        return self._enter(identity)

    def resume_execution(self, execution: str) -> Execution:
        """Return the handle of an execution that another process, or this one, started.

        Parameters
        ----------
        execution
            Its fragment, or its last segment.

        Raises
        ------
        ExecutionNotFoundError
            If the catalog holds no such execution, or more than one.
        """
        from emdstore.executions.execution import Execution

        self.bind()
        return Execution(self, self.catalog.execution(execution).fragment)

    def list_executions(self, *, status: str | Collection[str] | None = None) -> Query[ExecutionRow]:
        """Return the executions that the catalog holds, by fragment; `status` narrows it to one state or several."""
        if status is None:
            return self.catalog.executions()
        wanted = {status} if isinstance(status, str) else set(status)
        if unknown := wanted.difference(STATUSES):
            raise ValueError(f"no such status: {', '.join(sorted(unknown))}; there are {', '.join(STATUSES)}")
        return self.catalog.executions(status=wanted)

    def bind(self) -> None:
        """Tie the catalog to the results store; `CatalogError` if it is tied to another one."""
        self.catalog.bind_results(_place_of(self.results))

    def _take(self, fragment: str) -> None:
        """Make the folder of an execution whose name was chosen: of several who choose the same one, one gets it."""
        self.bind()
        taken = self.catalog.executions(fragment=fragment).count() > 0
        if not taken:
            try:
                self.scratch.local_path(fragment).mkdir(parents=True)
            except FileExistsError:
                taken = True
            except OSError:
                pass  # the store, which writes there next, says what is wrong
        if taken:
            raise ArtifactExistsError(
                f"there is an execution {fragment!r} already: resume it, or start one of another name",
                key=fragment,
                store=repr(self.scratch),
            )

    def _enter(self, identity: ExecutionRecord) -> Execution:
        from emdstore.executions.execution import Execution

        self.bind()
        return Execution.enter(self, identity)

    def commit_pending_executions(
        self,
        *,
        execution_ids: Collection[str] | None = None,
        clean_folder: bool | None = None,
        executor: Executor | None = None,
        progress_callback: BatchCallback | None = None,
    ) -> UploadReport:
        """Commit all that waits: stopped, failed to upload, or claimed by an owner that is gone; oldest first.

        Each is committed by `Execution.commit_output_assets`, and one that fails stops no other. What somebody else is
        committing is skipped; a running execution is never touched. Several processes may do this at once: each
        execution is committed by one of them.

        Parameters
        ----------
        execution_ids
            Only these, by fragment or last segment, whatever their state.
        clean_folder
            See `Execution.commit_output_assets`.
        executor
            Where the commits run; by default forks of this process while it has a single thread and the results are
            local or on an S3 server nearby, or threads. The workspace must pickle for processes. What a lost worker had
            in hand is committed by another one, as soon as its claim has run out.
        progress_callback
            Called in this thread after each execution, with a `BatchProgress`. What it raises is logged.

        Returns
        -------
        UploadReport
            Of all of them, with a typed error for each that failed.

        Raises
        ------
        ExecutionNotFoundError
            If one of the ids is unknown. Nothing was committed.
        ExecutorError
            If the executor takes no work, the workspace cannot be sent to its workers, or these have another emdstore.
        CommitInterrupted
            On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far; commits that run are brought to their end.
        """
        from emdstore.executions.batch import commit_pending_executions

        return commit_pending_executions(
            self,
            execution_ids=execution_ids,
            clean_folder=clean_folder,
            executor=executor,
            progress_callback=progress_callback,
        )

    def reingest(self, execution: str) -> UploadReport:
        """Publish and ingest an execution's set again, as a new execution of the same group; the old one is untouched.

        Nothing runs: the new execution takes the published files of the old one. The group's flag stays as it is.

        Parameters
        ----------
        execution
            The fragment of a published execution, or its last segment.

        Returns
        -------
        UploadReport
            Of the new execution's commit; its fragment is the only one in it.

        Raises
        ------
        ExecutionNotFoundError
            If there is no such execution, or its set is not published.
        """
        from emdstore.executions.housekeeping import reingest

        return reingest(self, execution)

    def gc_executions(
        self,
        *,
        status: str | Collection[str] = ("uploaded", "failed", "aborted"),
        older_than: timedelta = timedelta(0),
        force: bool = False,
        stale: bool = False,
        dry_run: bool = False,
    ) -> GcReport:
        """Remove from scratch what is not needed any more, with what was left behind by whatever was killed.

        Leftovers are staging files, half-removed folders, inputs that never arrived, and folders of starts that were
        cut off, which the catalog does not know.

        Parameters
        ----------
        status
            Executions in these states. The default are those of which nothing more is expected from scratch.
        older_than
            Only if nothing has happened to them for so long; also the age of leftovers, but at least an hour.
        force
            Also what was not shipped: scratch may hold the only copy. Running executions are refused all the same.
        stale
            Also files in the results store that lie in a set's folder and are not part of it any more.
        dry_run
            Only tell what would be removed.

        Returns
        -------
        GcReport
            What was removed, what was refused, and why.
        """
        from emdstore.executions.housekeeping import gc_executions

        states = (status,) if isinstance(status, str) else tuple(status)
        return gc_executions(self, states, older_than, force=force, stale=stale, dry_run=dry_run)

    def recover(self, *, older_than: timedelta | None = None) -> tuple[str, ...]:
        """Stop running executions whose process is gone, so that their logs can be committed and they can run again.

        A run that was cut off counts as a failure of the system. One that had recorded its outcome keeps it.

        Parameters
        ----------
        older_than
            Also those of other machines that started so long ago; what runs there cannot be seen from here.

        Returns
        -------
        tuple of str
            The executions that were stopped.
        """
        from emdstore.executions.housekeeping import recover

        return recover(self, older_than)


def write_config(path: Path, *, scratch: str, results: str, catalog: str, vocabulary: str | None = None) -> Path:
    """Write the file that `Workspace.open` reads.

    Parameters
    ----------
    path
        The folder to write ``emdstore.toml`` to; it is made if it is not there.
    scratch, results, catalog, vocabulary
        Paths, relative to the folder, or URLs.

    Raises
    ------
    WorkspaceError
        If the file is there already. It was left as it is.
    """
    file = path / CONFIG_NAME
    lines = ["# An emdstore workspace; EMDSTORE_SCRATCH, EMDSTORE_RESULTS and EMDSTORE_CATALOG come before these."]
    settings = {"scratch": scratch, "results": results, "catalog": catalog, "vocabulary": vocabulary}
    lines += [f"{name} = {_toml_text(value)}" for name, value in settings.items() if value is not None]
    path.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise WorkspaceError(f"{file} is there already; edit it, or remove it first") from None
    return file


def _toml_text(value: str) -> str:
    # A TOML basic string takes the escapes of JSON.
    import json

    return json.dumps(value, ensure_ascii=False)


def _find_config(path: str | os.PathLike[str] | None) -> Path | None:
    if path is not None:
        file = Path(path) / CONFIG_NAME if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise WorkspaceError(f"there is no {file}; `emdstore init` writes one")
        return file.resolve()
    if named := os.environ.get(_ENVIRONMENT + "CONFIG"):
        return _find_config(named)
    here = Path.cwd()
    return next((file for folder in (here, *here.parents) if (file := folder / CONFIG_NAME).is_file()), None)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise WorkspaceError(f"{file}: {error}") from None
    if unknown := [name for name in settings if name not in _SETTINGS]:
        raise WorkspaceError(f"{file}: unknown setting {unknown[0]!r}; there are {', '.join(_SETTINGS)}")
    for name, kind in (
        ("scratch", str),
        ("results", str),
        ("catalog", str),
        ("vocabulary", str),
        ("clean_folder", bool),
    ):
        if name in settings and not isinstance(settings[name], kind):
            raise WorkspaceError(f"{file}: {name} is {kind.__name__}, not {settings[name]!r}")
    return settings


def _anchored(name: str, value: Any, base: Path) -> Any:
    """Return a setting with its path relative to the file that it stands in."""
    if name not in ("scratch", "results", "catalog", "vocabulary"):
        return value
    if value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
        return "sqlite:///" + os.fspath(base / value.removeprefix("sqlite:///"))
    return value if "://" in value else os.fspath(base / Path(value).expanduser())


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("scratch", "results", "catalog", "vocabulary"):
        if value := os.environ.get(_ENVIRONMENT + name.upper()):
            found[name] = value
    if value := os.environ.get(_ENVIRONMENT + "CLEAN_FOLDER"):
        if value.lower() not in ("1", "true", "yes", "0", "false", "no"):
            raise WorkspaceError(f"EMDSTORE_CLEAN_FOLDER is true or false, not {value!r}")
        found["clean_folder"] = value.lower() in ("1", "true", "yes")
    if value := os.environ.get(_ENVIRONMENT + "LEASE_SECONDS"):
        try:
            found["lease_seconds"] = float(value)
        except ValueError:
            raise WorkspaceError(f"EMDSTORE_LEASE_SECONDS is a number, not {value!r}") from None
    return found


def _place_of(store: ArtifactStore) -> str:
    return os.path.realpath(store.local_path()) if isinstance(store, SupportsPath) else repr(store)
