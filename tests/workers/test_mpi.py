"""MPI's executor is one like any other, with worker processes that MPI has started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.groups import find_program
from tests.transfers.stores import contents

from emdstore.stores import LocalArtifactStore

SCRIPT = """
import json, sys
from mpi4py.futures import MPIPoolExecutor
from emdstore import LocalArtifactStore, InMemoryArtifactStore, transfer
from emdstore.errors import ExecutorError

if __name__ == "__main__":
    source, dest = map(LocalArtifactStore, sys.argv[1:])
    with MPIPoolExecutor() as executor:
        report = transfer(source, dest, executor=executor)
        try:
            transfer(source, InMemoryArtifactStore(), executor=executor)
        except ExecutorError as error:
            print(json.dumps([dict(report.counts), str(error)]))
"""


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("mpi")
def test_artifacts_are_copied_by_the_ranks_of_mpi(filled: LocalArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    start = [find_program("mpiexec") or "", "-n", "3", "--oversubscribe"]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",  # in a container, say
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    done = subprocess.run(
        [*start, sys.executable, "-m", "mpi4py.futures", "script.py", filled.root, tmp_path / "dest"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    counts, refused = json.loads(done.stdout.splitlines()[-1])
    assert counts["copied"] == 400
    assert contents(LocalArtifactStore(tmp_path / "dest")) == contents(filled)
    assert "exists in this process only" in refused
