"""Replacing Climate-REF's handler with emdstore's in a running process, and undoing it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from climate_ref.executor import reingest, result_handling

from emdstore.integrations.climate_ref.handling import handle_execution_result
from emdstore.integrations.climate_ref.reingesting import reingest_execution
from emdstore.integrations.climate_ref.schema import installed_revision
from emdstore.stores import ArtifactStore

_THEIRS: dict[str, Callable[..., Any]] = {
    "handle_execution_result": result_handling.handle_execution_result,
    "reingest_execution": reingest.reingest_execution,
}


class Installation:
    """What `install` did. As a context manager it restores what was there before."""

    def __init__(self, before: dict[str, Callable[..., Any]]) -> None:
        self._before = before

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _swap(self._before)


def install(results: ArtifactStore | None = None) -> Installation:
    """Make Climate-REF's executors, Celery workers and reingest use emdstore's handler from now on.

    The executors, including process pools, handle results in the process in which they were created, and a Celery
    worker in its own: every such process has to call `install`.

    Parameters
    ----------
    results
        The results store; by default the folder ``config.paths.results``.

    Returns
    -------
    Installation
        For ``with install(): ...``; otherwise `uninstall` undoes it.

    Raises
    ------
    CatalogVersionError
        If the installed climate-ref has an unknown version. Nothing was changed.
    """
    installed_revision()
    before = {name: _current(name) for name in _THEIRS}
    _swap(
        {
            "handle_execution_result": functools.partial(handle_execution_result, results=results),
            "reingest_execution": functools.partial(reingest_execution, results=results),
        }
    )
    return Installation(before)


def uninstall() -> None:
    """Put Climate-REF's own handler back. Without `install` before it, nothing happens."""
    _swap(_THEIRS)


def _current(name: str) -> Callable[..., Any]:
    home = result_handling if name in vars(result_handling) else reingest
    found: Callable[..., Any] = vars(home)[name]
    return found


def _swap(functions: dict[str, Callable[..., Any]]) -> None:
    """Bind names to other functions, in every module of Climate-REF that has imported them."""
    for name, function in functions.items():
        now = _current(name)
        for module in list(sys.modules.values()):
            if (getattr(module, "__name__", "") or "").startswith("climate_ref") and vars(module).get(name) is now:
                setattr(module, name, function)
