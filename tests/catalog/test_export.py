"""What comes out for other programs is what the catalog holds: the same values, of the right types, of one instant."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import xarray as xr
from sqlalchemy import event
from tests.catalog.examples import FULL, NOON, execution_of
from tests.catalog.test_queries import TRICKY
from tests.children import answer_of, start_python
from tests.real_sets import RealSets
from tests.servers.postgres import PostgresServer

from emdstore.catalog import Catalog, ScalarRow, SeriesRow
from emdstore.errors import CatalogError, ExportError
from emdstore.ingestion.replay import replay
from emdstore.stores import LocalArtifactStore

KINDS = ("executions", "artifacts", "outputs", "scalars", "series", "warnings")
WITHOUT_VALUES = [None, math.inf, -math.inf, 0.1, -0.0, 1e300, 5e-324]


def written(query: Any, format: str) -> bytes:
    return b"".join(query.export(format))


def from_parquet(query: Any) -> pa.Table:
    return pa.parquet.read_table(io.BytesIO(written(query, "parquet")))


def from_csv(query: Any, schema: pa.Schema) -> pa.Table:
    """Read CSV as somebody does who knows the types and that only what is in quotes is text."""
    lists = {field.name: field.type.value_type for field in schema if pa.types.is_list(field.type)}
    types = {field.name: lists.get(field.name, field.type) for field in schema} | {"value": pa.float64()}
    return pa.csv.read_csv(
        io.BytesIO(written(query, "csv")),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )


def expected(row: Any, names: list[str]) -> dict[str, Any]:
    """Return a row of the catalog as a row of a table: by its own fields, NaN as None, JSON as what it means."""
    plain = {field.name: getattr(row, field.name) for field in attrs.fields(type(row)) if field.name != "dimensions"}
    dimensions = getattr(row, "dimensions", {})
    plain |= {name: dimensions.get(name.removeprefix("dimension.")) for name in names if name not in plain}
    return {name: missing(value) for name, value in plain.items()}


def missing(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [missing(one) for one in value]
    return None if value != value else value


def decoded(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table's rows with what is JSON in them as what it means."""
    rows = table.to_pylist()
    for row in rows:
        row |= {
            name: json.loads(row[name]) for name in ("attributes", "selectors", "software") if row.get(name) is not None
        }
    return rows


@pytest.fixture(scope="module")
def all_real(real_sets: RealSets) -> Iterator[Catalog]:
    """All the real sets."""
    with Catalog("sqlite://") as catalog:
        replay(LocalArtifactStore(real_sets.results), catalog, incomplete=True)
        yield catalog


