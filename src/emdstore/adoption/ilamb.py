"""What ILAMB writes: tables of scalars, NetCDF files, plots and pages, a folder for each comparison with a reference.

ILAMB 2 has one table, ``scalar_database.csv``, and folders ``section/variable/reference``; ILAMB 3 has a table for each
model in each folder. Each model of a comparison becomes a set of its own. What belongs to no single model, and the
reference, becomes one more set of the group ``all``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from emdstore.adoption.found import NO_VALUES, FoundOutput, FoundSet, Source, assign
from emdstore.adoption.netcdf import read_lines
from emdstore.adoption.values import number, split
from emdstore.emds import Series
from emdstore.emds.layout import Point
from emdstore.errors import BundleError
from emdstore.sets.origin import Dataset

_DATABASE = "scalar_database.csv"
_OLD = ("Section", "Variable", "Source", "Model", "ScalarName", "AnalysisType", "Region", "ScalarType", "Units", "Data")
_NEW = ("source", "region", "analysis", "name", "type", "units", "value")
_MODEL = re.compile(r"(?P<source_id>.+)-(?P<member_id>r\d+i\d+p\d+(?:f\d+)?)-(?P<grid_label>g[nrm]\w*)")
_UNITS = re.compile(r" \[[^\]]*\]$")
_REFERENCES = ("Reference", "Benchmark")
_OVER = re.compile(r"(?P<metric>.+?)_over_(?P<region>\w+)$")


@attrs.frozen
class _Row:
    model: str
    region: str
    metric: str
    statistic: str
    kind: str
    units: str
    value: str


@attrs.define
class _Comparison:
    """One comparison: its folder, what it is called, its reference, and the rows about it, by model."""

    folder: str
    diagnostic: str
    reference: str
    rows: dict[str, list[_Row]] = attrs.field(factory=dict)


def find_sets(source: Source) -> Iterable[FoundSet]:
    """Find the sets in a folder of ILAMB's results."""
    found = list(_old(source)) or list(_new(source))
    if not found:
        raise BundleError(
            f"{str(source.path)!r} holds nothing of ILAMB: no {_DATABASE}, and no tables with {', '.join(_NEW)}"
        )
    for name in source.keys:
        if name.endswith((".pkl", ".cfg")) or (name.endswith(".log") and "/" not in name):
            source.leave_out(name, "is for ILAMB itself, and of the run as a whole")
    taken = {each.folder for each in found}
    for comparison in found:
        nested = [other for other in taken if other.startswith(f"{comparison.folder}/" if comparison.folder else "")]
        below = source.below(comparison.folder)
        deeper = {key for other in nested if other != comparison.folder for key in source.below(other)}
        yield from _sets(source, comparison, [key for key in below if key not in deeper])


def _old(source: Source) -> Iterator[_Comparison]:
    """Yield the comparisons of ILAMB 2."""
    if _DATABASE not in source.keys:
        return
    found: dict[str, _Comparison] = {}
    for row in _table(source, _DATABASE, _OLD):
        folder = "/".join(row[name] for name in ("Section", "Variable", "Source"))
        name = f"{row['Variable']}-{row['Source']}"
        one = found.setdefault(folder, _Comparison(folder, name, row["Source"]))
        names = ("Model", "Region", "AnalysisType", "ScalarName", "ScalarType", "Units", "Data")
        one.rows.setdefault(row["Model"], []).append(_Row(*(row[each] for each in names)))
    source.used(_DATABASE)
    yield from found.values()


def _new(source: Source) -> Iterator[_Comparison]:
    """Yield the comparisons of ILAMB 3."""
    found: dict[str, _Comparison] = {}
    for key in source.keys:
        if not key.endswith(".csv"):
            continue
        folder = key.rpartition("/")[0]
        for row in _table(source, key, _NEW):
            parts = (folder or source.path.name).split("/")
            one = found.setdefault(folder, _Comparison(folder, "-".join(parts[-2:]), parts[-1]))
            name = _UNITS.sub("", row["name"])
            region = row["region"] or "None"
            it = _Row(row["source"], region, row["analysis"], name, row["type"], row["units"], row["value"])
            if it not in one.rows.setdefault(row["source"], []):  # each model's table has the reference's rows
                one.rows[row["source"]].append(it)
    yield from found.values()


