"""One execution goes in whole, in place of what was there."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from sqlalchemy import event
from tests.catalog.examples import FULL, NOON, everything, execution_of

from emdstore.catalog import Catalog
from emdstore.catalog.content import ScalarTable
from emdstore.catalog.schema import PARTS, surrogate_id
from emdstore.emds import MetricBundle, decode_metric_bundle
from emdstore.errors import CatalogError, ExecutionNotFoundError


def test_everything_comes_back_as_it_went_in(catalog: Catalog) -> None:
    result = catalog.replace_execution(FULL)
    assert (result.created, result.artifacts, result.outputs, result.scalars, result.series, result.warnings) == (
        (True, 3, 2, 6, 3, 2)
    )
    row = catalog.execution(FULL.fragment)
    assert row.execution_id == result.execution_id
    same = [f.name for f in attrs.fields(type(FULL)) if f.name in attrs.fields_dict(type(row))]
    same = [name for name in same if name not in PARTS]
    assert {name: getattr(row, name) for name in same} == {name: getattr(FULL, name) for name in same}
    assert (row.artifacts, row.outputs, row.scalars, row.series, row.inputs, row.warnings) == (3, 2, 6, 3, 3, 2)
    assert row.group_dirty is False
    assert [
        (a.key, a.role, a.size, a.sha256, a.media_type, a.description) for a in catalog.artifacts()
    ] == FULL.artifacts
    assert [
        (o.kind, o.name, o.key, o.filename, o.long_name, o.description, o.dimensions) for o in catalog.outputs()
    ] == FULL.outputs
    read = [(i.dataset, i.version, i.pid, i.doi, i.dataset_sha256) for i in catalog.inputs()]
    assert read == [of or (None,) * 5 for of, *_ in FULL.inputs]
    kept = [(i.role, i.variable, i.store, i.key, i.size, i.sha256) for i in catalog.inputs()]
    assert kept == [(role, variable, *(file or (None,) * 4)) for _, role, variable, file in FULL.inputs]
    assert [(w.code, w.message, w.place) for w in catalog.warnings()] == FULL.warnings
    assert [(s.dimensions, s.attributes) for s in catalog.scalars()] == [(d, a or {}) for _, d, a in FULL.scalars]
    assert repr([s.value for s in catalog.scalars()]) == "[1.25, nan, nan, -inf, 0.0, 1e+300]"
    series = list(catalog.series())
    assert [(s.dimensions, s.index_name, list(s.index), s.attributes) for s in series] == [
        (d, name, index, a or {}) for d, name, index, _, a in FULL.series
    ]
    assert repr([s.values for s in series]) == "[(1.0, nan), (inf, nan), (1.0, -inf, 1e+300)]"


def test_many_scalars_keep_their_order_and_their_names_whatever_these_hold(catalog: Catalog) -> None:
    names = ["a\nb", "\n", "c\u2028d", "e\r\n", "", '"']
    shared = {"units": "K"}
    attributes = [shared if number % 7 else {"number": number} for number in range(1001)]
    scalars = [(float(number), {names[number % 6]: f"{number}\n"}, attributes[number]) for number in range(1001)]
    catalog.replace_execution(execution_of("many", scalars=scalars))
    assert [(row.value, row.dimensions, row.attributes) for row in catalog.scalars()] == scalars
    assert [row.position for row in catalog.scalars()] == list(range(1001))


def test_a_missing_value_is_null_in_the_database_and_never_nan(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    with catalog._database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM scalar_value WHERE value IS NULL").scalar() == 2
        texts = connection.exec_driver_sql(
            'SELECT CAST("values" AS TEXT) FROM series_value ORDER BY position'
        ).scalars()
        assert list(texts) == ["[1.0,null]", '["Infinity",null]', '[1,"-Infinity",1e300]']


def test_replacing_twice_is_the_same_as_once(catalog: Catalog) -> None:
    first = catalog.replace_execution(FULL)
    before = everything(catalog)
    second = catalog.replace_execution(FULL)
    assert second == attrs.evolve(first, created=False)
    assert everything(catalog) == before


def test_another_catalog_gives_equal_rows_and_ids(catalog: Catalog) -> None:
    catalog.replace_execution(execution_of("other"))
    catalog.replace_execution(FULL)
    with Catalog("sqlite://") as another:
        another.replace_execution(FULL)
        another.replace_execution(execution_of("other"))
        assert everything(another) == everything(catalog)


def test_nothing_of_the_old_stays(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("untouched", scalars=[(1.0, {}, None)]))
    catalog.replace_execution(
        attrs.evolve(
            FULL, status="failed", dirty=None, artifacts=(), outputs=(), scalars=(), series=(), inputs=(), warnings=()
        )
    )
    row = catalog.execution(FULL.fragment)
    assert (row.status, row.artifacts, row.outputs, row.scalars, row.series, row.warnings) == ("failed", 0, 0, 0, 0, 0)
    assert [row.fragment for row in everything(catalog)] == [FULL.fragment, "untouched", "untouched"]


def _cut_off(rows: Any) -> Iterator[Any]:
    yield from rows
    raise RuntimeError("the bundle ends here")


@pytest.mark.parametrize("part", ["artifacts", "outputs", "scalars", "series", "warnings"])
def test_a_failure_midway_leaves_all_of_the_old(catalog: Catalog, part: str) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    broken = attrs.evolve(FULL, status="failed", group="new", dirty=True, **{part: _cut_off(getattr(FULL, part))})
    with pytest.raises(RuntimeError, match="ends here"):
        catalog.replace_execution(broken)
    assert everything(catalog) == before
    catalog.replace_execution(FULL)  # and the catalog still works


@attrs.frozen
class _Tables:
    """A bundle's scalars, as ingest hands them over."""

    bundle: MetricBundle

    def __iter__(self) -> Iterator[tuple[float | None, Mapping[str, str], Mapping[str, object] | None]]:
        return self.bundle.iter_rows()

    def iter_tables(self) -> Iterator[ScalarTable]:
        return self.bundle.iter_tables()