@pytest.fixture
def in_memory() -> Iterator[Catalog]:
    """A catalog for what does not depend on the database."""
    with Catalog("sqlite://") as catalog:
        yield catalog


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "series"])
def test_every_row_of_every_kind_is_the_catalogs_in_arrow_parquet_csv_and_json_lines(
    catalog: Catalog, kind: str
) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("run", scalars=[(v, {"region": "x"}, None) for v in WITHOUT_VALUES]))
    query = getattr(catalog, kind)()
    table = query.to_arrow()
    wanted = [expected(row, table.column_names) for row in query]
    assert wanted
    assert decoded(table) == wanted
    assert from_parquet(query).equals(table)
    assert from_csv(query, table.schema).equals(table)
    lines = [json.loads(line) for line in written(query, "jsonl").splitlines()]
    as_json = {math.inf: "inf", -math.inf: "-inf"}
    assert lines == [
        {
            name: value.isoformat() if hasattr(value, "isoformat") else as_json.get(value, value)
            if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in wanted
    ]  # fmt: skip


def test_series_keep_their_points_in_arrow_parquet_csv_and_json_lines(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("empty", series=[({"région": ""}, "time", [], [], None)]))
    query = catalog.series()
    table = query.to_arrow()
    assert [(row["index"], row["values"]) for row in table.to_pylist()] == [
        ([], []),
        (["1850-01", "1850-02"], [1.0, None]),
        (["1850-01", "1850-02"], [math.inf, None]),
        (["-90", "0.5", "1e+300"], [1.0, -math.inf, 1e300]),  # text, since there is text among the indices
    ]
    assert from_parquet(query).equals(table)
    lines = [json.loads(line) for line in written(query, "jsonl").splitlines()]
    assert [(line["index"], line["values"]) for line in lines] == [
        ([], []),
        (["1850-01", "1850-02"], [1.0, None]),
        (["1850-01", "1850-02"], ["inf", None]),
        ([-90, 0.5, 1e300], [1.0, "-inf", 1e300]),
    ]
    points = from_csv(query, table.schema).to_pylist()
    assert [(row["position"], row["région"], row["index"], row["value"]) for row in points] == [
        (0, "", None, None),
        (0, None, "1850-01", 1.0),
        (0, None, "1850-02", None),
        (1, None, "1850-01", math.inf),
        (1, None, "1850-02", None),
        (2, None, "-90", 1.0),
        (2, None, "0.5", -math.inf),
        (2, None, "1e+300", 1e300),
    ]
    assert b',-90,1.0,"{}","model",,\n' in written(query, "csv")  # a number stands without quotes


@pytest.mark.parametrize(
    ("indices", "kind"),
    [
        ([[1, 2], [-3]], pa.int64()),
        ([[1, 2], [0.5]], pa.float64()),
        ([[10**25], [1]], pa.float64()),
        ([[1], ["1"]], pa.string()),
        ([[]], pa.string()),
        ([["01"]], pa.string()),
    ],
)
def test_an_index_has_the_one_type_that_holds_all_of_it(catalog: Catalog, indices: list[Any], kind: Any) -> None:
    catalog.replace_execution(execution_of("a", series=[({}, "t", index, [0] * len(index), {}) for index in indices]))
    catalog.replace_execution(execution_of("b", series=[({}, "other", ["x"], [1.0], {})]))
    column = catalog.series(index_name="t").to_arrow().column("index")
    assert column.type.value_type == kind
    assert column.to_pylist() == [list(map({pa.string(): str, pa.float64(): float}.get(kind, int), i)) for i in indices]
    assert catalog.series(index_name="t").count() == len(indices)
    assert catalog.series(index_name=["t", "other"]).count() == len(indices) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_real_sets_come_back_equal_from_parquet_and_csv(all_real: Catalog, kind: str) -> None:
    query = getattr(all_real, kind)()
    table = query.to_arrow()
    assert table.num_rows == query.count() > 0
    assert from_parquet(query).equals(table)
    back = from_csv(query, table.schema)
    if kind == "series":
        rows = list(query)
        assert back.column("value").to_pylist() == [missing(value) for row in rows for value in row.values]
        assert back.column("index").to_pylist() == [str(entry) for row in rows for entry in row.index]
    else:
        assert decoded(table) == decoded(back) == [expected(row, table.column_names) for row in query]
        assert back.equals(table)


# -- columns ---------------------------------------------------------------------------------------------------------


def test_dimensions_are_columns_in_the_order_of_their_names_whatever_they_are_called(catalog: Catalog) -> None:
    names = [name for name in TRICKY if name] + ["=1+1", "a,b", "line\nend", "cr\r\nlf", " blank ", "007", "Value"]
    scalars = [(float(number), {name: name, "all": ""}, None) for number, name in enumerate(names)]
    catalog.replace_execution(execution_of("a", scalars=scalars))
    query = catalog.scalars()
    table = query.to_arrow()
    dimensions = sorted([*names, "all"])
    assert table.column_names[6:] == ["value", *dimensions, "attributes", "kind", "reference_id", "units"]
    assert [{n: v for n, v in row.items() if v is not None and n in dimensions} for row in table.to_pylist()] == [
        row.dimensions for row in query
    ]
    assert from_parquet(query).equals(table)
    assert from_csv(query, table.schema).equals(table)


def test_a_dimension_that_is_called_like_a_column_does_not_hide_it_nor_another_dimension(in_memory: Catalog) -> None:
    dimensions = {"value": "a", "dimension.value": "b", "dimension.dimension.value": "c", "fragment": "d", "kind": "e"}
    in_memory.replace_execution(
        execution_of("x", scalars=[(1.5, dimensions, None)], outputs=[("plots", "n", None, "f", "l", "d", dimensions)])
    )
    (row,) = in_memory.scalars().to_arrow().to_pylist()
    assert (row["value"], row["fragment"], row["kind"]) == (1.5, "x", "model")
    assert {name.removeprefix("dimension."): row[name] for name in row if name.startswith("dimension.")} == dimensions
    (row,) = in_memory.outputs().to_arrow().to_pylist()
    assert (row["kind"], row["dimension.kind"], row["value"]) == ("plots", "e", "a")


def test_a_selection_has_the_columns_of_its_own_rows_and_an_empty_one_has_the_others(in_memory: Catalog) -> None:
    in_memory.replace_execution(FULL)
    only = in_memory.scalars(dimensions={"season": "JJA"})
    assert "a.b" not in only.to_arrow().column_names
    assert only.to_arrow().num_rows == 1
    nothing = in_memory.scalars(provider="nobody")
    columns = [field.name for field in attrs.fields(ScalarRow) if field.name != "dimensions"]
    assert nothing.to_arrow().column_names == columns
    assert list(nothing.to_pandas().columns) == columns
    assert written(nothing, "csv") == (",".join(f'"{name}"' for name in columns) + "\n").encode()
    assert written(nothing, "jsonl") == b""
    assert from_parquet(nothing).schema == nothing.to_arrow().schema


# -- pandas and xarray -----------------------------------------------------------------------------------------------


def test_a_pandas_frame_has_types_that_do_not_depend_on_what_is_missing(in_memory: Catalog) -> None:
    in_memory.replace_execution(FULL)
    in_memory.replace_execution(execution_of("z", scalars=[(1.0, {"region": "x"}, {"n": [1, None]})], created_at=NOON))
    frame = in_memory.scalars().to_pandas()
    assert {str(frame[name].dtype) for name in ("fragment", "region", "season")} == {"string"}
    assert (frame["position"].dtype, frame["value"].dtype) == ("Int64", "float64")
    assert frame["value"].isna().tolist() == [False, True, True, False, False, False, False]
    assert frame["value"].iloc[3] == -math.inf
    assert frame["season"].isna().tolist() == [False, False, False, True, True, True, True]
    assert frame["attributes"].tolist() == [row.attributes for row in in_memory.scalars()]
    executions = in_memory.executions().to_pandas()
    assert executions["retryable"].dtype == "boolean"
    assert executions["record_size"].tolist() == [4321, pd.NA]
    assert executions["created_at"].tolist() == [NOON, NOON]
    assert executions["selectors"].tolist() == [FULL.selectors, None]
    complete = in_memory.scalars(fragment="z").to_pandas().dtypes
    assert complete.to_dict().items() <= frame.dtypes.to_dict().items()
    series = in_memory.series(index_name="lat").to_pandas()
    assert series["index"].iloc[0].tolist() == [-90.0, 0.5, 1e300]
    assert series["values"].iloc[0].tolist() == [1.0, -math.inf, 1e300]


def test_series_of_different_lengths_lie_beside_each_other_and_what_was_not_given_is_told_apart(
    in_memory: Catalog,
) -> None:
    units = {"value_units": "K", "value_long_name": "Température", "index_units": "days since 1850-01-01"}
    units["calendar"] = "standard"
    in_memory.replace_execution(
        execution_of(
            "a",
            series=[
                ({"region": "global", "value": "v"}, "time", [2, 3, 4], [1.0, None, 3.0], units | {"caption": "one"}),
                ({"region": "arctic", "time": "t"}, "time", [0, 2], [math.inf, 5.0], units | {"caption": "two"}),
                ({}, "time", [], [], units),
            ],
        )
    )
    data = in_memory.series().to_xarray()
    assert data["time"].values.tolist() == [0, 2, 3, 4]
    np.testing.assert_array_equal(
        data["value"].values, [[np.nan, 1, np.nan, 3], [np.inf, 5, np.nan, np.nan], [np.nan] * 4]
    )
    assert data["given"].values.tolist() == [[False, True, True, True], [True, True, False, False], [False] * 4]
    assert data["value"].dims == ("series", "time")
    assert data["region"].values.tolist()[:2] == ["global", "arctic"]
    assert data["dimension.value"].values[0] == "v"
    assert data["dimension.time"].values[1] == "t"
    assert data["position"].values.tolist() == [0, 1, 2]
    assert [json.loads(text).get("caption") for text in data["attributes"].values] == ["one", "two", None]
    assert data["value"].attrs == {"units": "K", "long_name": "Température"}
    assert data.attrs == {"index_name": "time"}
    times = xr.decode_cf(data)["time"].values.astype("datetime64[D]")
    assert times.tolist() == list(map(np.datetime64, ("1850-01-01", "1850-01-03", "1850-01-04", "1850-01-05")))


@pytest.mark.parametrize(
    ("indices", "union"),
    [
        ([["Jan", "Feb"], ["Feb", "Dec"]], ["Jan", "Feb", "Dec"]),  # not sorted, so in the order of appearance
        ([[90, 0, -90]], [90, 0, -90]),
        ([["1851", "1852"], ["1850"]], ["1850", "1851", "1852"]),
        ([[1, 1, 2], [1]], [1, 1, 2]),  # what occurs twice in a series is there twice
        ([[1, 2.5], ["x"]], ["1", "2.5", "x"]),
    ],
)
def test_the_common_index_is_sorted_if_every_series_is(indices: list[list[Any]], union: list[Any]) -> None:
    with Catalog("sqlite://") as catalog:
        content = [({}, "at", index, [float(n) for n in range(len(index))], None) for index in indices]
        catalog.replace_execution(execution_of("a", series=content))
        data = catalog.series().to_xarray()
        assert data["at"].values.tolist() == union
        for number, index in enumerate(indices):
            given = data["given"].values[number]
            assert data["at"].values[given].tolist() == list(map(type(union[0]), index))
            assert data["value"].values[number][given].tolist() == [float(n) for n in range(len(index))]


def test_series_along_different_indices_are_refused_with_what_to_choose_from(all_real: Catalog) -> None:
    with pytest.raises(ExportError, match=r"'month_number': \d+.*index_name="):
        all_real.series().to_xarray()
    data = all_real.series(index_name="lat").to_xarray()
    assert data.sizes["series"] == all_real.series(index_name="lat").count()
    for number, row in enumerate(all_real.series(index_name="lat")):
        one = data.isel(series=number)
        assert one["value"].values[one["given"].values].tolist() == pytest.approx(row.values, nan_ok=True, abs=0)
        assert one["lat"].values[one["given"].values].tolist() == list(row.index)
    empty = all_real.series(provider="nobody").to_xarray()
    assert dict(empty.sizes) == {"series": 0, "index": 0}


@pytest.mark.parametrize("name", ["series", "value", "given", "fragment", "values", "", "position"])
def test_an_index_that_is_called_like_something_else_is_called_index(name: str) -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(execution_of("a", series=[({"index": "x"}, name, [1], [2.0], None)]))
        data = catalog.series().to_xarray()
    assert dict(data.sizes) == {"series": 1, "index": 1}
    assert data.attrs["index_name"] == name
    assert data["dimension.index"].values.tolist() == ["x"]


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [lambda query: list(query.export("csv")), lambda query: query.to_arrow()])
def test_columns_and_rows_are_of_one_instant_though_others_write_in_between(shared_url: str, ask: Any) -> None:
    with Catalog(shared_url) as catalog, Catalog(shared_url) as other:
        catalog.replace_execution(execution_of("a", scalars=[(1.0, {"old": "x"}, None)]))
        new = execution_of("a", scalars=[(2.0, {"new": "y"}, None)] * 3)
        asked: list[str] = []

        def write_once(*args: Any) -> None:
            asked.append(args[2])
            if "count" in args[2]:  # the first question
                other.replace_execution(new)

        engine = catalog._database._open()
        before = ask(catalog.scalars())
        event.listen(engine, "after_cursor_execute", write_once)
        try:
            meanwhile = ask(catalog.scalars())
        finally:
            event.remove(engine, "after_cursor_execute", write_once)
        assert sum(one.startswith("SELECT") for one in asked) == 3
        assert meanwhile == before
        assert ask(catalog.scalars()) != before


