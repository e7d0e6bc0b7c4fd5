"""Only the first verb, for Climate-REF: copying bytes from scratch to results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped
from emdstore.transfers import ProgressCallback

if TYPE_CHECKING:
    from climate_ref.config import Config
    from climate_ref.models.execution import Execution
    from climate_ref_core.diagnostics import ExecutionResult


def materialize_execution(
    config: Config,
    execution: Execution,
    result: ExecutionResult,
    *,
    results: ArtifactStore | None = None,
    on_progress: ProgressCallback | None = None,
) -> MaterializeOutcome:
    """Promote the set of a Climate-REF execution from scratch to results; see `emdstore.materialize_outputs`.

    The database is not touched, and no record is written; `handle_execution_result` does all of it.

    Parameters
    ----------
    config
        Climate-REF's; ``config.paths`` says where scratch and results are.
    execution
        Climate-REF's; its output fragment is the folder in both.
    result
        What the run said.
    results
        The results store; by default the folder ``config.paths.results``.
    on_progress
        See `emdstore.transfer`.

    Raises
    ------
    SameStoreError
        If scratch and results are the same place. Nothing was moved.
    StoreError
        If one of the stores cannot be used. Everything that has arrived is whole.
    """
    fragment = execution.output_fragment
    store = LocalArtifactStore(config.paths.results) if results is None else results
    return materialize_outputs(
        result,
        source=LocalArtifactStore(Path(config.paths.scratch) / fragment),
        dest=scoped(store, fragment),
        fragment=fragment,
        results=store,
        on_progress=on_progress,
    )
