"""Climate-REF's reingest, even if scratch is gone and only the results tree is left."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from climate_ref.executor import reingest
from climate_ref.models.execution import Execution
from climate_ref_core.diagnostics import ExecutionDefinition, ExecutionResult
from climate_ref_core.output_files import SANITISED_FILE_GLOBS, rewrite_tree

from emdstore.catalog import ExecutionContent
from emdstore.emds import RECORD_NAME
from emdstore.errors import EmdstoreError
from emdstore.ingestion.reading import read_set
from emdstore.integrations.climate_ref.handling import handle_execution_result
from emdstore.sets.record import read_record
from emdstore.sets.repair import prove_set
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped
from emdstore.transfers import move

if TYPE_CHECKING:
    from climate_ref.config import Config
    from climate_ref.database import Database
    from climate_ref.provider_registry import ProviderRegistry

_log = logging.getLogger(__name__)
_theirs = reingest.reingest_execution


def reingest_execution(
    config: Config,
    database: Database,
    execution: Execution,
    provider_registry: ProviderRegistry,
    *,
    results: ArtifactStore | None = None,
) -> bool:
    """Reingest an execution as a new one of its group; has the signature of Climate-REF's function.

    If the execution's scratch folder is gone, the published files replace it during Climate-REF's reingest, with paths
    of another machine rewritten. If a diagnostic cannot build its result from published files alone, because it needs
    working files that are never published, its published bundles are used unchanged.

    Parameters
    ----------
    config, database, execution, provider_registry
        See Climate-REF.
    results
        The results store; by default the folder ``config.paths.results``.

    Returns
    -------
    bool
        Whether there is a new execution. If not, the log says why, and nothing was changed.
    """
    fragment = execution.output_fragment
    scratch = Path(config.paths.scratch) / fragment
    store = LocalArtifactStore(config.paths.results) if results is None else results
    with _our_handler(results):
        if scratch.exists():
            return bool(_theirs(config, database, execution, provider_registry))
        try:
            prove_set(store, fragment)
            content = read_set(store, fragment)
            _restore(scoped(store, fragment), content, scratch)
        except EmdstoreError as error:
            _log.error("%s cannot be reingested: its scratch folder is gone, and: %s", fragment, error)
            return False
        try:
            registry: Any = (
                _Published(provider_registry, content) if content.status == "uploaded" else provider_registry
            )
            return bool(_theirs(config, database, execution, registry))
        finally:
            shutil.rmtree(scratch)


@contextmanager
def _our_handler(results: ArtifactStore | None) -> Iterator[None]:
    before = reingest.handle_execution_result
    reingest.handle_execution_result = functools.partial(handle_execution_result, results=results)
    try:
        yield
    finally:
        reingest.handle_execution_result = before


def _restore(folder: ArtifactStore, content: ExecutionContent, scratch: Path) -> None:
    """Restore a published set to scratch as a whole, as if it had run there."""
    staging = scratch.with_name(f".{scratch.name}.restoring")
    shutil.rmtree(staging, ignore_errors=True)
    keys = [key for key in folder.iter_keys() if key != RECORD_NAME]
    move(folder, LocalArtifactStore(staging), keys).raise_for_failures()
    if moved := dict.fromkeys(_former_places(folder, content) - {str(scratch)}, str(scratch)):
        rewrite_tree(staging, moved, SANITISED_FILE_GLOBS)
    staging.replace(scratch)


def _former_places(folder: ArtifactStore, content: ExecutionContent) -> set[str]:
    """Return the absolute paths that the set's files have of the folder in which they were made."""
    record = read_record(folder)
    told = record.result.output_directory if record is not None and record.result is not None else None
    places = {told} if told else set()
    for _, _, key, filename, *_ in content.outputs:
        if key is not None and filename.startswith("/") and filename.endswith(f"/{key}"):
            places.add(filename[: -len(key) - 1])
    return places


@attrs.frozen
class _Published:
    """A registry whose diagnostics fall back on the published bundles."""

    registry: ProviderRegistry
    content: ExecutionContent

    def get_metric(self, provider_slug: str, diagnostic_slug: str) -> _PublishedDiagnostic:
        bundles = {role: key for key, role, *_ in self.content.artifacts if role in ("metric", "output", "series")}
        return _PublishedDiagnostic(self.registry.get_metric(provider_slug, diagnostic_slug), bundles)


class _PublishedDiagnostic:
    """A Climate-REF diagnostic with another way to its result, if the first one needs files that are gone."""

    def __init__(self, diagnostic: Any, bundles: dict[str, str]) -> None:
        self._diagnostic = diagnostic
        self._bundles = bundles

    def __getattr__(self, name: str) -> Any:
        return getattr(self._diagnostic, name)

    def build_execution_result(self, definition: ExecutionDefinition) -> ExecutionResult:
        paths = {role: definition.to_output_path(key) for role, key in self._bundles.items()}
        published = {path: path.read_bytes() for path in paths.values()}
        try:
            built: ExecutionResult = self._diagnostic.build_execution_result(definition)
            if built.successful:
                return built
            why = "it did not succeed"
        except Exception as error:  # noqa: BLE001 - it is a diagnostic's own code
            why = f"{type(error).__name__}: {error}"
        _log.warning(
            "%s cannot be built again from what was published (%s): its bundles are taken as they are",
            definition.output_directory,
            why,
        )
        for path, data in published.items():
            path.write_bytes(data)
        names = {role: Path(key) for role, key in self._bundles.items()}
        return ExecutionResult(
            definition=definition,
            successful=True,
            metric_bundle_filename=names.get("metric"),
            output_bundle_filename=names.get("output"),
            series_filename=names.get("series"),
        )