def test_an_export_that_is_left_early_gives_its_connection_back(catalog: Catalog) -> None:
    catalog.replace_execution(execution_of("a", scalars=[(float(n), {}, None) for n in range(2000)]))
    for _ in range(20):  # more than there are connections
        pieces = catalog.scalars().export("csv")
        next(pieces)
        pieces.close()
    assert catalog.scalars().count() == 2000


def test_progress_counts_rows_to_the_last(in_memory: Catalog) -> None:
    in_memory.replace_execution(execution_of("a", scalars=[(float(n), {}, None) for n in range(2500)]))
    seen: list[tuple[int, int]] = []
    for format in ("csv", "jsonl", "parquet"):
        seen.clear()
        written_so = b"".join(in_memory.scalars().export(format, on_progress=lambda *now: seen.append(now)))
        assert seen == [(0, 2500), (1000, 2500), (2000, 2500), (2500, 2500)]
        assert written_so == written(in_memory.scalars(), format)


def test_postgresql_sends_an_export_as_it_is_asked_for(postgres_server: PostgresServer, postgres_url: str) -> None:
    with Catalog(postgres_url) as catalog:
        catalog.replace_execution(execution_of("a", scalars=[(float(n), {"n": str(n)}, None) for n in range(5000)]))
        pieces = catalog.scalars().export("jsonl")
        first = next(pieces)
        with postgres_server.connect() as connection:
            running = "SELECT query FROM pg_stat_activity WHERE datname = %s"
            (query,) = connection.execute(running, [postgres_url.rpartition("/")[2]]).fetchone()  # type: ignore[misc]
        assert query.startswith("FETCH FORWARD")
        assert [json.loads(line)["n"] for line in (first + b"".join(pieces)).splitlines()] == [
            str(n) for n in range(5000)
        ]


