"""`emdstore transfer --delete`: shown first, and only after all has arrived."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.sets.published import OTHER, publish

from emdstore.stores import LocalArtifactStore

CALL = ("transfer", "results", "mirror", "--delete")


@pytest.fixture
def mirror(here: Here) -> Path:
    results = LocalArtifactStore("results")
    publish(results)
    results.write_bytes("README.md", b"about")
    here("transfer", "results", "mirror")
    Path("mirror/old.txt").write_text("old")
    publish(LocalArtifactStore("mirror"), OTHER)
    return Path("mirror")


def test_it_is_shown_and_removed_when_somebody_says_so(here: Here, mirror: Path) -> None:
    for more in (["--dry-run"], ["--dry-run", "--yes"], []):
        assert "would remove  old.txt" in here(*CALL, *more).out
    assert here(*CALL, "--json").json["delete"]["would_remove"] == ["old.txt"]
    assert (mirror / "old.txt").exists()
    told = here(*CALL, "--yes", "--backup-dir", "aside")
    assert "removed  old.txt" in told.out
    assert f"kept  {OTHER}" in told.err
    assert not (mirror / "old.txt").exists()
    assert Path("aside/old.txt").read_text() == "old"
    assert here("sets", "mirror", "--json").json["counts"] == {"published": 2}
    again = here(*CALL, "--yes", "--json").json
    assert (again["ok"], again["delete"]["removed"]) == (True, [])


def test_nothing_is_removed_when_not_all_has_arrived(here: Here, mirror: Path) -> None:
    (Path("results") / "nowhere").symlink_to("gone")
    assert "not all has arrived" in here(*CALL, "--yes", code=1).err
    assert here(*CALL, "--yes", "--accept-left-out", code=1).out
    assert (mirror / "old.txt").exists()


def test_no_more_is_removed_than_allowed(here: Here, mirror: Path) -> None:
    assert "--max-delete allows 0" in here(*CALL, "--yes", "--max-delete", "0", code=1).err
    assert (mirror / "old.txt").exists()


@pytest.mark.parametrize(
    "call", [("--delete", "pmp"), ("--delete", "--include", "*.txt"), ("--max-delete", "3"), ("--yes",)], ids=" ".join
)
def test_it_is_about_all_of_both_stores(here: Here, mirror: Path, call: tuple[str, ...]) -> None:
    here("transfer", "results", "mirror", *call, code=2)
