"""A results store behind SSH, from scratch to a catalog, by the commands alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.cli.test_executions_cli import PROGRAM, RUN
from tests.servers.sshd import SSHServer


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ssh", "sftp"])
def test_a_run_is_committed_verified_taken_back_and_replayed(
    here: Here, sshd: SSHServer, tmp_path: Path, scheme: str
) -> None:
    results = sshd.url(tmp_path / "over there" / "results", scheme)
    here("init", "--results", results)
    with (tmp_path / "emdstore.toml").open("a") as file:
        file.write(f'[results_options]\nrsh = "{sshd.rsh}"\n')
    here(*RUN, "--", *PROGRAM)
    here("commit", "--pending")
    rsh = ("--rsh", sshd.rsh)
    (found,) = here("sets", results, *rsh, "--json").json["items"]
    assert found["state"] == "published"
    here("verify", results, *rsh)
    here("transfer", results, "back", *rsh)
    assert here("transfer", results, "back", *rsh, "--json").json["counts"]["copied"] == 0
    here("verify", "back")
    here("replay", results, "--catalog", "again.db", *rsh)
    assert [each["status"] for each in here("list", "--catalog", "again.db", "--json").json["items"]] == ["uploaded"]
    left = tmp_path / "over there" / "results" / ".emdstore-0123"
    left.write_bytes(b"x")
    os.utime(left, (0, 0))
    here("gc", "--yes")
    assert not left.exists()
    (bundle,) = (tmp_path / "over there" / "results").rglob("diagnostic.json")
    bundle.write_text(bundle.read_text().replace("0.5", "0.6"))
    assert "diagnostic.json" in here("verify", results, *rsh, code=1).out
