"""A database made from a results tree alone, by call and by command."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from climate_ref.models import Execution, ExecutionGroup
from climate_ref.models.execution import execution_datasets
from tests.integrations.climate_ref.frameworks import Framework, dataset_of, framework, make_template
from tests.integrations.climate_ref.sets import entry, metric_bundle, output_bundle, write_set
from tests.sets.examples import nonzero

from emdstore import CatalogVersionError, InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore, transfer
from emdstore.cli import app
from emdstore.ingestion.replay_report import IngestOutcome, ReplayInterrupted
from emdstore.integrations.climate_ref import replay
from emdstore.sets.record import decode_record, encode_record

GROUP = "example/global-mean/historical_g1_v1_abcdef01"
TABLES = (
    "provider",
    "diagnostic",
    "execution_group",
    "execution",
    "execution_dataset",
    "execution_output",
    "metric_value",
)


@pytest.fixture(scope="session")
def replay_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def ref(replay_template: Path, tmp_path: Path) -> Iterator[Framework]:
    with framework(replay_template, tmp_path) as one:
        yield one


@pytest.fixture
def empty(replay_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(replay_template, tmp_path / "empty.db"))


def handle(ref: Framework, fragment: str, value: float = 0.5, **said: Any) -> int:
    write_set(
        ref.scratch / fragment,
        metric=metric_bundle({"global": {"bias": value}}, region=["global"], metric=["bias"]),
        output=output_bundle(plots={"map": entry("map.png", region="global")}),
        series=[{"dimensions": {"region": "global"}, "values": [1.0], "index": [1850], "index_name": "year"}],
    )
    (ref.scratch / fragment / "map.png").write_bytes(b"png")
    execution = ref.solved(fragment)
    ref.handle("ours", execution, ref.result(fragment, **said))
    return execution


def dump(file: Path | str, *, times: bool = False) -> dict[str, list[Any]]:
    """Return all rows of the tables that a replay writes."""
    with closing(sqlite3.connect(file)) as database:
        database.row_factory = sqlite3.Row
        left_out = set() if times else {"created_at", "updated_at"}
        return {
            table: [
                {name: row[name] for name in row.keys() if name not in left_out}  # noqa: SIM118
                for row in database.execute(f"SELECT * FROM {table} ORDER BY 1")
            ]
            for table in TABLES
        }


def file_of(ref: Framework) -> str:
    return str(ref.config.db.database_url).removeprefix("sqlite:///")


def test_a_lost_database_is_rebuilt_equal(ref: Framework, empty: Path) -> None:
    session = ref.database.session
    with session.begin():
        for slug in ("CMIP6.a", "CMIP6.b"):
            session.add(dataset_of(slug))
    first = handle(ref, f"{GROUP}/1")
    with session.begin():
        session.execute(execution_datasets.insert(), [{"execution_id": first, "dataset_id": each} for each in (1, 2)])
        session.get(Execution, first).provider_version = "1.2.3"
    ref.handle("ours", first, ref.result(f"{GROUP}/1"))  # now that the links are there
    handle(ref, f"{GROUP}/2", successful=False, retryable=False)
    handle(ref, "other/sea-ice/x_g3_v1_00000000/3", 0.25)
    with sqlite3.connect(empty) as new:  # their catalogue of datasets is ingested before anything is solved
        new.execute("ATTACH ? AS old", (file_of(ref),))
        new.execute("INSERT INTO dataset SELECT * FROM old.dataset")
    new.close()

    report = replay(LocalArtifactStore(ref.results), empty)

    assert nonzero(report.counts) == {"ingested": 3}, report.as_dict()
    assert dump(empty) == dump(file_of(ref))
    before = dump(empty, times=True)
    again = replay(LocalArtifactStore(ref.results), f"sqlite:///{empty}")
    assert again.counts["unchanged"] == 3
    assert dump(empty, times=True) == before
    assert replay(LocalArtifactStore(ref.results), ref.database).counts["unchanged"] == 3  # whoever loaded it


def test_a_tree_that_their_own_handler_left_is_loaded_too(ref: Framework, empty: Path) -> None:
    execution = handle(ref, f"{GROUP}/1")
    expected = ref.rows(execution)
    for record in ref.results.rglob("execution.json"):
        record.unlink()
    report = replay(LocalArtifactStore(ref.results), empty)
    assert report.ok
    with sqlite3.connect(empty) as database:
        (row,) = database.execute("SELECT output_fragment, successful, path FROM execution").fetchall()
        assert row == (f"{GROUP}/1", 1, "diagnostic.json")
        values = database.execute("SELECT value, region, metric FROM metric_value WHERE type = 'SCALAR'").fetchall()
        (dirty,) = database.execute("SELECT dirty FROM execution_group").fetchone()
    database.close()
    assert values == [(0.5, "global", "bias")]
    assert expected.counts == (1, 1, 1)
    assert not dirty


@pytest.mark.once
def test_from_s3(ref: Framework, empty: Path, moto_server: Any) -> None:
    handle(ref, f"{GROUP}/1")
    bucket = S3ArtifactStore(f"s3://{moto_server.make_bucket()}", **moto_server.options)
    transfer(LocalArtifactStore(ref.results), bucket).raise_for_failures()
    shutil.rmtree(ref.results)
    shutil.rmtree(ref.scratch)
    assert replay(bucket, empty).counts["ingested"] == 1
    assert len(dump(empty)["metric_value"]) == 2


def test_what_people_changed_since_stays(ref: Framework) -> None:
    execution = handle(ref, f"{GROUP}/1")
    session = ref.database.session
    with session.begin():
        session.get(Execution, execution).execution_group.dirty = True  # as `ref executions flag-dirty` does
    assert replay(LocalArtifactStore(ref.results), ref.database).counts["unchanged"] == 1
    session.expire_all()
    with session.begin():
        assert session.get(Execution, execution).execution_group.dirty is True


def test_rows_that_somebody_doubled_are_put_right(ref: Framework) -> None:
    execution = handle(ref, f"{GROUP}/1")
    expected = ref.rows(execution)
    with sqlite3.connect(file_of(ref)) as database:
        names = [name for _, name, *_ in database.execute("PRAGMA table_info(metric_value)") if name != "id"]
        columns = ", ".join(f'"{name}"' for name in names)
        database.execute(f"INSERT INTO metric_value ({columns}) SELECT {columns} FROM metric_value")
    database.close()
    assert ref.rows(execution).counts == (2, 2, 1)
    assert replay(LocalArtifactStore(ref.results), ref.database).counts["ingested"] == 1
    assert ref.rows(execution) == expected


def test_one_bad_set_stops_no_other(ref: Framework, empty: Path) -> None:
    for number in range(1, 5):
        handle(ref, f"{GROUP}/{number}")
    (ref.results / GROUP / "1" / "map.png").unlink()
    (ref.results / GROUP / "2" / "diagnostic.json").write_text("{}")
    newer = ref.results / GROUP / "3" / "execution.json"
    newer.write_text(newer.read_text().replace('"record_version": 2', '"record_version": 99'))
    report = replay(LocalArtifactStore(ref.results), empty)
    assert nonzero(report.counts) == {"ingested": 1, "changed": 2, "newer-schema": 1}
    (version,) = [each for each in report.failures if each.state == "newer-schema"]
    assert version.fragment == f"{GROUP}/3"
    assert "version 99" in str(version.error)
    assert [row["output_fragment"] for row in dump(empty)["execution"]] == [f"{GROUP}/4"]


def test_a_set_that_became_less_does_not_take_the_rows_of_a_success(ref: Framework) -> None:
    execution = handle(ref, f"{GROUP}/1")
    rows = ref.rows(execution)
    place = ref.results / f"{GROUP}/1" / "execution.json"
    record = decode_record(place.read_bytes())
    for state, failure in (("failed", "diagnostic"), ("incomplete", "result")):
        less: Any = {"state": state, "status": "failed", "failure": failure}
        place.write_bytes(encode_record(attrs.evolve(record, **less)))
        assert nonzero(replay(ref.results, file_of(ref)).counts) == {"kept": 1}
        assert ref.rows(execution) == rows


def test_unknown_providers_are_created_or_refused(ref: Framework, empty: Path) -> None:
    handle(ref, f"{GROUP}/1")
    before = dump(empty)
    refused = replay(LocalArtifactStore(ref.results), empty, create_unknown=False)
    assert refused.counts["invalid"] == 1
    assert "provider 'example'" in str(refused.failures[0].error)
    assert dump(empty) == before
    assert replay(LocalArtifactStore(ref.results), empty).ok
    assert [row["slug"] for row in dump(empty)["provider"]] == ["example"]
    handle(ref, "example/unheard-of/y_g2_v1_00000000/2")
    refused = replay(LocalArtifactStore(ref.results), empty, create_unknown=False)
    assert refused.counts["unchanged"] == 1
    assert "diagnostic 'unheard-of'" in str(refused.failures[0].error)


def test_an_execution_that_the_database_knows_by_another_folder_is_refused(ref: Framework) -> None:
    handle(ref, f"{GROUP}/1")
    (ref.results / "archive").mkdir()
    shutil.copytree(ref.results / "example", ref.results / "archive" / "example")
    before = dump(file_of(ref), times=True)
    report = replay(LocalArtifactStore(ref.results), ref.database, "archive")
    assert report.counts["invalid"] == 1
    assert f"{GROUP}/1" in str(report.failures[0].error)
    assert dump(file_of(ref), times=True) == before


def test_another_execution_in_the_same_folder_is_refused(ref: Framework) -> None:
    execution = handle(ref, f"{GROUP}/1")
    with ref.database.session.begin():
        ref.database.session.get(Execution, execution).dataset_hash = "another site's"
    report = replay(LocalArtifactStore(ref.results), ref.database)
    assert report.counts["invalid"] == 1
    assert "other datasets" in str(report.failures[0].error)


def test_the_flag_follows_the_latest_execution(ref: Framework, empty: Path) -> None:
    handle(ref, f"{GROUP}/1")
    session = ref.database.session
    second = handle(ref, f"{GROUP}/2", successful=False, retryable=True)
    with session.begin():
        (group,) = [session.scalars(sa.select(ExecutionGroup).order_by(ExecutionGroup.id)).first()]
        later = session.get(Execution, second)
        later.execution_group = group
        later.created_at = later.created_at.replace(year=2050)
    ref.handle("ours", second, ref.result(f"{GROUP}/2", successful=False, retryable=True))
    assert replay(LocalArtifactStore(ref.results), empty).ok
    groups = {row["key"]: row["dirty"] for row in dump(empty)["execution_group"]}
    assert groups == {f"{GROUP}/1": 1}


def test_absolute_names_of_another_machine_are_resolved_or_told(ref: Framework, empty: Path) -> None:
    write_set(
        ref.results / f"{GROUP}/1",
        metric=metric_bundle({"global": {"bias": 1.0}}, region=["global"], metric=["bias"]),
        output=output_bundle(
            plots={"known": entry(f"/other/scratch/{GROUP}/1/map.png"), "lost": entry("/other/place/map.png")}
        ),
    )
    (ref.results / GROUP / "1" / "map.png").write_bytes(b"png")
    report = replay(LocalArtifactStore(ref.results), empty)
    assert report.ok
    (done,) = report.outcomes
    assert any("/other/place/map.png" in note for note in done.notes)
    assert [row["filename"] for row in dump(empty)["execution_output"]] == ["map.png", None]


def test_progress_and_interruption(ref: Framework, empty: Path) -> None:
    for number in range(1, 4):
        handle(ref, f"{GROUP}/{number}")
    seen: list[tuple[str, int]] = []

    def stop_after_two(done: IngestOutcome, count: int, total: int | None) -> None:
        seen.append((done.fragment, count))
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(ReplayInterrupted) as stopped:
        replay(LocalArtifactStore(ref.results), empty, on_progress=stop_after_two)
    assert stopped.value.report.counts["ingested"] == 2
    assert seen == [(f"{GROUP}/1", 1), (f"{GROUP}/2", 2)]
    assert nonzero(replay(LocalArtifactStore(ref.results), empty).counts) == {"ingested": 1, "unchanged": 2}


@pytest.mark.parametrize("what", ["missing", "empty", "older", "newer", "nonsense"])
def test_databases_that_cannot_be_used_are_refused_and_left_alone(tmp_path: Path, empty: Path, what: str) -> None:
    place: Path | str = empty
    if what == "missing":
        place = tmp_path / "nothing.db"
    elif what == "empty":
        place = tmp_path / "new.db"
        sqlite3.connect(place).close()
        Path(place).touch()
    elif what == "nonsense":
        place = "mysql://host/database"
    else:
        with sqlite3.connect(empty) as database:
            database.execute("UPDATE alembic_version SET version_num = ?", (f"{what}-one",))
        database.close()
    with pytest.raises(CatalogVersionError, match=r"ref db migrate"):
        replay(InMemoryArtifactStore(), place)
    assert what != "missing" or not Path(place).exists()


def test_the_command(ref: Framework, empty: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handle(ref, f"{GROUP}/1")
    done = _emdstore(str(ref.results), "--database", str(empty), "--json", "--refuse-unknown")
    assert done.returncode == 1
    assert json.loads(done.stdout)["counts"]["invalid"] == 1
    capfd.readouterr()
    assert app.run(["climate-ref", "replay", str(ref.results), "--database", f"sqlite:///{empty}"]) == 0
    assert capfd.readouterr().out[:10] == "1 ingested"
    assert app.run(["climate-ref", "replay", str(ref.results), "--database", "nowhere.db", "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["type"] == "CatalogVersionError"


def _emdstore(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emdstore", "climate-ref", "replay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
