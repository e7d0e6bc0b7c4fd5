"""An ensemble in a workspace: as much as it says, the same bytes everywhere, whole again after any interruption."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest
from tests.demo.test_drawing import decode
from tests.ensembles import FAILED, GOOD, INCOMPLETE, KILLED, SMALL, run_that

import emdstore
from emdstore import (
    Catalog,
    InMemoryArtifactStore,
    LocalArtifactStore,
    Workspace,
    WorkspaceError,
    materialize_outputs,
    replay,
)
from emdstore.demo import Ensemble, Fate, climate, open_folder, run_ensemble, write_ensemble, write_set
from emdstore.demo.drawing import contours
from emdstore.emds import decode_metric_bundle, decode_output_bundle, decode_series

SOURCE = Path(emdstore.__file__).parents[1]
PROGRAM = f"import sys; from emdstore.demo import *; write_ensemble(sys.argv[1], {SMALL!r})"
DIGEST = "9176e4d4be94fde4c1765f9c7b93e846961b672035856885071765f93e08a9c3"
"""Of the small ensemble's artifacts."""


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file but records, the identity, the log of events, and what a killed writer left."""
    untold = ("execution.json", "identity.json")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in untold and ".emdstore-" not in path.name and "events" not in path.parts
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small ensemble; not to be changed."""
    folder = tmp_path_factory.mktemp("ensemble")
    assert write_ensemble(folder, SMALL).changed
    return folder


def test_a_workspace_holds_as_much_as_the_ensemble_says(written: Path) -> None:
    with Catalog(written / "catalog.db", create=False) as catalog:
        assert Counter(row.status for row in catalog.executions()) == {"uploaded": 4, "failed": 3}
        assert [row.fragment for row in catalog.executions()] == sorted(run.fragment for run in SMALL.runs())
        found = {what: getattr(catalog, what)().count() for what in ("scalars", "series", "outputs", "artifacts")}
        counts = attrs.asdict(SMALL.counts)
        assert found == {what: counts[what] for what in found}
        assert {row.attributes["units"] for row in catalog.scalars()} == {"K", "g m-2 day-1", "1"}


@pytest.mark.parametrize(
    "ensemble",
    [
        Ensemble(models=2, diagnostics=3, executions=13, regions=2, years=4, pixels=1, seed=3),
        Ensemble(models=1, diagnostics=1, regions=6, years=2, pixels=2, troubles=0),
    ],
    ids=["several rounds", "a single set"],
)
def test_options_give_as_much_as_they_say(ensemble: Ensemble) -> None:
    with Workspace.in_memory() as workspace:
        report = write_ensemble(workspace, ensemble)
        assert report.ran == len(report.uploads.statuses) == ensemble.counts.executions
        found = {what: getattr(workspace.catalog, what)().count() for what in ("scalars", "series", "artifacts")}
        assert found == {what: attrs.asdict(ensemble.counts)[what] for what in found}
        assert not write_ensemble(workspace, ensemble).changed


def test_the_bad_ones_look_as_they_do_in_life(written: Path) -> None:
    with Catalog(written / "catalog.db", create=False) as catalog:
        rows = {row.fragment: row for row in catalog.executions()}
    assert (rows[FAILED].failure, rows[FAILED].group_dirty) == ("diagnostic", False)
    assert (rows[KILLED].failure, rows[KILLED].group_dirty) == ("system", True)
    assert (rows[INCOMPLETE].failure, rows[INCOMPLETE].group_dirty) == ("result", True)
    assert (rows[INCOMPLETE].reason or "").startswith("missing: plots/")
    log = (written / "results" / FAILED / "out.log").read_text().splitlines()
    start = log.index("Traceback (most recent call last):")
    assert log[start + 1].startswith('  File "writing.py", line ')
    assert log[start + 2].strip() == "_read_input(run)"
    assert log[-1].startswith("KeyError: ")
    assert (written / "results" / KILLED / "out.log").read_text().endswith("sh ended with exit code 137\n")
    for fragment in (FAILED, KILLED):
        assert sorted(os.listdir(written / "results" / fragment)) == ["execution.json", "out.log"]


def test_every_set_follows_the_format(written: Path) -> None:
    checked = 0
    for folder in (written / "results").glob("*/*/*/*"):
        if (folder / "diagnostic.json").exists():
            metric = decode_metric_bundle((folder / "diagnostic.json").read_bytes())
            assert len(list(metric.iter_rows())) == 20
            series = decode_series((folder / "series.json").read_bytes())
            assert [(one.index_name, one.attributes["kind"], len(one.values)) for one in series] == [
                ("year", "reference", 20), ("year", "model", 20), ("month", "reference", 12), ("month", "model", 12),
            ]  # fmt: skip
            bundle = decode_output_bundle((folder / "output.json").read_bytes())
            assert Counter(entry.kind for entry in bundle.entries) == {"plot": 3, "data": 1, "html": 1}
            checked += 1
    assert checked == 5  # the four good ones, and the one that lacks a plot


