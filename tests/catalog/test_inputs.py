"""What a result came from can be asked for, by whatever the thing that was read is called."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from tests.catalog.examples import FULL, execution_of

from emdstore.catalog import Catalog
from emdstore.catalog.schema import VERSION_TABLE, dataset
from emdstore.errors import QueryError

ERA5 = (("ERA5", None, None, None, "ab" * 32), "observations", "psl", None)


def fill(catalog: Catalog) -> Catalog:
    catalog.replace_execution(FULL)
    catalog.replace_execution(execution_of("other", inputs=[ERA5], diagnostic_version="1"))
    return catalog


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    return fill(catalog)


@pytest.fixture(scope="module")
def asked(asked_catalog: Catalog) -> Catalog:
    """As `filled`, and not to be changed."""
    return fill(asked_catalog)


@pytest.mark.parametrize(
    ("called", "reading"),
    [
        ("CMIP6.CMIP.x.tas_1%", [FULL.fragment]),
        ("cmip6.*", [FULL.fragment]),
        ("CMIP6.CMIP.?.tas*", [FULL.fragment]),
        ("21.14100/AbC", [FULL.fragment]),
        ("hdl:21.14100/abc", [FULL.fragment]),
        ("https://doi.org/10.22033/ESGF/x", [FULL.fragment]),
        ("doi: 10.22033/ESGF/X", [FULL.fragment]),
        ("ab" * 32, ["other", FULL.fragment]),
        ("masks/*", [FULL.fragment]),
        ("era5", ["other", FULL.fragment]),
        (["masks/land.nc", "ERA5"], ["other", FULL.fragment]),
        ("CMIP6.CMIP.x.tas_1", []),  # the name goes on
        ("CMIP6.CMIP.xxtas_1%", []),  # a dot is a dot
        ("CMIP6.CMIP.x.tasX1%", []),  # and an underscore is one
        ("ERA", []),
    ],
)
def test_executions_are_found_by_what_they_read(asked: Catalog, called: str | list[str], reading: list[str]) -> None:
    assert [row.fragment for row in asked.executions(dataset=called)] == reading
    assert sorted({row.fragment for row in asked.inputs(dataset=called)}) == reading


def test_of_all_that_was_read_only_what_was_asked_for_is_told(asked: Catalog) -> None:
    assert [(row.dataset, row.role) for row in asked.inputs(dataset="ERA5")] == [
        ("ERA5", "observations"),
        ("ERA5", "reference"),
    ]
    assert asked.inputs().count() == 4
    assert next(iter(asked.scalars(dataset="masks/land.nc", dimensions={"season": "DJF"}))).value == 1.25


def test_files_have_the_asset_roles_of_their_records(asked: Catalog) -> None:
    assert {row.asset_role for row in asked.artifacts()} == {"Output"}
    assert {(row.key is None, row.asset_role) for row in asked.inputs()} == {(False, "Input"), (True, None)}


def test_an_empty_name_is_refused(asked: Catalog) -> None:
    with pytest.raises(QueryError, match="names no dataset"):
        asked.executions(dataset="doi:")


def test_versions_choose_executions(asked: Catalog) -> None:
    assert [row.fragment for row in asked.executions(diagnostic_version="1")] == ["other"]
    assert [row.fragment for row in asked.executions(provider_version=["3.9", "4"])] == [FULL.fragment]


def test_packages_and_hosts_choose_executions_and_their_values(filled: Catalog) -> None:
    filled.replace_execution(execution_of("third", software={"numpy": "1.0", 'odd"name.x': "2"}, host="login1"))

    def found(**filters: Any) -> set[str]:
        return {row.fragment for row in filled.executions(**filters)}

    assert found(software={"numpy": "2.3"}) == {FULL.fragment}
    assert found(software={"numpy": ["1.0", "2.3"]}) == {"third", FULL.fragment}
    assert found(software={'odd"name.x': "2", "numpy": "1.0"}) == {"third"}
    assert found(software={"numpy": "1.0", "PMP": "3.9 (Ü)"}) == set()
    assert found(host="login1") == {"third"}
    assert filled.scalars(software={"numpy": "2.3"}).count() == filled.scalars(fragment=FULL.fragment).count() > 0


def test_a_dataset_is_one_row_whoever_reads_it_and_goes_by_all_that_is_known_of_it(filled: Catalog) -> None:
    newer = (("ERA5", "v2", None, None, "ab" * 32), None, None, None)
    filled.replace_execution(execution_of("third", inputs=[newer, ERA5]))
    with filled._database.reading() as connection:
        rows = connection.execute(sa.select(dataset.c.name, dataset.c.version)).all()
    assert sorted(rows, key=repr) == [("CMIP6.CMIP.x.tas_1%", "v20191108"), ("ERA5", "v2"), ("ERA5", None)]


def test_what_an_execution_read_goes_with_it(filled: Catalog) -> None:
    filled.replace_execution(attrs.evolve(FULL, inputs=()))
    assert [row.fragment for row in filled.inputs()] == ["other"]
    filled.forget("other")
    assert filled.inputs().count() == 0


def test_after_an_upgrade_every_set_is_read_again(url: str) -> None:
    with Catalog(url) as catalog:
        catalog.replace_execution(FULL)
        with catalog._database.writing() as connection:
            for table in ("execution_input", "dataset", "release_set", "release_alias", "release", "last_replay"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
            columns = ["provider_version", "diagnostic_version", "software", "wall_seconds", "cpu_seconds"]
            for column in (*columns, "peak_memory_bytes", "exit_code", "n_inputs", "cause"):
                connection.exec_driver_sql(f"ALTER TABLE execution DROP COLUMN {column}")
            for table in ("scalar_value", "series_value"):
                for column in ("kind", "reference_id", "units"):
                    connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0002'")
        catalog._database._here.get().is_prepared = False
        assert catalog.upgrade().state == "current"
        row = catalog.execution(FULL.fragment)
        assert (row.record_size, row.inputs, row.software) == (None, 0, None)
        assert row.record_digest not in (None, FULL.record_digest)
        catalog.replace_execution(FULL)
        assert catalog.inputs().count() == 3
