"""The scripts of docs/hpc.md, run as a batch system would run them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import environment
from tests.sets.examples import encode, metric_bundle

from emdstore.catalog import Catalog
from emdstore.cli.app import make_app
from emdstore.cli.exit_codes import WRONG_CALL
from emdstore.executions.settings import write_config
from emdstore.ingestion.replay import replay
from emdstore.stores import LocalArtifactStore

PAGE = (Path(__file__).parents[2] / "docs/hpc.md").read_text()
SCRIPTS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SLURM, PBS, LEFT, WATCH, _ = SCRIPTS
(UNIT,) = re.findall(r"^```ini\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

VARIABLES = {
    SLURM: {"SLURM_SUBMIT_DIR": "{here}", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"},
    PBS: {"PBS_O_WORKDIR": "{here}", "PBS_JOBID": "4711[3].server", "PBS_ARRAY_INDEX": "3"},
    LEFT: {"EMDSTORE_CONFIG": "{here}/emdstore.toml"},
}
NOBODY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that jobs are submitted from, with a program, and `emdstore` on the path."""
    write_config(tmp_path, scratch="scratch", results="results", catalog=NOBODY)
    (tmp_path / "bundle.json").write_bytes(encode(metric_bundle()))
    program(tmp_path, 'echo "on member $1"; cp bundle.json "$EMDSTORE_OUTPUT_DIR/diagnostic.json"')
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin/emdstore", f'exec "{sys.executable}" -m emdstore "$@"')
    return tmp_path


def program(here: Path, text: str) -> None:
    script(here / "enso.sh", text)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(text: str, here: Path) -> subprocess.CompletedProcess[str]:
    given = {name: value.format(here=here) for name, value in VARIABLES[text].items()}
    environ = environment(**given)
    environ["PATH"] = f"{here / 'bin'}:{environ['PATH']}"
    return subprocess.run(["bash", "-c", text], cwd=here, env=environ, capture_output=True, text=True, timeout=300)


def taken_in(here: Path) -> list[tuple[str, str, str | None, int]]:
    """Replay the results, and return group, status, failure and number of scalars of each execution."""
    with Catalog("sqlite://") as catalog:
        assert replay(LocalArtifactStore(here / "results"), catalog).ok
        return [(row.group, row.status, row.failure, row.scalars) for row in catalog.executions()]


@pytest.mark.parametrize("text", SCRIPTS, ids=["slurm", "pbs", "left", "watch", "service"])
def test_every_script_is_one_that_bash_understands(text: str) -> None:
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


@pytest.mark.once
@pytest.mark.parametrize("text", [SLURM, PBS], ids=["slurm", "pbs"])
def test_a_job_publishes_what_it_ran_and_cleans_up(text: str, here: Path) -> None:
    done = run(text, here)
    assert done.returncode == 0, done
    assert taken_in(here) == [("member-3", "uploaded", None, 3)]
    assert [path.name for path in (here / "scratch").iterdir()] == ["4711-3"]
    assert list((here / "scratch/4711-3").iterdir()) == []


def test_a_program_that_takes_too_long_is_ended_and_its_log_is_published(here: Path) -> None:
    program(here, "echo begun; touch begun; exec sleep 60")
    script(  # the time is over when the program has begun, however long that takes here
        here / "bin/timeout",
        'shift; "$@" & run=$!; until [ -e begun ]; do sleep 0.05; done; kill -TERM "$run"; wait "$run"; exit 124',
    )
    done = run(SLURM, here)
    assert done.returncode == 0, done
    assert taken_in(here) == [("member-3", "failed", "system", 0)]
    (log,) = (here / "results").rglob("out.log")
    assert log.read_text().startswith("begun")


@pytest.mark.once
def test_what_a_killed_job_left_is_shipped_later(here: Path) -> None:
    killed = SLURM.partition("emdstore commit")[0]
    VARIABLES[killed] = VARIABLES[SLURM]
    assert run(killed, here).returncode == 0
    assert not (here / "results").exists()
    assert run(LEFT, here).returncode == 0
    assert taken_in(here) == [("member-3", "uploaded", None, 3)]


def test_the_service_is_as_systemd_wants_it_and_its_command_can_be_called(tmp_path: Path) -> None:
    command = next(line for line in UNIT.splitlines() if line.startswith("ExecStart=")).partition("=")[2].split()
    calls = [command, *(shlex.split(line, comments=True) for line in WATCH.splitlines() if line.startswith("emdstore"))]
    for program, *call in calls:
        assert Path(program).name == "emdstore"
        make_app(call).parse_args(call, exit_on_error=False, print_error=False)
    assert int(UNIT.partition("RestartPreventExitStatus=")[2].split()[0]) == WRONG_CALL
    if (systemd := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not there")
    unit = tmp_path / "emdstore.service"
    for text, accepted in ((UNIT, True), (UNIT.replace("Restart=on-failure", "Restart=never-ever"), False)):
        unit.write_text(text.replace(command[0], "/bin/true"))
        done = subprocess.run([systemd, "verify", unit], capture_output=True, text=True, timeout=300, check=False)
        assert ((done.returncode, done.stderr) == (0, "")) == accepted, done