def test_a_parquet_export_has_row_groups_of_a_useful_size(in_memory: Catalog) -> None:
    long = [({"region": f"{n}"}, "time", range(2000), [float(n)] * 2000, None) for n in range(600)]
    in_memory.replace_execution(execution_of("a", series=long))
    file = pa.parquet.ParquetFile(io.BytesIO(written(in_memory.series(), "parquet")))
    assert 2 <= file.num_row_groups <= 5
    assert file.metadata.num_rows == 600
    assert file.read().column("region").to_pylist() == [f"{n}" for n in range(600)]


MEASURE = """
import json, resource, sys
import pyarrow
from emdstore.catalog import Catalog

peaks = {"csv": [], "jsonl": [], "parquet": []}
with Catalog(sys.argv[1]) as catalog:
    for format, seen in peaks.items():
        for fragment in ("few", "many"):
            size = sum(map(len, catalog.scalars(fragment=fragment).export(format)))
            # Of Parquet what Arrow held at most: what it keeps of the system's memory for later varies.
            arrow = pyarrow.default_memory_pool().max_memory() / 1024
            seen.append((arrow if format == "parquet" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024)
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    with Catalog(url) as catalog:
        for name, count in (("few", 12_000), ("many", 36_000)):
            # Of text that does not compress: 10 MB, which is more than a row group, and 30 MB.
            scalars = ((float(n), {"region": f"r{n % 7}", "text": os.urandom(400).hex()}, None) for n in range(count))
            catalog.replace_execution(execution_of(name, scalars=scalars))
    peaks = answer_of(start_python(MEASURE, url))
    for format, (few, many) in peaks.items():
        assert many - few < 8, (format, peaks)


# -- others ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scalars", "series", "executions"])
def test_polars_has_the_columns_and_values_of_arrow(kind: str) -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(FULL)
        query = getattr(catalog, kind)()
        assert query.to_polars().to_arrow().to_pylist() == query.to_arrow().to_pylist()


@pytest.mark.parametrize("format", ["nc", "zarr"])
@pytest.mark.parametrize("kind", ["scalars", "series"])
def test_netcdf_and_zarr_have_what_xarray_has(kind: str, format: Any, tmp_path: Path) -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(FULL)
        query = (
            catalog.scalars(dimensions={"season": "DJF"}) if kind == "scalars" else catalog.series(index_name="time")
        )
        file = tmp_path / ("rows.nc" if format == "nc" else "rows.zarr.zip")
        told: list[tuple[int, int]] = []
        file.write_bytes(b"".join(query.export(format, on_progress=lambda *both: told.append(both))))
        rows = list(query)
        assert told[-1] == (len(rows), len(rows))
        with xr.open_dataset(file) if format == "nc" else xr.open_zarr(f"zip::{file}", consolidated=True) as found:
            assert found.execution_id.values.tolist() == [row.execution_id for row in rows]
            for name in {name for row in rows for name in row.dimensions}:
                assert found[name].values.tolist() == [row.dimensions.get(name, "") for row in rows]
            values = [row.value for row in rows] if kind == "scalars" else query.to_xarray().value.values
            np.testing.assert_array_equal(found.value.values, values)
            if kind == "scalars":
                assert found.value.attrs["units"] == "K"
            else:
                assert found.time.values.tolist() == ["1850-01", "1850-02"]
            assert found.attrs["Conventions"].startswith("CF-")


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_said_before_anything_is_read() -> None:
    with Catalog("sqlite://") as catalog, pytest.raises(ExportError, match=r"'xls'.*csv, jsonl, parquet, nc, zarr"):
        catalog.scalars().export("xls")  # type: ignore[arg-type]


def test_what_has_no_netcdf_says_so() -> None:
    with Catalog("sqlite://") as catalog, pytest.raises(ExportError, match="only scalars and series"):
        catalog.executions().export("nc")


def test_a_database_that_is_away_is_said_by_the_catalogs_own_error(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "none" / "catalog.db", create=False)
    with pytest.raises(CatalogError, match="none"):
        list(catalog.scalars().export("csv"))


def test_a_missing_library_is_named_by_its_extra() -> None:
    code = """