def _table(source: Source, key: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table that has these columns; nothing of another one."""
    rows = csv.DictReader(io.StringIO(source.text(key)))
    if not set(columns) <= set(rows.fieldnames or ()):
        return
    for row in rows:
        if None in row.values() or None in row:
            source.leave_out(f"{key}, line {rows.line_num}", "is cut off, or has too many columns", lost=True)
        else:
            yield row


def _sets(source: Source, comparison: _Comparison, keys: Sequence[str]) -> Iterator[FoundSet]:
    models = [name for name in comparison.rows if name not in _REFERENCES]
    of_each = assign(keys, [[name] for name in models])
    outputs = list(map(FoundOutput.of, keys))
    index = next((each.key for each in outputs if each.kind == "html"), None)
    for model, own in zip(models, of_each, strict=False):
        yield from _set(
            source, comparison, model, own if len(models) > 1 else keys, index if len(models) == 1 else None
        )
    rest = of_each[-1] if len(models) != 1 else ()
    if rest or any(name in comparison.rows for name in _REFERENCES):
        yield from _set(source, comparison, "Reference", rest, index if len(models) != 1 else None)


def _set(
    source: Source, comparison: _Comparison, model: str, keys: Sequence[str], index: str | None
) -> Iterator[FoundSet]:
    """Yield the set of a model or of the reference; several if its table is not regular."""
    of_reference = model in _REFERENCES
    matched = _MODEL.fullmatch(model)
    who = {} if of_reference else matched.groupdict() if matched else {"source_id": model}
    where = {"kind": "reference" if of_reference else "model", "reference_source_id": comparison.reference, **who}
    points: list[Point] = []
    units: dict[str, str] = {}
    for row in comparison.rows.get(model, ()):
        at = f"{comparison.folder}: {row.statistic} of {model} in {row.region}"
        value = number(row.value.strip() or None)
        if value is None:
            source.leave_out(at, f"is no number: {row.value!r}", lost=True)
            continue
        statistic, unit = row.statistic, units.setdefault(row.statistic, row.units)
        if unit != row.units:  # the same name for two quantities
            statistic = f"{row.statistic} [{row.units}]"
        units[statistic] = row.units
        points.append(Point({**where, "region": row.region, "metric": row.metric, "statistic": statistic}, value, {}))
    points = list({tuple(each.dimensions.values()): each for each in points}.values())
    kinds = {row.statistic: row.kind for row in comparison.rows.get(model, ())}
    described = {"statistic": {name: {"units": unit, "type": kinds.get(name, "")} for name, unit in units.items()}}
    references, lines = _read(source, comparison, model, keys, where)
    bundles = split(points, (), described) or [({}, NO_VALUES)]
    for number_of_it, (chosen, metric) in enumerate(bundles):
        first = number_of_it == 0
        found = FoundSet(
            provider="ilamb",
            diagnostic=comparison.diagnostic,
            group="/".join(["all" if of_reference else model, *chosen.values()]),
            series=tuple(lines) if first else (),
            outputs=tuple(map(FoundOutput.of, keys)) if first else (),
            index=index if first else None,
            datasets=(*references, *([] if of_reference else [Dataset(name=model, role="model")])),
            selectors=who,
            description=comparison.folder,
        )
        yield attrs.evolve(found, metric=metric)


def _read(
    source: Source, comparison: _Comparison, model: str, keys: Sequence[str], where: Mapping[str, str]
) -> tuple[list[Dataset], list[Series]]:
    """Return the references and the series in the NetCDF files of a set."""
    regions = {row.region for rows in comparison.rows.values() for row in rows}
    told: dict[str, str] = {}
    found = []
    for key in keys:
        if not key.endswith(".nc"):
            continue
        try:
            attributes, lines = read_lines(source.path / key)
        except OSError as error:
            source.leave_out(key, f"cannot be read, so its series are not known: {error}", lost=True)
            continue
        is_reference = any(name in key.rpartition("/")[2] for name in _REFERENCES)
        told |= attributes if is_reference else {}
        at = {"kind": "reference", "reference_source_id": comparison.reference} if is_reference else where
        for line in lines:
            about = {**line.attributes, "file": key}
            dimensions = {**at, **_what(line.name, regions)}
            found.append(Series(0, dimensions, line.index_name, line.index, line.values, about))
    reference = Dataset(name=comparison.reference, version=told.get("version"), doi=told.get("doi"), role="reference")
    return [reference], found


def _what(name: str, regions: Iterable[str]) -> dict[str, str]:
    """Return what a variable is of: ILAMB 2 writes ``cycle_of_gpp_over_global``, ILAMB 3 ``cycle_global``."""
    last = name.rpartition("/")[2]
    if matched := _OVER.fullmatch(last):
        return matched.groupdict()
    region = next((each for each in regions if last.endswith(f"_{each}")), None)
    return {"metric": last} if region is None else {"metric": last.removesuffix(f"_{region}"), "region": region}
