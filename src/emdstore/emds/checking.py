"""Checking one file of a set on request: against its JSON Schema, and as it would be read."""

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
"""How many deviations from a schema are told: one mistake in a generator is made thousands of times."""

_Decoded = MetricBundle | OutputBundle | tuple[Series, ...]


@attrs.frozen
class BundleCheck:
    """What came of checking a file.

    Attributes
    ----------
    kind
        What it is.
    error
        Why it cannot be read at all; None if it can.
    deviations
        Where it is not as its schema says. What can be read all the same is taken in, with a warning where it matters.
    warnings
        What is odd, as an ingest would record it.
    """

    kind: BundleKind
    error: str | None = None
    deviations: tuple[BundleWarning, ...] = ()
    warnings: tuple[BundleWarning, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it can be read, and is as its schema says."""
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
        What to call it in messages.
    kind
        What it is; None to tell by what is in it.
    vocabulary
        What its dimensions are compared with.

    Returns
    -------
    BundleCheck
        What is wrong is in it, not raised.

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
            yield BundleWarning("schema", "and more", "$")
            return
        while found.context:
            # Of several ways in which a value could be right, the one that leads furthest is the one that was meant.
            found = max(found.context, key=lambda each: len(each.absolute_path))
        yield BundleWarning("schema", f"{found.message:.300}", place(*found.absolute_path))


def _dimensions(decoded: _Decoded) -> Iterator[Mapping[str, str]]:
    if isinstance(decoded, MetricBundle):
        return (scalar.dimensions for scalar in decoded.iter_scalars())
    return (each.dimensions for each in (decoded.entries if isinstance(decoded, OutputBundle) else decoded))
