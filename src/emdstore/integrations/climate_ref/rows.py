"""One set's content as rows of Climate-REF's tables. Only numbers are special: they are hashed as they are spelled.

The tables have a column for each dimension of Climate-REF's vocabulary. Other dimensions are kept among the attributes
and reported.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import attrs
import msgspec
from climate_ref.models.execution import ResultOutputType

from emdstore.catalog import ExecutionContent
from emdstore.errors import BundleError
from emdstore.integrations.climate_ref.schema import RefSchema
from emdstore.stores import ArtifactStore

Row = dict[str, Any]

_KIND = "kind"
_MODEL, _REFERENCE = "model", "reference"


@attrs.frozen
class Axis:
    """The index of a series, and the digest by which Climate-REF's database finds it."""

    digest: str
    name: str
    values: list[str | int | float]

    @classmethod
    def of(cls, name: str, values: list[str | int | float]) -> Axis:
        """Return an axis with its digest."""
        from climate_ref.models import SeriesIndex

        return cls(SeriesIndex.compute_hash(name, values), name, values)


@attrs.frozen
class RefRows:
    """What Climate-REF's database should have of one execution.

    Attributes
    ----------
    outputs, scalars, series
        Rows by column, without the execution. The columns of all rows of one part are the same.
    axes
        The index of each series, if the schema has a table for it.
    notes
        Remarks for people about what did not fit: dimensions without a column, outputs that lead nowhere.
    """

    outputs: Sequence[Row] = ()
    scalars: Sequence[Row] = ()
    series: Sequence[Row] = ()
    axes: Sequence[Axis] = ()
    notes: tuple[str, ...] = ()


def rows_of(content: ExecutionContent, schema: RefSchema, folder: ArtifactStore) -> RefRows:
    """Turn the content of a set into rows.

    Parameters
    ----------
    content
        The result of `read_set`.
    schema
        Of the database.
    folder
        The set's folder in the results store.

    Raises
    ------
    BundleError
        If a value has a role (``kind``) that the database does not know.
    """
    lost = _WithoutColumn(schema)
    scalars = list(_scalars(content.scalars, lost))
    series, axes = _series(content, lost, folder)
    outputs = list(_outputs(content.outputs, lost))
    warned = tuple(message for _, message, _ in content.warnings)
    return RefRows(outputs, scalars, series, axes, (*lost.notes, *warned))


@attrs.define
class _WithoutColumn:
    """Separates dimensions with a column from those without, and counts the latter."""

    schema: RefSchema
    counts: dict[tuple[str, str], int] = attrs.field(factory=dict)

    def split(self, names: Iterable[str], columns: frozenset[str]) -> tuple[list[str], list[str]]:
        role = {_KIND} if self.schema.has_roles else set()
        names = [name for name in names if name not in role]
        return [name for name in names if name in columns], [name for name in names if name not in columns]

    def count(self, names: Iterable[str], what: str, number: int = 1) -> None:
        for name in names:
            self.counts[name, what] = self.counts.get((name, what), 0) + number

    @property
    def notes(self) -> list[str]:
        kept = {"outputs": "it is only in the output bundle"}
        return [
            f"the dimension {name!r} of {number} {what} has no column in the database: "
            f"{kept.get(what, 'it is kept among their attributes')}"
            for (name, what), number in self.counts.items()
        ]


def _scalars(scalars: Iterable[Any], lost: _WithoutColumn) -> Iterator[Row]:
    rows = iter(scalars)
    first = next(rows, None)
    if first is None:
        return
    # All scalars of a bundle have the same dimensions.
    known, unknown = lost.split(first[1], lost.schema.value_dimensions)
    number = 0
    clean = _Attributes()
    with_role = lost.schema.has_roles and _KIND in lost.schema.value_dimensions
    pick = itemgetter(*known) if len(known) > 1 else None
    for value, dimensions, attributes in itertools.chain([first], rows):
        number += 1
        row: Row = dict(zip(known, pick(dimensions), strict=True)) if pick else {n: dimensions[n] for n in known}
        row["value"] = math.nan if value is None else value
        row["attributes"] = clean(attributes) if not unknown else _merged(clean(attributes), dimensions, unknown)
        if with_role:
            row[_KIND] = _role(dimensions.get(_KIND))
        yield row
    lost.count(unknown, "scalars", number)