@pytest.mark.parametrize("innermost", ["metric", "kind", 'a "b"\n\\'])
@pytest.mark.parametrize("units", [{}, {"region": {"ö": "m"}}])
def test_scalars_that_come_in_tables_are_the_same_rows(
    catalog: Catalog, innermost: str, units: dict[str, dict[str, str]]
) -> None:
    odd = {"": 1, "reference": None, '"}': 1e999, 'é\u2028"': -0.5, **{f"m{n}": n / 3 for n in range(41)}}
    results = {
        "ö": {"attributes": {"units": "K"}, **odd},
        "reference_id": {"attributes": {"units": "W", "reference_source_id": "obs"}, "only": 2},
        "empty": {},
        "last": dict(reversed(odd.items())),
    }
    declared = {"json_structure": ["region", innermost], "region": {name: {} for name in results}, innermost: {}}
    bundle = decode_metric_bundle(json.dumps({"DIMENSIONS": declared, "RESULTS": results}).encode())
    catalog.replace_execution(execution_of("rows", scalars=list(bundle.iter_rows()), units=units))
    catalog.replace_execution(execution_of("tables", scalars=_Tables(bundle), units=units))
    rows, tables = (
        [attrs.evolve(each, execution_id=0, fragment="") for each in catalog.scalars() if each.fragment == name]
        for name in ("rows", "tables")
    )
    assert rows == tables
    assert len(rows) == 91


