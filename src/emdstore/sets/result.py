"""What a run says of itself."""

from __future__ import annotations

import os
from typing import Any, Protocol

import attrs

from emdstore.keys import join_key
from emdstore.stores.port import ArtifactStore

LOG_NAME = "out.log"
METRIC_NAME = "diagnostic.json"
OUTPUT_NAME = "output.json"
SERIES_NAME = "series.json"


class ResultLike(Protocol):
    """What `as_result` accepts, such as an `ExecutionResult` of ``climate_ref_core``: told by its attributes."""

    @property
    def successful(self) -> bool:
        """Whether the run ended well."""
        ...

    @property
    def metric_bundle_filename(self) -> Any:
        """The metric bundle's name, as text or path, or None."""
        ...


def _text(name: str | os.PathLike[str] | None) -> str | None:
    return None if name is None else os.fspath(name)


@attrs.frozen(kw_only=True)
class ExecutionResult:
    """What a run says of itself.

    Attributes
    ----------
    successful
        Whether it ended well.
    metric_bundle_filename, output_bundle_filename, series_filename
        The bundles that it wrote, relative to its output directory (or absolute inside it); None where it wrote none.
    retryable
        Of a failed run: whether the same run may succeed another time (no memory, no disk, a signal).
    output_directory
        Where it ran. Absolute names in its bundles are made relative to it.
    """

    successful: bool
    metric_bundle_filename: str | None = attrs.field(default=None, converter=_text)
    output_bundle_filename: str | None = attrs.field(default=None, converter=_text)
    series_filename: str | None = attrs.field(default=None, converter=_text)
    retryable: bool = False
    output_directory: str | None = attrs.field(default=None, converter=_text)


def as_result(result: ResultLike) -> ExecutionResult:
    """Return the result of any framework as ours.

    Parameters
    ----------
    result
        An object with the attributes of `ExecutionResult`; only `successful` and `metric_bundle_filename` must be
        there. The directory is taken from ``result.definition.output_directory`` where it has that.
    """
    if isinstance(result, ExecutionResult):
        return result
    definition = getattr(result, "definition", None)
    return ExecutionResult(
        successful=result.successful,
        metric_bundle_filename=result.metric_bundle_filename,
        output_bundle_filename=getattr(result, "output_bundle_filename", None),
        series_filename=getattr(result, "series_filename", None),
        retryable=getattr(result, "retryable", False),
        output_directory=getattr(definition, "output_directory", getattr(result, "output_directory", None)),
    )


def usual_result(store: ArtifactStore, folder: str = "") -> ExecutionResult:
    """Return the result of a folder that has no record: it is successful if the usual metric bundle lies there."""
    names = [name if store.exists(join_key(folder, name)) else None for name in (METRIC_NAME, OUTPUT_NAME, SERIES_NAME)]
    return ExecutionResult(
        successful=names[0] is not None,
        metric_bundle_filename=names[0],
        output_bundle_filename=names[1],
        series_filename=names[2],
    )
