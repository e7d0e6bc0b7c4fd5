"""Rows for computing: Arrow tables, pandas frames, xarray datasets.

Each library is imported when it is needed. A frame is made from an Arrow table, so both have the same columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from zipfile import ZipFile

import attrs
import msgspec

from emdstore.catalog.rows import ScalarRow, SeriesRow
from emdstore.catalog.table import Kind, Table, Values, name_dimensions
from emdstore.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow
    import xarray


def _load(module: str, what: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(what, extra) from error


# -- Arrow -----------------------------------------------------------------------------------------------------------


def load_pyarrow(what: str = "an Arrow table", extra: str = "arrow") -> Any:
    """Import pyarrow, or say which extra `what` needs."""
    return _load("pyarrow", what, extra)


def to_arrow(opened: AbstractContextManager[Table]) -> pyarrow.Table:
    """Read a table into memory; see `Query.to_arrow`."""
    load_pyarrow()
    with opened as table:
        schema, batches = record_batches(table)
        return joined(schema, batches)


def record_batches(table: Table) -> tuple[Any, Iterator[Any]]:
    """Return the Arrow schema of a table, and its rows as record batches that are made one by one."""
    pa = load_pyarrow()
    types: dict[Kind, Any] = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "json": pa.string(),
        "texts": pa.list_(pa.string()),
        "integers": pa.list_(pa.int64()),
        "numbers": pa.list_(pa.float64()),
    }
    schema = pa.schema([(column.name, types[column.kind]) for column in table.columns])

    def batch(rows: list[Values]) -> Any:
        arrays = []
        for column, field, values in zip(table.columns, schema, zip(*rows, strict=True), strict=True):
            plain = _PLAIN.get(column.kind)
            if plain is not None:
                values = tuple(None if one is None else plain(one) for one in values)
            arrays.append(pa.array(values, field.type))
        return pa.record_batch(arrays, schema=schema)

    return schema, map(batch, table.batches)


_PLAIN: dict[Kind, Callable[[Any], Any]] = {
    "json": lambda value: msgspec.json.encode(value).decode(),
    "texts": lambda values: list(map(str, values)),
    "numbers": lambda values: [None if one is None else float(one) for one in values],
}


def joined(schema: Any, batches: Iterable[Any]) -> pyarrow.Table:
    """Return batches as one table."""
    return load_pyarrow().Table.from_batches(batches, schema)


# -- Polars ----------------------------------------------------------------------------------------------------------


def to_polars(opened: AbstractContextManager[Table]) -> polars.DataFrame:
    """Read a table into memory; see `Query.to_polars`."""
    pl = _load("polars", "a Polars frame", "polars")
    load_pyarrow("a Polars frame", "polars")
    frame: polars.DataFrame = pl.from_arrow(to_arrow(opened))
    return frame


# -- pandas ----------------------------------------------------------------------------------------------------------


def to_pandas(opened: AbstractContextManager[Table]) -> pandas.DataFrame:
    """Read a table into memory; see `Query.to_pandas`."""
    pd = _load("pandas", "a pandas frame", "pandas")
    pa = load_pyarrow("a pandas frame", "pandas")
    with opened as table:
        schema, batches = record_batches(table)
        arrow = joined(schema, batches)
    # Types that do not change when the first value is missing.
    types = {pa.string(): pd.StringDtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pandas.DataFrame = arrow.to_pandas(types_mapper=types.get)
    for column in table.columns:
        if column.kind == "json":
            texts = frame[column.name]
            frame[column.name] = pd.Series(
                [None if one is pd.NA else msgspec.json.decode(one) for one in texts], index=texts.index, dtype=object
            )
    return frame


# -- xarray ----------------------------------------------------------------------------------------------------------

_PIECE = 1024 * 1024
_OF_VALUES = ("value", "given")
_DESCRIBED = ("units", "long_name", "standard_name")


def to_xarray(query: Iterable[SeriesRow]) -> xarray.Dataset:
    """Lay series beside each other along their common index; see `SeriesQuery.to_xarray`."""
    xr = _load("xarray", "an xarray dataset", "xarray")
    np = import_module("numpy")
    rows = list(query)
    index_name = _common_index_name(rows)
    fields = {field.name for field in attrs.fields(SeriesRow)}
    along = "index" if index_name in ("", "series", *_OF_VALUES, *fields) else index_name
    axis, places = _common_index(rows)
    value = np.full((len(rows), len(axis)), np.nan)
    given = np.zeros(value.shape, dtype=bool)
    for number, row in enumerate(rows):
        value[number, places[row.index]] = row.values
        given[number, places[row.index]] = True

    def coordinate(values: Iterable[Any], dtype: Any = object) -> tuple[str, Any]:
        return "series", np.array(list(values), dtype=dtype)

    coordinates: dict[str, Any] = {
        along: (
            along,
            np.array(axis, dtype=None if axis else str),
            _described(rows, "index") | _agreed(rows, "calendar"),
        ),
        **{name: coordinate((getattr(row, name) for row in rows), np.int64) for name in ("execution_id", "position")},
        **{name: coordinate(getattr(row, name) for row in rows) for name in _PLACE},
        "attributes": coordinate(msgspec.json.encode(row.attributes).decode() for row in rows),
    }
    dimensions = {name for row in rows for name in row.dimensions}
    for name, column in name_dimensions(dimensions, {"series", along, *_OF_VALUES, *fields}).items():
        coordinates[column] = coordinate(row.dimensions.get(name) for row in rows)
    shape = ("series", along)
    dataset: xarray.Dataset = xr.Dataset(
        {"value": (shape, value, _described(rows, "value")), "given": (shape, given)},
        coordinates,
        {"index_name": index_name},
    )
    return dataset


def scalars_to_xarray(query: Iterable[ScalarRow], over: Sequence[str]) -> xarray.DataArray:
    """Lay scalars out along some of their dimensions; see `ScalarQuery.to_xarray`."""
    xr = _load("xarray", "an xarray array", "xarray")
    np = import_module("numpy")
    rows = list(query)
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, value in row.dimensions.items():
            places = found.setdefault(name, {})
            places.setdefault(value, len(places))
    names = list(over) or [name for name, values in found.items() if len(values) > 1]
    axes = {name: found.get(name, {}) for name in names}
    array = np.full([len(axis) for axis in axes.values()], np.nan)
    seen: dict[tuple[int, ...], ScalarRow] = {}
    for row in rows:
        lacking = [name for name in names if name not in row.dimensions]
        if lacking:
            raise ExportError(f"a scalar of {row.fragment!r} has no {', '.join(lacking)}: choose those that have")
        place = tuple(axis[row.dimensions[name]] for name, axis in axes.items())
        if place in seen:
            raise ExportError(f"two scalars have the same place: {_difference(seen[place], row)}")
        seen[place] = row
        array[place] = row.value
    shared = {
        name: next(iter(values))
        for name, values in found.items()
        if name not in axes and len(values) == 1 and all(name in row.dimensions for row in rows)
    }
    units = {row.attributes.get("units") for row in rows}
    data: xarray.DataArray = xr.DataArray(
        array,
        {**{name: (name, np.array(list(axis), dtype=object)) for name, axis in axes.items()}, **shared},
        names,
        name="value",
        attrs={"units": units.pop()} if len(units) == 1 and None not in units else {},
    )
    return data


def scalars_in_rows(query: Iterable[ScalarRow]) -> xarray.Dataset:
    """Return scalars one by one, whatever they are of: everything in a row is a coordinate along ``scalar``."""
    xr = _load("xarray", "an xarray dataset", "xarray")
    np = import_module("numpy")
    rows = list(query)
    fields = [*_PLACE, "execution_id", "position"]
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in fields}
    columns["attributes"] = [msgspec.json.encode(row.attributes).decode() for row in rows]
    dimensions = {name for row in rows for name in row.dimensions}
    for name, column in name_dimensions(dimensions, {"scalar", "value", *columns}).items():
        columns[column] = [row.dimensions.get(name) for row in rows]
    types: dict[str, Any] = dict.fromkeys(("execution_id", "position"), np.int64)
    coordinates = {name: ("scalar", np.array(told, dtype=types.get(name, object))) for name, told in columns.items()}
    values = np.array([row.value for row in rows], dtype=float)
    units = {row.units for row in rows}
    described = {"units": units.pop()} if len(units) == 1 and None not in units else {}
    dataset: xarray.Dataset = xr.Dataset({"value": ("scalar", values, described)}, coordinates)
    return dataset


def to_file(
    make: Callable[[], xarray.Dataset],
    format: Literal["nc", "zarr"],
    on_progress: Callable[[int, int], object] | None = None,
) -> Iterator[bytes]:
    """Return a dataset as a NetCDF file, or as a Zarr group in a zip file. Text that is missing is empty there."""
    needed, what, extra = (
        (("h5netcdf", "h5py", "xarray"), "NetCDF", "xarray") if format == "nc" else (("zarr", "xarray"), "Zarr", "zarr")
    )
    for module in needed:
        _load(module, what, extra)
    np = import_module("numpy")

    def pieces() -> Iterator[bytes]:
        dataset = make()
        # Zarr has text of any length only beside its standard.
        text = object if format == "nc" else str
        texts = {
            name: (array.dims, np.array(["" if each is None else each for each in array.values], dtype=text))
            for name, array in dataset.coords.items()
            if array.dtype == object
        }
        dataset = dataset.assign_coords(texts).assign_attrs(Conventions="CF-1.11")
        with TemporaryDirectory() as folder:  # older releases of xarray write to files only
            path = Path(folder, "rows")
            if format == "nc":
                dataset.to_netcdf(path, engine="h5netcdf")
            else:
                path = _zipped_zarr(dataset, path)
            with path.open("rb") as file:
                yield from iter(lambda: file.read(_PIECE), b"")
        if on_progress is not None:
            rows = len(dataset["value"])
            on_progress(rows, rows)

    return pieces()


def _zipped_zarr(dataset: xarray.Dataset, path: Path) -> Path:
    """Write a dataset as a Zarr group with consolidated metadata, which is only in the standard of its version 2."""
    dataset.to_zarr(path, mode="w", consolidated=True, zarr_format=2)
    into = path.with_suffix(".zip")
    with ZipFile(into, "w") as file:  # compressed already
        for each in sorted(path.rglob("*")):
            if each.is_file():
                file.write(each, each.relative_to(path).as_posix())
    return into


def _difference(one: ScalarRow, other: ScalarRow) -> str:
    names = sorted({*one.dimensions, *other.dimensions})
    differ = [name for name in names if one.dimensions.get(name) != other.dimensions.get(name)]
    if differ:
        return f"they differ in {', '.join(differ)}; lay them out over that too, or choose one by dimensions=..."
    return f"{one.fragment!r} and {other.fragment!r} have both; choose by latest=True or another filter"


_PLACE = ("fragment", "provider", "diagnostic", "group")


def _common_index_name(rows: list[SeriesRow]) -> str:
    names = Counter(row.index_name for row in rows)
    if len(names) > 1:
        which = ", ".join(f"{name!r}: {count}" for name, count in names.most_common())
        raise ExportError(f"the series run along different indices ({which}): choose one, by index_name=... (--index)")
    return next(iter(names), "index")


def _common_index(rows: list[SeriesRow]) -> tuple[list[Any], dict[tuple[Any, ...], list[int]]]:
    """Return what occurs in any series' index, and for each index where its entries are in that.

    It is sorted if each series is, otherwise in the order of appearance. An entry that a series has twice is there
    twice. Numbers become text where there is text among them.
    """
    indices = dict.fromkeys(row.index for row in rows)
    as_text = any(isinstance(entry, str) for index in indices for entry in index)
    numbered = {index: _numbered(map(str, index) if as_text else index) for index in indices}
    union = list(dict.fromkeys(entry for entries in numbered.values() for entry in entries))
    if all(entries == sorted(entries) for entries in numbered.values()):
        union.sort()
    place = {entry: number for number, entry in enumerate(union)}
    return [entry for entry, _ in union], {
        index: [place[entry] for entry in entries] for index, entries in numbered.items()
    }


def _numbered(index: Iterable[Any]) -> list[tuple[Any, int]]:
    """Tell entries that are equal apart, by how many there were before."""
    seen: Counter[Any] = Counter()
    entries = []
    for entry in index:
        entries.append((entry, seen[entry]))
        seen[entry] += 1
    return entries


def _described(rows: list[SeriesRow], what: str) -> dict[str, str]:
    """Return what all series say of their values or of their index, by the names that xarray labels plots with."""
    found = {name: _agreed(rows, f"{what}_{name}") for name in _DESCRIBED}
    return {name: text for name, one in found.items() for text in one.values()}


def _agreed(rows: list[SeriesRow], name: str) -> dict[str, str]:
    """Return an attribute if it is one and the same text in all series."""
    first = rows[0].attributes.get(name) if rows else None
    if isinstance(first, str) and all(row.attributes.get(name) == first for row in rows):
        return {name: first}
    return {}
