"""Checking one file of a set: against its JSON Schema, and by reading it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Literal

import attrs

from emdstore.emds.jsontext import duplicate_keys, parse, place
from emdstore.emds.metric import MetricBundle, decode_metric_bundle
from emdstore.emds.output import OutputBundle, decode_output_bundle
from emdstore.emds.series import Series, decode_series
from emdstore.emds.vocabulary import Vocabulary
from emdstore.emds.warning import BundleWarning
from emdstore.errors import BundleError, MissingExtraError

BundleKind = Literal["metric", "output", "series"]

_MOST = 100
"""How many deviations from a schema are reported: a mistake in a generator may occur thousands of times."""

_Decoded = MetricBundle | OutputBundle | tuple[Series, ...]


@attrs.frozen
class BundleCheck:
    """The result of checking a file.

    Attributes
    ----------
    kind
        The kind of file.
    error
        Why it cannot be read at all; None if it can.
    deviations
        Where it deviates from its schema. A file that can be read is ingested anyway.
    warnings
        The warnings that an ingest would record.
    """

    kind: BundleKind
    error: str | None = None
    deviations: tuple[BundleWarning, ...] = ()
    warnings: tuple[BundleWarning, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it can be read and follows its schema."""
        return self.error is None and not self.deviations


def bundle_schema(kind: BundleKind) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one of the three files."""
    text = (files("emdstore.emds") / "schemas" / f"{kind}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check_bundle(
    data: bytes, *, name: str, kind: BundleKind | None = None, vocabulary: Vocabulary | None = None
) -> BundleCheck:
    """Check a metric bundle, an output bundle or a series file.

    Parameters
    ----------
    data
        The file's bytes.
    name
        The file's name in messages.
    kind
        The kind of file; by default its content decides.
    vocabulary
        Checks its dimensions, too.

    Returns
    -------
    BundleCheck
        Errors are in it; they are not raised.

    Raises
    ------
    MissingExtraError
        If the library jsonschema is not installed.
    """
    try:
        value = parse(data, name)
    except BundleError as error:
        return BundleCheck(kind or "metric", str(error))
    kind = kind or _kind_of(value)
    deviations = tuple(_deviations(value, kind))
    try:
        decoded: _Decoded = _DECODE[kind](data, name=name)
    except BundleError as error:
        return BundleCheck(kind, str(error), deviations)
    warnings = [*duplicate_keys(data, name=name)]
    if not isinstance(decoded, tuple):
        warnings += decoded.warnings
    if vocabulary is not None:
        found = (finding for each in _dimensions(decoded) for finding in vocabulary.check(each))
        warnings += dict.fromkeys(found)
    return BundleCheck(kind, None, deviations, tuple(warnings))


_DECODE: Mapping[BundleKind, Callable[..., _Decoded]] = {
    "metric": decode_metric_bundle,
    "output": decode_output_bundle,
    "series": decode_series,
}


def _kind_of(value: object) -> BundleKind:
    if isinstance(value, list):
        return "series"
    return "metric" if isinstance(value, dict) and {"DIMENSIONS", "RESULTS"} & value.keys() else "output"


def _deviations(value: Any, kind: BundleKind) -> Iterator[BundleWarning]:
    try:
        from jsonschema import Draft202012Validator
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("checking a bundle against its schema", "cli") from error
    for number, found in enumerate(Draft202012Validator(bundle_schema(kind)).iter_errors(value)):
        if number == _MOST:
            yield BundleWarning("schema", "there are more deviations", "$")
            return
        while found.context:
            # Of several alternatives, report the one that matches deepest: it is most likely the intended one.
            found = max(found.context, key=lambda each: len(each.absolute_path))
        yield BundleWarning("schema", f"{found.message:.300}", place(*found.absolute_path))


def _dimensions(decoded: _Decoded) -> Iterator[Mapping[str, str]]:
    if isinstance(decoded, MetricBundle):
        return (scalar.dimensions for scalar in decoded.iter_scalars())
    return (each.dimensions for each in (decoded.entries if isinstance(decoded, OutputBundle) else decoded))