def test_pictures_and_tables_show_the_values_of_their_set(written: Path) -> None:
    run, folder = run_that(Fate.GOOD), written / "results" / GOOD
    error = climate.cells(run.error("ANN"))
    levels = contours(error, two_sided=True)
    lines, _ = decode((folder / "plots" / "tas_bias_map.png").read_bytes())
    shown = [colour for line in lines[: climate.ROWS] for colour in line]
    coast = len(levels) + 2
    differing = [
        cell
        for cell, (colour, value) in enumerate(zip(shown, error, strict=True))
        if colour not in (coast, sum(value >= level for level in levels))
    ]
    assert differing == []
    assert len(set(shown)) > 4
    rows = list(csv.reader((folder / "yearly.csv").read_text().splitlines()))
    assert rows[0] == ["region", "year", "ERA5", run.model]
    years, reference, simulated = zip(*[row[1:] for row in rows[1:]], strict=True)
    assert list(map(int, years)) == list(run.years)
    assert ([float(v) for v in reference], [float(v) for v in simulated]) == run.yearly("global")
    series = decode_series((folder / "series.json").read_bytes())
    assert [list(one.values) for one in series[:2]] == list(run.yearly("global"))


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_another_process_writes_the_same_bytes(written: Path, tmp_path: Path, hash_seed: str) -> None:
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": str(SOURCE),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], env=environment, check=True)
    for place in ("scratch", "results"):
        assert digests(tmp_path / place) == digests(written / place)


def test_every_machine_and_every_python_writes_the_same_bytes(written: Path) -> None:
    """Guards against what differs between them. Who means to change what the demo writes changes the digest, too."""
    found = digests(written / "results")
    del found[f"{FAILED}/out.log"]  # it has line numbers of the source
    lines = "".join(f"{digest}  {key}\n" for key, digest in found.items())
    assert hashlib.sha256(lines.encode()).hexdigest() == DIGEST


def test_one_set_alone_is_what_the_ensemble_has_of_it(written: Path, tmp_path: Path) -> None:
    for run in SMALL.runs():
        folder = tmp_path / run.fragment
        result = write_set(folder, run)
        assert (result.successful, result.retryable) == (
            run.fate in (Fate.GOOD, Fate.INCOMPLETE),
            run.fate is Fate.KILLED,
        )
        found = digests(folder)
        expected = digests(written / "scratch" / run.fragment)
        if run.fate is Fate.KILLED:  # who runs the program says how it ended
            assert found.keys() == expected.keys()
        else:
            assert found == expected


def test_a_small_set_is_there_for_the_asking(tmp_path: Path) -> None:
    results = InMemoryArtifactStore()
    outcome = materialize_outputs(write_set(tmp_path), source=LocalArtifactStore(tmp_path), dest=results)
    assert len(outcome.artifacts) == 9
    assert not outcome.artifacts_missing
    assert sum(len(results.read_bytes(key)) for key in results.iter_keys()) < 30_000


def test_what_is_only_run_lies_in_scratch_and_can_be_committed(tmp_path: Path) -> None:
    with open_folder(tmp_path) as workspace:
        assert run_ensemble(workspace, SMALL) == 7
        assert {row.status for row in workspace.list_executions()} == {"stopped"}
        assert list(workspace.results.iter_keys()) == []
        assert run_ensemble(workspace, SMALL) == 0
        assert len(workspace.commit_pending_executions().statuses) == 7
        assert not write_ensemble(workspace, SMALL).changed


def test_more_executions_go_on_where_the_first_round_ended(tmp_path: Path) -> None:
    with Workspace.in_memory() as workspace:
        write_ensemble(workspace, SMALL)
        assert write_ensemble(workspace, attrs.evolve(SMALL, executions=10)).ran == 3
        assert workspace.catalog.executions().count() == 10


def test_another_ensemble_is_refused_before_anything_is_written(written: Path) -> None:
    before = digests(written)
    for other in (attrs.evolve(SMALL, seed=1), attrs.evolve(SMALL, years=21), attrs.evolve(SMALL, models=5)):
        with pytest.raises(WorkspaceError, match="another ensemble is already here"):
            write_ensemble(written, other)
    assert digests(written) == before