def test_a_key_that_comes_twice_is_refused_and_changes_nothing(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    with pytest.raises(CatalogError, match=r"artifact"):
        catalog.replace_execution(attrs.evolve(FULL, artifacts=[FULL.artifacts[0]] * 2))  # type: ignore[index]
    assert everything(catalog) == before


def test_two_fragments_with_one_id_are_refused(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.replace_execution(execution_of("one"))
    same = lambda kind, *key: surrogate_id(kind, *(() if kind == "execution" else key))  # noqa: E731
    monkeypatch.setattr("emdstore.catalog.writing.surrogate_id", same)
    catalog.replace_execution(execution_of("two"))
    with pytest.raises(CatalogError, match="three and two have the same id"):
        catalog.replace_execution(execution_of("three"))
    assert [row.fragment for row in catalog.executions()] == ["one", "two"]


def _count_statements(catalog: Catalog, rows: int) -> list[str]:
    statements: list[str] = []
    engine = catalog._database._open()
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    below: list[str] = []
    insert_rows = catalog._database.insert_rows
    catalog._database.insert_rows = lambda c, table, rows: below.append(table.name) or insert_rows(c, table, rows)  # type: ignore[method-assign,func-returns-value]
    scalars = [(1.0, {"n": str(n)}, None) for n in range(rows)]
    series = [({"n": str(n)}, "time", [1], [1.0], None) for n in range(rows)]
    catalog.replace_execution(attrs.evolve(FULL, scalars=scalars, series=series))
    return [*statements, *below]


def test_the_number_of_statements_does_not_grow_with_the_rows(url: str) -> None:
    counts = []
    for rows in (1, 5000):
        with Catalog(url) as catalog:
            catalog.replace_execution(FULL)
            counts.append(len(_count_statements(catalog, rows)))
    assert counts[0] == counts[1] < 25


def test_rows_are_deleted_where_there_are_any_and_nowhere_else(catalog: Catalog) -> None:
    def deleted() -> int:
        return sum(each.startswith("DELETE") for each in _count_statements(catalog, 5))

    catalog.replace_execution(execution_of("warm-up"))
    assert (deleted(), deleted()) == (0, len(PARTS))
    nothing = attrs.evolve(FULL, **dict.fromkeys(PARTS, ()))
    catalog.replace_execution(nothing)
    assert not [*catalog.scalars(), *catalog.series(), *catalog.artifacts(), *catalog.outputs(), *catalog.inputs()]
    assert (deleted(), catalog.execution(FULL.fragment).scalars) == (0, 5)


@pytest.mark.once
def test_rows_are_taken_one_by_one_and_not_gathered(shared_catalog_url: str) -> None:
    with Catalog(shared_catalog_url) as catalog:
        catalog.replace_execution(execution_of("warm-up"))
        tracemalloc.start()
        many = ((float(n), {"n": str(n)}, None) for n in range(20_000))
        catalog.replace_execution(execution_of("large", scalars=many))
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 2_500_000
        tracemalloc.reset_peak()
        assert sum(1 for _ in catalog.scalars()) == 20_000
        assert tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0] < 2_500_000
        tracemalloc.stop()


def test_the_latest_execution_decides_about_its_group_in_whatever_order_they_come(url: str) -> None:
    early = execution_of("g/1", started_at=NOON, dirty=True)
    late = execution_of("g/2", started_at=NOON.replace(hour=20), dirty=False)
    silent = execution_of("g/3", started_at=NOON.replace(hour=21), dirty=None)
    for order in ([early, late, silent], [silent, late, early], [late, silent, early]):
        with Catalog(url) as catalog:
            for content in order:
                catalog.replace_execution(content)
            assert [row.group_dirty for row in catalog.executions()] == [False] * 3
            for content in order:
                catalog.records.drop(content.fragment)


def test_a_new_group_is_dirty_until_something_says_otherwise(catalog: Catalog) -> None:
    catalog.replace_execution(execution_of("a", dirty=None))
    assert catalog.execution("a").group_dirty is True
    assert catalog.claims.set_dirty("pmp", "enso", "g", False)
    catalog.replace_execution(execution_of("a", dirty=None))
    assert catalog.execution("a").group_dirty is False
    assert not catalog.claims.set_dirty("pmp", "enso", "unknown", False)


def test_selectors_stay_when_an_execution_does_not_tell_them(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(attrs.evolve(FULL, selectors=None, provider_name=None))
    assert catalog.execution(FULL.fragment).selectors == FULL.selectors


def test_writers_of_one_provider_do_not_wait_for_each_other_on_postgresql(postgres_url: str) -> None:
    with Catalog(postgres_url) as catalog, Catalog(postgres_url) as other:
        catalog.replace_execution(FULL)

        def meanwhile() -> Iterator[Any]:
            other.replace_execution(attrs.evolve(FULL, fragment="b", group="another"))
            yield 1.0, {}, None

        catalog.replace_execution(attrs.evolve(FULL, scalars=meanwhile()))
        assert [row.fragment for row in catalog.executions(provider="pmp")] == ["b", FULL.fragment]


def test_a_time_without_a_zone_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="time zone"):
        catalog.replace_execution(execution_of("a", created_at=NOON.replace(tzinfo=None)))
    assert everything(catalog) == []


def test_deleting_takes_all_rows_of_one_execution_and_no_other(catalog: Catalog) -> None:
    catalog.replace_execution(execution_of("kept", scalars=[(math.nan, {}, None)]))
    kept = everything(catalog)
    catalog.replace_execution(FULL)
    assert catalog.records.drop(FULL.fragment)
    assert not catalog.records.drop(FULL.fragment)
    assert everything(catalog) == kept
    with catalog._database.reading() as connection:  # looked at without the joins that would hide an orphan
        assert sum(connection.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar_one() for t in PARTS.values()) == 1
    with pytest.raises(ExecutionNotFoundError):
        catalog.execution(FULL.fragment)
