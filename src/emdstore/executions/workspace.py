"""A project's place, with everything that can be done there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from emdstore.emds import load_vocabulary
from emdstore.errors import CatalogError, MissingExtraError, WorkspaceError
from emdstore.executions import batch, housekeeping, recovering, reingesting, starting
from emdstore.executions.locations import Locations
from emdstore.executions.settings import read_settings
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.urls import open_store


@attrs.frozen(kw_only=True)
class Workspace(Locations):
    """A scratch folder, a results store and a catalog that belong together.

    It pickles as its configuration, so that executions can be committed in other processes. The first use ties the
    catalog to the results store; after that another results store is refused.

    Attributes
    ----------
    scratch
        The folder in which executions run: a `LocalArtifactStore`, or its path.
    results
        The store in which sets are published: a store, or its URL.
    catalog
        The database: a `Catalog`, or its URL.
    vocabulary
        The vocabulary that dimensions and values are checked against at ingest; None for no check.
    clean_folder
        Whether a commit removes the execution's scratch folder when everything is proved to be published.
    clean_unnamed
        Whether it does so even if the folder contains files that no bundle names, such as working files.
    lease_seconds
        How long a commit's claim holds unless it is renewed. Its owner renews it while it lives.
    """

    _temporary: tempfile.TemporaryDirectory[str] | None = attrs.field(
        default=None, alias="temporary", repr=False, eq=False
    )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        catalog: str | None = None,
        results_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open the workspace that a file describes, as ``emdstore init`` writes it.

        Parameters
        ----------
        path
            The file, or the folder with an ``emdstore.toml``; None searches the current folder and those above it.
            Relative paths in it are relative to it. ``EMDSTORE_SCRATCH``, ``EMDSTORE_RESULTS``, ``EMDSTORE_CATALOG``,
            ``EMDSTORE_VOCABULARY``, ``EMDSTORE_CLEAN_FOLDER``, ``EMDSTORE_CLEAN_UNNAMED`` and
            ``EMDSTORE_LEASE_SECONDS`` override what it says, and may replace it completely.
        catalog
            A catalog, instead of the one in the settings.
        results_options
            Options of `open_store` for the results store; they override the settings.

        Raises
        ------
        WorkspaceError
            If there is no such file, or it is not valid; the message names the place in it.
        """
        settings, where = read_settings(path, catalog=catalog)
        options = settings.pop("results_options", {})
        if (vocabulary := settings.get("vocabulary")) is not None:
            settings["vocabulary"] = load_vocabulary(Path(vocabulary))
        try:
            settings["results"] = open_store(settings["results"], **{**options, **(results_options or {})})
            return cls(**settings)
        except (TypeError, ValueError, CatalogError, MissingExtraError) as error:
            raise WorkspaceError(f"{where}: {error}") from error

    @classmethod
    def in_memory(cls) -> Self:
        """Return a workspace for tests, with results and catalog in memory and scratch in a temporary folder.

        It disappears with `close`, or when nothing refers to it any more.
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

    # -- what can be done here; each function is described in its module -----------------------------

    start_execution = starting.start_execution
    resume_execution = starting.resume_execution
    list_executions = starting.list_executions
    commit_pending_executions = batch.commit_pending_executions
    reingest = reingesting.reingest
    gc_executions = housekeeping.gc_executions
    recover = recovering.recover