def test_a_lost_catalog_or_scratch_folder_is_made_anew(written: Path, tmp_path: Path) -> None:
    write_ensemble(tmp_path, SMALL)
    (tmp_path / "catalog.db").unlink()
    assert write_ensemble(tmp_path, SMALL).ran == 7
    with open_folder(tmp_path) as workspace:
        run = run_that(Fate.GOOD)
        workspace.catalog.records.drop(GOOD)
        shutil.rmtree(tmp_path / "scratch" / GOOD)
        workspace.start_execution(
            provider=run.diagnostic.provider,
            diagnostic=run.diagnostic.name,
            group=run.group,
            name=run.name,
            dataset_hash=run.dataset_hash,
        )
        shutil.rmtree(tmp_path / "scratch" / GOOD)
        assert write_ensemble(workspace, SMALL).ran == 1
        assert not write_ensemble(workspace, SMALL).changed
    assert digests(tmp_path / "results") == digests(written / "results")


def test_what_is_not_of_the_ensemble_is_not_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "scratch" / GOOD
    for name, text in (("notes.txt", "mine"), ("execution.json", '{"dataset_hash": "another"}')):
        theirs.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text(text)
        with pytest.raises(WorkspaceError, match="does not belong to this ensemble"):
            write_ensemble(tmp_path, SMALL)
        assert (theirs / name).read_text() == text
    assert (theirs / "notes.txt").exists()


def test_what_results_have_lost_since_is_committed_again(tmp_path: Path) -> None:
    write_ensemble(tmp_path, SMALL)
    before = digests(tmp_path / "results")
    (tmp_path / "results" / GOOD / "plots" / "tas_bias_map.png").unlink()
    (tmp_path / "results" / INCOMPLETE / "yearly.csv").write_text("other")
    shutil.rmtree(tmp_path / "results" / FAILED)
    report = write_ensemble(tmp_path, SMALL)
    assert sorted(report.uploads.statuses) == sorted([GOOD, INCOMPLETE, FAILED])
    assert digests(tmp_path / "results") == before
    assert not write_ensemble(tmp_path, SMALL).changed


def test_a_lost_catalog_comes_back_from_the_results(written: Path, tmp_path: Path) -> None:
    with Catalog(tmp_path / "new.db") as catalog, Catalog(written / "catalog.db", create=False) as old:
        replay(LocalArtifactStore(written / "results"), catalog)
        assert list(catalog.scalars()) == list(old.scalars())
        assert list(catalog.series()) == list(old.series())


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("number", "seen"),
    [
        (signal.SIGKILL, "scratch/*/*/*/*"),
        (signal.SIGINT, "scratch/*/*/*CNRM*/*/plots/*"),
        (signal.SIGKILL, "results/*/*/*/*"),
        (signal.SIGINT, "results/*/*/*/*"),
    ],
)
def test_interrupted_anywhere_the_next_one_completes_it(
    written: Path, tmp_path: Path, number: signal.Signals, seen: str
) -> None:
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    running = subprocess.Popen(
        [sys.executable, "-c", heard + PROGRAM, tmp_path],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while running.poll() is None and not list(tmp_path.glob(seen)):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, number)
    running.wait(60)
    with open_folder(tmp_path) as workspace:
        write_ensemble(workspace, SMALL)
        assert Counter(row.status for row in workspace.list_executions()) == {"uploaded": 4, "failed": 3}
        assert not write_ensemble(workspace, SMALL).changed
    assert digests(tmp_path / "results") == digests(written / "results")


START = """
import os, sys
from tests.ensembles import run_that
from emdstore.demo import Fate, open_folder

run = run_that(Fate(sys.argv[2]))
with open_folder(sys.argv[1]) as workspace:
    execution = workspace.start_execution(
        provider=run.diagnostic.provider, diagnostic=run.diagnostic.name, group=run.group, name=run.name,
        dataset_hash=run.dataset_hash,
    )
    (execution.output_directory / "half").write_text("half")
    if sys.argv[3] == "created":
        os._exit(0)
    with execution:
        os._exit(0) if sys.argv[3] == "running" else sys.exit("as Ctrl-C would")
"""


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("fate", "left"), [("good", "created"), ("good", "running"), ("good", "stopped"), ("killed", "running")]
)
def test_a_run_that_was_cut_off_is_run_again_under_its_name(
    written: Path, tmp_path: Path, fate: str, left: str
) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(Path(__file__).parents[2])])}
    subprocess.run([sys.executable, "-c", START, tmp_path, fate, left], env=environment, stderr=subprocess.DEVNULL)
    with open_folder(tmp_path) as workspace:
        assert [row.status for row in workspace.list_executions()] == [left]
        assert write_ensemble(workspace, SMALL).ran == 7
    assert digests(tmp_path / "results") == digests(written / "results")
