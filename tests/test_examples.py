"""The examples are run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers.s3 import S3Server

import emdstore

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*command: str, cwd: Path, **env: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    environment["PYTHONPATH"] = str(Path(emdstore.__file__).parents[1])
    programs = str(Path(sys.executable).parent)  # Parsl's are found by their names
    environment |= env
    environment["PATH"] = os.pathsep.join([programs, environment["PATH"]])
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_local_promotion_ends_in_a_catalog_that_can_be_asked(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "promote_local.py"), "here", cwd=tmp_path)
    assert out.splitlines() == [
        "mytool/sea-ice/historical/1: uploaded, 5 artifacts",
        "  arctic: -0.52",
        "  antarctic: 0.02",
    ]
    assert run(str(EXAMPLES / "promote_local.py"), "here", cwd=tmp_path) == out


def test_a_run_is_committed_and_a_failed_one_is_too(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "run_and_commit.py"), cwd=tmp_path)
    assert out.splitlines() == [
        "reading arctic.csv",
        "arctic: uploaded, 5 artifacts",
        "reading antarctic.csv",
        "antarctic: the series is too short for a trend",
        "antarctic: failed, diagnostic failure, 0 values",
        "arctic: uploaded, no failure, 1 values",
    ]


def test_what_happens_in_a_results_store_is_followed(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "follow_events.py"), cwd=tmp_path)
    assert out.splitlines() == [
        "published: published, 4 artifacts, to be used",
        "retracted: published, 4 artifacts, not to be used",
    ]


@pytest.mark.slow
def test_results_go_to_s3_and_a_catalog_is_loaded_from_there(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "results_to_s3.py"), cwd=tmp_path)
    assert re.search(r"\b14[789] copied, 0 unchanged", out)  # with the log's entries, of which there may be several
    assert out.endswith("as recorded\n14 executions, 660 scalars\n")


@pytest.mark.needs("tables")
@pytest.mark.needs("snapshots")
def test_results_are_queried_as_tables_and_curves_and_exported(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "query_results.py"), cwd=tmp_path)
    assert out.splitlines()[0] == "9 errors"
    assert "CESM2            1.64                   2.27     1.57" in out
    asked = "1170 points, K\n9 rows in errors.csv\n40 errors below 0.5 in the snapshot\n"
    assert out.endswith("{'series': 18, 'year': 65}\n" + asked)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("dask")
def test_a_dask_cluster_promotes_results(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "dask_promotion.py"), cwd=tmp_path)
    assert re.match(r"14[789] artifacts copied\n", out)
    assert out.splitlines()[1:] == [
        "133 artifacts are as recorded: True",
        "14 executions loaded",
    ]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("parsl")
def test_parsl_commits_executions(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "parsl_promotion.py"), cwd=tmp_path)
    assert out.splitlines() == [
        "3 executions committed, 15 artifacts uploaded",
        "ACCESS-ESM1-5: uploaded, 1 values",
        "CanESM5: uploaded, 1 values",
        "UKESM1-0-LL: uploaded, 1 values",
    ]


def test_a_framework_tests_itself_against_memory(tmp_path: Path) -> None:
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_against_memory.py"), cwd=tmp_path)
    assert "3 passed" in out


def test_every_example_is_run_here() -> None:
    # That of Climate-REF needs Climate-REF: it is run in an environment that has it.
    named = (
        Path(__file__).read_text()
        + (Path(__file__).parent / "integrations/climate_ref/test_adoption_example.py").read_text()
    )
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in named] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_says_how_to_run_it(path: Path) -> None:
    assert re.search(rf"(python|pytest) {path.name}", path.read_text())


@pytest.mark.once
def test_a_run_becomes_a_release_and_what_was_wrong_disappears(tmp_path: Path, moto_server: S3Server) -> None:
    at = {"AWS_ACCESS_KEY_ID": moto_server.access_key, "AWS_SECRET_ACCESS_KEY": moto_server.secret_key}
    at |= {"AWS_ENDPOINT_URL": moto_server.endpoint_url, "AWS_REGION": moto_server.region}
    mirror = f"s3://{moto_server.make_bucket()}/results"
    out = run(str(EXAMPLES / "from_run_to_release.py"), mirror, cwd=tmp_path, **at)
    assert out.splitlines() == [
        *(
            f"gross-primary-production of {model}: 23 changed, 6 equal"
            for model in ("ACCESS-ESM1-5", "BCC-CSM2-MR", "CESM2")
        ),
        "surface-temperature of CESM2: 28 equal, 1 missing",
        "objections: 1 by completeness, 69 by tolerances",
        "refused: a commit that would change the release",
        "public: 6 of 6 sets as released in 2026.2",
        "left of the release in a rebuilt catalog: ACCESS-ESM1-5, BCC-CSM2-MR",
    ]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("notebook", "figures", "tables")
def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(Path(emdstore.__file__).parents[1]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "ensemble.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 13
    assert sum("<iframe srcdoc=" in each for each in shown) == 4
    assert "11 of 11" in shown[0]
    assert any("<td>failed</td><td>3</td>" in each for each in shown)  # the catalog
    assert any("Error: " in each and "diagnostic" in each for each in shown)  # why runs failed
    assert shown[-1].count("<img") == 1