import sys
from emdstore import Catalog, MissingExtraError
libraries = {"pandas", "polars", "pyarrow", "xarray"}
with Catalog("sqlite://") as catalog:
    for absent, ask in (
        ("pyarrow", lambda: catalog.scalars().to_arrow()),
        ("pyarrow", lambda: catalog.scalars().export("parquet")),
        ("pyarrow pandas", lambda: catalog.scalars().to_pandas()),
        ("polars", lambda: catalog.scalars().to_polars()),
        ("zarr", lambda: catalog.scalars().export("zarr")),
        ("h5netcdf", lambda: catalog.scalars().export("nc")),
        ("xarray", lambda: catalog.series().to_xarray()),
    ):
        assert not {*libraries, "numpy"} & {name for name, module in sys.modules.items() if module}
        sys.modules |= {name: None for name in absent.split()}
        list(catalog.scalars().export("csv")), list(catalog.scalars().export("jsonl"))
        try:
            ask()
        except MissingExtraError as error:
            print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert re.findall(r"pip install 'emdstore\[(\w+)\]'", said) == [
        "arrow",
        "arrow",
        "pandas",
        "polars",
        "zarr",
        "xarray",
        "xarray",
    ]


def test_rows_can_still_be_iterated_and_counted() -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(FULL)
        rows = list(catalog.series())
        assert all(isinstance(row, SeriesRow) for row in rows)
        assert len(rows) == catalog.series().count() == 3