def _series(content: ExecutionContent, lost: _WithoutColumn, folder: ArtifactStore) -> tuple[list[Row], list[Axis]]:
    schema = lost.schema
    clean = _Attributes()
    series = list(content.series)
    split = [lost.split(dimensions, schema.value_dimensions) for dimensions, *_ in series]
    used = list(dict.fromkeys(name for known, _ in split for name in known))
    rows: list[Row] = []
    axes: list[Axis] = []
    known_axes: dict[bytes, Axis] = {}
    references: list[int] = []
    for position, (dimensions, index_name, index, values, attributes) in enumerate(series):
        unknown = split[position][1]
        row: Row = {name: dimensions.get(name) for name in used}
        numbers: list[Any] = list(values)
        finite = all(map(math.isfinite, numbers))
        row["values"] = numbers if finite else [one if math.isfinite(one) else None for one in numbers]
        told = dict(clean(attributes) or {})
        if schema.has_roles:
            role = _role(told.pop(_KIND, None) or _MODEL)
            told.pop("reference_id", None)
            if _KIND in schema.value_dimensions:
                row[_KIND] = role
            row["reference_id"] = None
            if role == _REFERENCE:
                references.append(position)
        if schema.has_axes:
            spelled = msgspec.json.encode((index_name, index))  # 1 and 1.0 are equal, but different axes
            if spelled not in known_axes:
                known_axes[spelled] = Axis.of(index_name, list(index))
            axes.append(known_axes[spelled])
        else:
            row |= {"index": list(index), "index_name": index_name}
        row["attributes"] = _merged(told or None, dimensions, unknown) if unknown else told or None
        lost.count(unknown, "series")
        rows.append(row)
    if references:
        for position, reference_id in _reference_ids(content, folder, references):
            rows[position]["reference_id"] = reference_id
    return rows, axes


def _reference_ids(content: ExecutionContent, folder: ArtifactStore, positions: list[int]) -> Iterator[tuple[int, str]]:
    """Yield the ids by which Climate-REF's readers find equal observations: hashes over the numbers as the file spells
    them.
    """
    from climate_ref.models.metric_value import SeriesMetricValue

    key = next(artifact[0] for artifact in content.artifacts if artifact[1] == "series")
    raw = json.loads(folder.read_bytes(key))
    for position in positions:
        one = raw[position]
        values = [math.nan if value is None else value for value in one["values"]]
        source = one["dimensions"].get("reference_source_id")
        yield position, SeriesMetricValue.compute_reference_id(values, one["index"], source)


def _outputs(outputs: Iterable[Any], lost: _WithoutColumn) -> Iterator[Row]:
    columns = lost.schema.output_dimensions
    given = list(outputs)
    used = list(dict.fromkeys(name for *_, dimensions in given for name in dimensions if name in columns))
    for kind, name, key, _, long_name, description, dimensions in given:
        lost.count([other for other in dimensions if other not in columns], "outputs")
        yield {
            "output_type": ResultOutputType(kind),
            "filename": key,
            "short_name": name,
            "long_name": long_name,
            "description": description,
            **{dimension: dimensions.get(dimension) for dimension in used},
        }


def _role(kind: object) -> str:
    if kind in (None, _MODEL, _REFERENCE):
        return str(kind or _MODEL)
    raise BundleError(f"a value has the kind {kind!r}; their database knows {_MODEL!r} and {_REFERENCE!r}")


class _Attributes:
    """Converts attributes for JSON, which has no NaN. Many values share attributes, so each object is converted
    once.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, Mapping[str, Any] | None]] = {}

    def __call__(self, attributes: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if attributes is None:
            return None
        seen = self._seen.get(id(attributes))
        if seen is None or seen[0] is not attributes:
            seen = self._seen[id(attributes)] = (attributes, _finite(attributes))
        return seen[1]


def _merged(attributes: Mapping[str, Any] | None, dimensions: Mapping[str, str], names: list[str]) -> Row:
    """Put dimensions that have no column among the attributes; an attribute of the same name stays."""
    merged = dict(attributes or {})
    for name in names:
        if name in dimensions:
            taken = name in merged and merged[name] != dimensions[name]
            merged[f"dimension {name}" if taken else name] = dimensions[name]
    return merged


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
