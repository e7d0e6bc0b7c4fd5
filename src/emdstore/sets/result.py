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
    """Any object with these attributes, such as an `ExecutionResult` of ``climate_ref_core``; see `as_result`."""

    @property
    def successful(self) -> bool:
        """Whether the run succeeded."""
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
        Whether it succeeded.
    metric_bundle_filename, output_bundle_filename, series_filename
        The bundles that it wrote, relative to its output directory (or absolute inside it); None for those it did not
        write.
    retryable
        Whether a failed run may succeed another time (no memory, no disk, a signal).
    output_directory
        The folder in which it ran. Absolute names in its bundles are made relative to it.
    """

    successful: bool
    metric_bundle_filename: str | None = attrs.field(default=None, converter=_text)
    output_bundle_filename: str | None = attrs.field(default=None, converter=_text)
    series_filename: str | None = attrs.field(default=None, converter=_text)
    retryable: bool = False
    output_directory: str | None = attrs.field(default=None, converter=_text)


def as_result(result: ResultLike) -> ExecutionResult:
    """Convert the result of any framework to an `ExecutionResult`.

    Parameters
    ----------
    result
        An object with the attributes of `ExecutionResult`; only `successful` and `metric_bundle_filename` are required.
        The directory is taken from ``result.definition.output_directory`` if there is one.
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
    """Return the result of a folder without a record: it is successful if the usual metric bundle is there."""
    names = [name if store.exists(join_key(folder, name)) else None for name in (METRIC_NAME, OUTPUT_NAME, SERIES_NAME)]
    return ExecutionResult(
        successful=names[0] is not None,
        metric_bundle_filename=names[0],
        output_bundle_filename=names[1],
        series_filename=names[2],
    )
