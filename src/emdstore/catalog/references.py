"""What a value is of: a model, a reference or an ensemble; which reference; in which units.

Frameworks write this in their bundles in several ways: beside a series, in its attributes, or as dimensions. The
catalog has it in columns of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from emdstore.catalog.rows import ScalarRow, SeriesRow

MODEL, REFERENCE, ENSEMBLE = "model", "reference", "ensemble"

_REFERENCES = ("reference_id", "reference_source_id", "reference_datasets", "reference_dataset")
_UNITS = ("value_units", "units")
_KINDS: Mapping[str, str] = {
    "model": MODEL, "simulation": MODEL,
    "reference": REFERENCE, "observation": REFERENCE, "obs": REFERENCE,
    "ensemble": ENSEMBLE, "ensemble_statistic": ENSEMBLE, "multi_model_statistic": ENSEMBLE,
}  # fmt: skip


def kind_of(dimensions: Mapping[str, str], attributes: Mapping[str, Any]) -> str:
    """Return whether a value is of a ``model``, a ``reference`` or an ``ensemble``; of a model if nothing says more.

    It is said by ``kind`` beside the value, among its attributes or as a dimension; or by the dimension ``source_id``,
    whose value is then ``Reference`` or ``Ensemble``.
    """
    for said in (attributes.get("kind"), dimensions.get("kind"), dimensions.get("source_id")):
        if isinstance(said, str) and (kind := _KINDS.get(said.strip().lower().replace(" ", "_").replace("-", "_"))):
            return kind
    return MODEL


def reference_of(dimensions: Mapping[str, str], attributes: Mapping[str, Any]) -> str | None:
    """Return which reference a value is of, or was compared with; None if nothing says so."""
    for name in _REFERENCES:
        for said in (attributes.get(name), dimensions.get(name)):
            if isinstance(said, str) and said.strip():
                return said
    return None


def units_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the units of a value; None if nothing says so. ``""`` and ``1`` are units, too."""
    return next((said for name in _UNITS if isinstance(said := attributes.get(name), str)), None)


def subject_of(
    dimensions: Mapping[str, str], attributes: Mapping[str, Any] | None
) -> tuple[str, str | None, str | None]:
    """Return kind, reference and units of a value."""
    said = attributes or {}
    return kind_of(dimensions, said), reference_of(dimensions, said), units_of(said)


def described_units(allowed: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, str]]:
    """Return the units in the descriptions of dimensions' values, as ILAMB has them for each statistic."""
    told = {
        dimension: {
            value: said
            for value, about in values.items()
            if isinstance(about, Mapping) and (said := units_of(about)) is not None
        }
        for dimension, values in allowed.items()
    }
    return {dimension: units for dimension, units in told.items() if units}


def with_described_units(
    units: Mapping[str, Mapping[str, str]],
    identity: tuple[str, str | None, str | None],
    dimensions: Mapping[str, str],
) -> tuple[str, str | None, str | None]:
    """Return an identity with the units that are described for one of the dimensions' values, if it has none.

    Two that differ say nothing: nobody knows which of them is meant.
    """
    if identity[2] is not None:
        return identity
    said = {units[name][value] for name, value in dimensions.items() if value in units.get(name, ())}
    return (*identity[:2], said.pop()) if len(said) == 1 else identity


_TELLING = ("kind", "source_id", *_REFERENCES)
say_nothing = frozenset(_TELLING).isdisjoint
"""Tell of the names of some dimensions whether none of them tells what a value is of."""


def identities_of(
    dimensions: Iterable[Mapping[str, str]], attributes: Iterable[Mapping[str, Any] | None]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield `subject_of` for many values; those that share their attributes and say the same are looked at once."""
    last: object = None
    known: dict[object, tuple[str, str | None, str | None]] = {}
    for some, said in zip(dimensions, attributes, strict=True):
        if said is not last:
            last, known = said, {}
        told = None if say_nothing(some) else tuple(map(some.get, _TELLING))
        if (identity := known.get(told)) is None:
            identity = known[told] = subject_of(some, said)
        yield identity


@attrs.frozen
class Conflict:
    """One label under which executions have different references.

    Attributes
    ----------
    provider, diagnostic
        Of which diagnostic.
    reference_id
        The reference, where it has a name.
    dimensions
        What tells it from the diagnostic's other references.
    index_name
        What a series runs along; empty for a scalar.
    contents
        The executions, by folder, that agree with each other; those that most agree on come first.
    """

    provider: str
    diagnostic: str
    reference_id: str | None
    dimensions: Mapping[str, str]
    index_name: str
    contents: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Say it in a line."""
        of = ", ".join(f"{name}={value}" for name, value in self.dimensions.items())
        few = "; ".join(each[0] for each in self.contents[:3])
        more = "; ..." if len(self.contents) > 3 else ""
        name = self.reference_id or "a reference"
        return (
            f"{self.provider}/{self.diagnostic}: {name} ({of}) has {len(self.contents)} different contents: {few}{more}"
        )


def conflicting_references(scalars: Iterable[ScalarRow], series: Iterable[SeriesRow]) -> list[Conflict]:
    """Find labels of references whose content is not the same in all executions.

    Parameters
    ----------
    scalars, series
        Rows of a catalog; those that are of no reference are passed over. Only digests of them are kept.

    Returns
    -------
    list of Conflict
        In the order of their labels.
    """
    found: dict[tuple[str, str, str, str, str], dict[str, list[str]]] = {}

    def note(row: ScalarRow | SeriesRow, index_name: str, content: object) -> None:
        if row.kind == REFERENCE:
            label = (row.provider, row.diagnostic, row.reference_id or "", index_name, _text(row.dimensions))
            by_content = found.setdefault(label, {})
            digest = hashlib.blake2b(_text(content).encode(), digest_size=16).hexdigest()
            fragments = by_content.setdefault(digest, [])
            if row.fragment not in fragments[-1:]:
                fragments.append(row.fragment)

    for scalar in scalars:
        note(scalar, "", scalar.value)
    for one in series:
        note(one, one.index_name, (one.index, one.values))
    return [
        Conflict(provider, diagnostic, reference or None, json.loads(dimensions), index_name, _ranked(contents))
        for (provider, diagnostic, reference, index_name, dimensions), contents in sorted(found.items())
        if _differ(contents)
    ]


def _ranked(contents: Mapping[str, list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(each) for each in sorted(contents.values(), key=len, reverse=True))


def _differ(contents: Mapping[str, list[str]]) -> bool:
    """Tell whether executions differ; one that holds several under one label does not differ from itself."""
    held: dict[str, set[str]] = {}
    for content, fragments in contents.items():
        for fragment in fragments:
            held.setdefault(fragment, set()).add(content)
    return len({frozenset(each) for each in held.values()}) > 1


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
