"""What was put in is found again, by the filters people have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from sqlalchemy import event
from tests.catalog.examples import FULL, NOON, execution_of
from tests.servers.postgres import PostgresServer, name_in

from emdstore.catalog import Catalog, RecordStamp
from emdstore.catalog.schema import PARTS
from emdstore.errors import ExecutionNotFoundError, InvalidKeyError, QueryError

# Names that mean something to SQL, to LIKE, or to a JSON path.
TRICKY = ['"', "'", "a.b", "$", "a[0]", "%", "_", "\\", 'x" OR 1=1 --', "", "naïve °C", "null", "key", "a\tb", "{}"]


def test_names_and_values_of_dimensions_are_only_text(catalog: Catalog, subtests: pytest.Subtests) -> None:
    for name in TRICKY:
        scalars = [(0.0, {name: name}, None), (1.0, {name: "other"}, None), (2.0, {"else": name}, None)]
        catalog.replace_execution(execution_of("a", scalars=scalars))
        with subtests.test(name):
            assert [row.value for row in catalog.scalars(dimensions={name: name})] == [0.0]
            assert [row.value for row in catalog.scalars(dimensions={name: [name, "other"]})] == [0.0, 1.0]
            assert [row.value for row in catalog.scalars(dimensions={name: []})] == []
            with pytest.raises(QueryError, match="there is no dimension"):
                catalog.scalars(dimensions={name + "x": name})


@pytest.mark.parametrize("kind", ["scalars", "series", "outputs"])
def test_a_dimension_that_no_row_has_is_told_with_what_was_meant(catalog: Catalog, kind: str) -> None:
    ask = getattr(catalog, kind)
    assert ask(dimensions={"regoin": "global"}).count() == 0  # of an empty catalog nothing can be said
    catalog.replace_execution(FULL)
    assert ask(dimensions={"region": "nowhere"}).count() == 0
    with pytest.raises(QueryError, match=r"no dimension 'regoin': did you mean 'region'\?"):
        ask(dimensions={"region": "global", "regoin": "global"})
    with pytest.raises(QueryError, match="51 dimensions are too many"):
        ask(dimensions={f"d{number}": "" for number in range(51)})


@pytest.mark.parametrize("kind", ["executions", "artifacts", "outputs", "scalars", "series", "warnings", "survey"])
def test_a_word_that_is_no_status_is_told_with_those_that_are(sqlite_catalog_url: str, kind: str) -> None:
    catalog = Catalog(sqlite_catalog_url)  # no database is asked
    for given in ("upload_faild", ["uploaded", "upload_faild"]):
        with pytest.raises(QueryError, match=r"no status 'upload_faild': did you mean 'upload_failed'\?"):
            list(
                getattr(catalog, kind)(status=given).rows(1)
                if kind == "survey"
                else getattr(catalog, kind)(status=given)
            )


def test_dimensions_are_filtered_all_at_once(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    assert [row.position for row in catalog.scalars(dimensions={"region": "NINO3.4"})] == [1, 2]
    assert [row.position for row in catalog.scalars(dimensions={"region": "NINO3.4", "season": "JJA"})] == [2]
    assert [row.position for row in catalog.series(dimensions={"region": "global"})] == [0, 1]
    assert [row.name for row in catalog.outputs(dimensions={"region": "global"})] == ["map"]


def test_values_are_counted_by_each_value_of_each_dimension(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("b", scalars=[(1.0, {"region": "global", "a": "x"}, None)]))
    facets = catalog.scalars().facets()
    assert facets == {
        "a": {"x": 1},
        "a.b": {"$.x[0]": 1},
        "region": {"NINO3.4": 2, "global": 2, 'quo"ted': 1},
        "région": {"côte d'Ivoire": 1},
        "season": {"DJF": 2, "JJA": 1},
    }
    assert [list(facets), list(facets["region"])] == [sorted(facets), sorted(facets["region"])]
    assert catalog.scalars(dimensions={"season": "JJA"}).facets() == {"region": {"NINO3.4": 1}, "season": {"JJA": 1}}
    assert catalog.series(fragment="pmp").facets() == {"region": {"NINO3.4": 1, "global": 2}}
    assert catalog.outputs(provider="ilamb").facets() == {}


def test_a_fragment_is_a_folder_and_not_a_beginning(catalog: Catalog) -> None:
    for fragment in ("run1", "run1/a", "run1/b%c", "run10/x", "run1-x", "run1.x", "RUN1/a", "run_/a", "x/run1"):
        catalog.replace_execution(execution_of(fragment, warnings=[("w", fragment, None)]))
    assert [row.fragment for row in catalog.executions(fragment="run1")] == ["run1", "run1/a", "run1/b%c"]
    assert [row.message for row in catalog.warnings(fragment="run1")] == ["run1", "run1/a", "run1/b%c"]
    assert [row.fragment for row in catalog.executions(fragment="run_")] == ["run_/a"]
    assert catalog.executions(fragment="").count() == 9
    with pytest.raises(InvalidKeyError):
        catalog.executions(fragment="run1/")


def test_rows_come_in_the_order_of_the_stores(catalog: Catalog) -> None:
    fragments = ["a", "B", "a/b", "a-b", "a b", "é", "z", "\U0001f600", "ﬀ", "a0"]
    for fragment in fragments:
        catalog.replace_execution(execution_of(fragment, record_digest=fragment, scalars=[(1.0, {}, None)] * 2))
    assert [row.fragment for row in catalog.executions()] == sorted(fragments)
    assert [(row.fragment, row.position) for row in catalog.scalars()] == [
        (f, p) for f in sorted(fragments) for p in (0, 1)
    ]


def test_latest_is_the_newest_complete_set_of_each_group(catalog: Catalog) -> None:
    def put(fragment: str, **changes: Any) -> None:
        told: dict[str, Any] = {
            "state": "published",
            "published_at": NOON,
            "started_at": NOON,
            "record_digest": fragment,
        }
        rows: dict[str, Any] = {"scalars": [(1.0, {"of": fragment}, None)], "warnings": [("w", fragment, None)]}
        catalog.replace_execution(execution_of(fragment, **(told | rows | changes)))

    later, latest = NOON.replace(hour=13), NOON.replace(hour=23)
    put("g/old")
    put("g/new", published_at=later)
    put("g/bare", state="bare", published_at=None)
    put("g/x-running", state=None, published_at=None, status="running")
    put("g/x-failed", state="failed", published_at=latest, status="failed")
    put("g/x-lacking", state="incomplete", complete=False, published_at=latest, status="failed")
    put("same/a", group="same")
    put("same/b", group="same", started_at=later)
    put("same/c", group="same")
    put("twin/a", group="twin")
    put("twin/b", group="twin")
    put("bare/a", group="bare", state="bare", published_at=None, started_at=None)
    put("none/failed", group="none", state="failed", status="failed")
    # The key of a group is only its own within a diagnostic.
    put("else/old", diagnostic="else", published_at=NOON.replace(hour=1))
    newest = ["bare/a", "else/old", "g/new", "same/b", "twin/b"]
    assert [row.fragment for row in catalog.executions(latest=True)] == newest
    assert [row.dimensions["of"] for row in catalog.scalars(latest=True)] == newest
    assert [row.message for row in catalog.warnings(latest=True)] == newest
    assert catalog.executions(latest=True).count() == 5
    assert catalog.scalars(latest=True).facets() == {"of": dict.fromkeys(newest, 1)}
    assert [row.fragment for row in catalog.executions(latest=True, group="g", diagnostic="enso")] == ["g/new"]
    assert list(catalog.executions(latest=True, fragment="g/old")) == []
    assert catalog.survey(latest=True).count() == 5
    assert catalog.executions(latest=False).count() == 14


@pytest.mark.parametrize("kind", ["executions", "artifacts", "outputs", "scalars", "series", "warnings"])
def test_rows_of_a_retracted_set_are_left_out_unless_asked_for(catalog: Catalog, kind: str) -> None:
    def found(**filters: Any) -> set[str]:
        every = {"superseded": True} if kind in ("outputs", "scalars", "series") else {}
        return {row.fragment for row in getattr(catalog, kind)(**filters, **every)}

    said = {"retracted_at": NOON, "retracted_by": "ann", "retraction_reason": "wrong", "superseded_by": "a"}
    for fragment in ("a", "b"):
        catalog.replace_execution(attrs.evolve(FULL, fragment=fragment, record_digest=fragment, state="published"))
    stamp = RecordStamp("b", "b", 1, 1.0, "v", NOON, "ann", "wrong", "a")
    catalog.records.note([stamp])
    assert catalog.records.of(["b"]) == {"b": stamp}
    assert attrs.asdict(catalog.execution("b")).items() >= said.items()
    assert (found(), found(retracted=True), found(retracted=None)) == ({"a"}, {"b"}, {"a", "b"})
    # Of two that are alike the last by name would be the latest, if it were not retracted.
    assert found(latest=True, retracted=None) == {"a"}
    catalog.records.note([RecordStamp("b", "b", 1, 1.0, "v")])
    assert (found(), found(retracted=True)) == ({"a", "b"}, set())


def test_filters_of_every_kind_narrow_every_query(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    other = attrs.evolve(FULL, fragment="ilamb/x/1", provider="ilamb", diagnostic="x", group="h", status="failed")
    catalog.replace_execution(other)
    queries: list[tuple[Any, int]] = [
        (catalog.executions, 1),
        (catalog.artifacts, 3),
        (catalog.outputs, 2),
        (catalog.scalars, 6),
        (catalog.series, 3),
        (catalog.warnings, 2),
    ]
    for ask, rows in queries:
        for narrow in ({"provider": "ilamb"}, {"diagnostic": ["x", "y"]}, {"group": "h"}, {"status": ("failed",)}):
            found = list(ask(**narrow))
            assert {row.fragment for row in found} == {"ilamb/x/1"}
            assert len(found) == ask(**narrow).count() == rows
        assert ask().count() == 2 * rows
        assert ask(provider="ilamb", status="uploaded").count() == 0
        assert ask(provider="ilamb", status="uploaded").first() is None
        assert ask().first().fragment == "ilamb/x/1"
        assert ask(status=[]).count() == 0
        with pytest.raises(TypeError, match="provder"):
            ask(provder="ilamb")


def test_a_query_can_be_left_early_and_asked_again(catalog: Catalog) -> None:
    catalog.replace_execution(execution_of("a", scalars=[(float(n), {}, None) for n in range(1500)]))
    query = catalog.scalars()
    for _ in range(20):  # more than there are connections
        assert next(iter(query)).value == 0.0
    assert sum(1 for _ in query) == 1500
    assert str(catalog.url) in repr(query)


def test_writing_goes_on_while_rows_are_read(catalog: Catalog) -> None:
    catalog.replace_execution(execution_of("a", scalars=[(float(n), {}, None) for n in range(5000)]))
    seen = 0
    for row in catalog.scalars():
        if row.position % 1000 == 0:
            catalog.replace_execution(execution_of("a", scalars=[(-1.0, {}, None)]))
        assert row.value >= 0
        seen += 1
    assert seen == 5000
    assert catalog.scalars().count() == 1


def test_an_execution_is_found_by_fragment_by_its_end_and_by_id(catalog: Catalog) -> None:
    for fragment in ("pmp/a/1", "pmp/b/1", "pmp/b/22", "22", "pmp/c/%1"):
        catalog.replace_execution(execution_of(fragment))
    assert catalog.execution("pmp/a/1").fragment == "pmp/a/1"
    assert catalog.execution("a/1").fragment == "pmp/a/1"
    assert catalog.execution("22").fragment == "22"
    assert catalog.execution("b/22").fragment == "pmp/b/22"
    assert catalog.execution("%1").fragment == "pmp/c/%1"
    row = catalog.execution("pmp/b/1")
    assert catalog.execution(row.execution_id) == catalog.execution(str(row.execution_id)) == row


@pytest.fixture(scope="module")
def one(asked_catalog: Catalog) -> Catalog:
    """A catalog with one execution; not to be changed."""
    asked_catalog.replace_execution(execution_of("pmp/a/1"))
    return asked_catalog


@pytest.mark.parametrize("wanted", ["2", "A/1", "mp/a/1", "pmp", "x" * 300, "", "/a/1", 7, str(10**30)])
def test_an_execution_that_is_not_there_is_said_so(one: Catalog, wanted: str | int) -> None:
    with pytest.raises(ExecutionNotFoundError, match="no execution"):
        one.execution(wanted)


def test_a_name_of_several_executions_is_answered_with_which(catalog: Catalog) -> None:
    for n in range(9):
        catalog.replace_execution(execution_of(f"pmp/{n}/last"))
    with pytest.raises(ExecutionNotFoundError, match=r"pmp/0/last, pmp/1/last.*whole fragment"):
        catalog.execution("last")


def test_records_are_told_by_digest_and_by_what_the_listing_said(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("pmp/bare"))
    catalog.replace_execution(execution_of("pmp2/x", record_digest="d"))
    known = catalog.records.of([FULL.fragment, "pmp/bare", "pmp2/x", "pmp/none"])
    assert known.keys() == {FULL.fragment, "pmp2/x"}
    stamp = known[FULL.fragment]
    assert stamp == RecordStamp(FULL.fragment, "ab" * 32, 4321, 1748779200.123456, '"etag"')
    assert catalog.records.of([]) == {}


def test_what_a_listing_says_of_a_record_is_noted_if_the_record_is_the_same(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("pmp2/x", record_digest="d"))
    known = catalog.records.of([FULL.fragment, "pmp2/x"])
    same = attrs.evolve(known["pmp2/x"], size=7, modified=1.5, version="v")
    other = attrs.evolve(known[FULL.fragment], digest="of another record", version="w")
    catalog.records.note([same, other])
    assert catalog.records.of([FULL.fragment, "pmp2/x"]) == known | {"pmp2/x": same}


def test_rows_with_gaps_compare_equal() -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(FULL)
        assert list(catalog.scalars()) == list(catalog.scalars())
        assert list(catalog.series()) == list(catalog.series())
        assert catalog.scalars().first() != attrs.evolve(catalog.scalars().first(), value=float("nan"))  # type: ignore[misc,type-var]


def test_postgresql_sends_rows_as_they_are_asked_for(postgres_server: PostgresServer, postgres_url: str) -> None:
    with Catalog(postgres_url) as catalog:
        catalog.replace_execution(execution_of("a", scalars=[(float(n), {}, None) for n in range(5000)]))
        rows = iter(catalog.scalars())
        next(rows)
        with postgres_server.connect() as connection:
            running = "SELECT query FROM pg_stat_activity WHERE datname = %s"
            (query,) = connection.execute(running, [name_in(postgres_url)]).fetchone()  # type: ignore[misc]
        assert query.startswith("FETCH FORWARD")
        assert len(list(rows)) == 4999


def test_postgresql_keeps_keys_in_byte_order_whatever_its_language(postgres_url: str) -> None:
    with Catalog(postgres_url) as catalog, catalog._database.reading() as connection:
        columns = "SELECT table_name, column_name FROM information_schema.columns WHERE collation_name = 'C'"
        sorted_by_byte = set(connection.exec_driver_sql(columns).all())
    assert {("execution", "fragment"), ("provider", "slug"), ("artifact", "key")} <= sorted_by_byte


# What people ask of values that have dimensions.
FACETED: dict[str, Callable[[Catalog], object]] = {
    "rows": lambda catalog: len(list(catalog.scalars(dimensions={"region": "r7"}))),
    "rows of several values": lambda catalog: len(list(catalog.scalars(dimensions={"region": ["r7", "r8"]}))),
    "rows of two dimensions": lambda catalog: len(list(catalog.scalars(dimensions={"region": "r7", "model": "m"}))),
    "count": lambda catalog: catalog.scalars(dimensions={"region": "r7"}).count(),
    "facets": lambda catalog: catalog.scalars(dimensions={"region": "r7"}).facets()["season"],
    "facets of one provider": lambda catalog: catalog.scalars(dimensions={"region": "r7"}, provider="pmp").facets(),
    "series": lambda catalog: len(list(catalog.series(dimensions={"region": "r7"}))),
    "outputs": lambda catalog: catalog.outputs(dimensions={"region": "r7"}).facets(),
}


@pytest.fixture(scope="module")
def large_catalog(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Catalog]:
    """A catalog of so many values that PostgreSQL would rather not read them all."""
    labels = [{"region": f"r{n % 5000}", "model": "m", "season": ("DJF", "JJA")[n % 2]} for n in range(20_000)]
    content = execution_of(
        "a",
        scalars=[(float(n), each, None) for n, each in enumerate(labels)],
        series=[(each, "time", [1], [1.0], None) for each in labels],
        outputs=[("plots", str(n), None, "f.png", "", "", each) for n, each in enumerate(labels)],
    )
    with postgres_server.new_database(postgres_template) as url, Catalog(url) as catalog:
        catalog.replace_execution(content)
        with postgres_server.connect(name_in(url)) as connection:
            connection.execute("VACUUM ANALYZE")
        yield catalog


@pytest.mark.parametrize("asked", FACETED)
def test_a_faceted_query_uses_the_index_on_postgresql(large_catalog: Catalog, asked: str) -> None:
    statements: list[tuple[str, Any]] = []
    engine = large_catalog._database._open()
    note = lambda *args: statements.append((args[2], args[3]))  # noqa: E731
    event.listen(engine, "before_cursor_execute", note)
    FACETED[asked](large_catalog)
    event.remove(engine, "before_cursor_execute", note)
    # The first asks whether there is such a dimension at all: it stops at the first row that has it.
    known, (statement, parameters) = [each for each in statements if each[0].startswith("SELECT")]
    assert known[0].startswith("SELECT EXISTS")
    with large_catalog._database.reading() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
    table = asked if asked in ("series", "outputs") else "scalars"
    assert f"Bitmap Index Scan on ix_{PARTS[table].name}_dimensions" in plan, plan
    assert f"Seq Scan on {PARTS[table].name}" not in plan, plan
