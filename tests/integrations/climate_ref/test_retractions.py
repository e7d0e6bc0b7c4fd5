"""A retraction is carried from results into their database, and from their database into results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from climate_ref.models import Execution
from tests.integrations.climate_ref.frameworks import Framework, framework, make_template
from tests.integrations.climate_ref.test_replay import GROUP, dump, file_of, handle

from emdstore import LocalArtifactStore, read_retraction, retract, unretract
from emdstore.cli import app
from emdstore.integrations.climate_ref import carry_retractions, replay

ONE, OTHER = f"{GROUP}/1", f"{GROUP}/2"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def ref(template: Path, tmp_path: Path) -> Iterator[Framework]:
    with framework(template, tmp_path) as one:
        handle(one, ONE)
        handle(one, OTHER, 0.25)
        yield one


@pytest.fixture
def results(ref: Framework) -> LocalArtifactStore:
    return LocalArtifactStore(ref.results)


def flagged(file: str | Path) -> list[str]:
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        found = connection.scalars(sa.select(Execution.output_fragment).where(Execution.retracted.is_(True)))
        return list(found)


def flag(file: str, fragment: str, retracted: bool = True) -> None:
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        changed = sa.update(Execution).where(Execution.output_fragment == fragment).values(retracted=retracted)
        connection.execute(changed)


def test_what_is_said_in_results_becomes_their_flag_and_the_rows_stay(
    ref: Framework, results: LocalArtifactStore, template: Path, tmp_path: Path
) -> None:
    file, before = file_of(ref), dump(file_of(ref))
    retract(results, ONE, reason="wrong units")
    assert replay(results, file).counts["ingested"] == 1
    assert flagged(file) == [ONE]
    assert replay(results, file).counts["ingested"] == 0
    anew = Path(shutil.copy(template, tmp_path / "anew.db"))
    assert replay(results, anew).ok
    assert flagged(anew) == [ONE]
    unretract(results, ONE)
    assert replay(results, file).ok
    assert dump(file) == before


def test_their_flag_stays_where_nothing_was_said_in_results(ref: Framework, results: LocalArtifactStore) -> None:
    flag(file_of(ref), OTHER)
    assert replay(results, file_of(ref)).counts["ingested"] == 0
    assert flagged(file_of(ref)) == [OTHER]


def test_their_flag_is_said_in_results_once(ref: Framework, results: LocalArtifactStore) -> None:
    file = file_of(ref)
    flag(file, ONE)
    assert carry_retractions(file, results, dry_run=True).retracted == (ONE,)
    assert read_retraction(results, ONE) is None
    done = carry_retractions(file, results, reason="a dataset was withdrawn", by="me")
    assert (done.ok, done.retracted, done.unchanged) == (True, (ONE,), 0)
    said = read_retraction(results, ONE)
    assert said is not None
    assert (said.reason, said.by) == ("a dataset was withdrawn", "me")
    again = carry_retractions(file, results)
    assert (again.retracted, again.unchanged) == ((), 1)
    assert read_retraction(results, ONE) == said
    assert read_retraction(results, OTHER) is None


def test_a_retraction_is_taken_back_only_if_that_is_asked_for(ref: Framework, results: LocalArtifactStore) -> None:
    file = file_of(ref)
    retract(results, ONE, reason="wrong units")
    assert carry_retractions(file, results).taken_back == ()
    assert read_retraction(results, ONE) is not None
    assert carry_retractions(file, results, take_back=True).taken_back == (ONE,)
    assert read_retraction(results, ONE) is None


@pytest.mark.once
def test_a_set_that_is_not_there_is_told_by_the_command_and_stops_no_other(
    ref: Framework, results: LocalArtifactStore, capfd: pytest.CaptureFixture[str]
) -> None:
    for fragment in (ONE, OTHER):
        flag(file_of(ref), fragment)
    shutil.rmtree(results.root / ONE)
    for more in (["--dry-run"], []):
        capfd.readouterr()
        assert app.run(["climate-ref", "retractions", str(results.root), "--database", file_of(ref), *more]) == 1
        out, err = capfd.readouterr()
        assert f"failed  {ONE}" in out + err
        assert f"retracted  {OTHER}" in out
    assert read_retraction(results, OTHER) is not None
