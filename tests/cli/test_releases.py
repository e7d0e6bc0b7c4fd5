"""The commands on releases."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.cli.conftest import Here
from tests.cli.test_export import answers_to
from tests.ensembles import GOOD

from emdstore import create_release, list_releases, retract, transfer
from emdstore.sets.listing import list_sets


def test_a_release_is_made_promoted_and_verified_on_a_copy(demo_folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(demo_folder / "results", results)
    whole = {each.fragment for each in list_sets(results) if each.state == "published"}
    other = sorted(whole - {GOOD})[0]
    made, again, aliased, listed, shown, checked, nothing, diff, unknown = answers_to(
        [
            f"release create 2026.1 {GOOD} {other} --results results -m 'for the report' --by ann",
            "release create 2026.1 --results results",
            "release alias production 2026.1 --why first --results results",
            "release list --results results",
            "release show production --json --results results",
            "release verify production --results results",
            "release create none --prefix nowhere --results results",
            f"release create 2026.2 {GOOD} --results results --json",
            "release show 1 --results results",
        ],
        tmp_path,
        COLUMNS="160",
    )
    assert (made.code, made.out) == (0, "release 2026.1: 2 sets\n")
    assert again.code == 1
    assert "never change" in again.err
    assert aliased.out == "production is release 2026.1\n"
    assert listed.out.splitlines()[1].split()[:3] == ["2026.1", "production", "2"]
    assert [each["fragment"] for each in shown.json["release"]["sets"]] == sorted([GOOD, other])
    assert (checked.code, checked.out) == (0, "release 2026.1: 2 of 2 sets as released\n")
    assert (nothing.code, unknown.code) == (1, 2)
    assert "there are 2026.1, 2026.2, production" in unknown.err
    assert [each.name for each in list_releases(results)] == ["2026.1", "2026.2"]
    assert diff.json["release"]["name"] == "2026.2"

    transfer(results, tmp_path / "copy").raise_for_failures()
    (tmp_path / "copy" / GOOD / "out.log").write_text("touched")
    retract(tmp_path / "copy", other, reason="wrong")
    same, differs, bad = answers_to(
        [
            "release diff 2026.1 production --results copy",
            "release diff 2026.1 2026.2 --json --results copy",
            "release verify 2026.1 --results copy",
        ],
        tmp_path,
    )
    assert (same.code, same.out) == (0, "")
    assert (differs.code, differs.json["removed"]) == (1, [other])
    assert bad.code == 1
    assert bad.out.splitlines() == [
        f"damaged  {GOOD}",
        f"retracted  {other}",
        "release 2026.1: 1 of 2 sets as released",
    ]


def test_a_manifest_is_what_sha256sum_checks(here: Here, demo_folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(demo_folder / "results" / GOOD, results / GOOD)

    def checked(listed: str) -> int:
        return subprocess.run(
            ["sha256sum", "-c", "--quiet"], input=listed, text=True, cwd=results, check=False
        ).returncode

    whole = here("manifest", results).out
    assert {line.partition("  ")[2] for line in whole.splitlines()} == {
        str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()
    }
    assert checked(whole) == 0
    create_release(results, "2026.1")
    assert here("manifest", results, "--release", "2026.1").out == whole
    assert here("manifest", results, "nowhere", code=4).out == ""
    (results / GOOD / "out.log").write_text("touched")
    assert checked(whole) == 1
    record = results / GOOD / "execution.json"
    record.write_bytes(record.read_bytes() + b"\n")
    assert "is not what was released" in here("manifest", results, "--release", "2026.1", code=1).err
    record.write_bytes(record.read_bytes().replace(b'"state": "published"', b'"state": "publishing"'))
    assert "is being published" in here("manifest", results, code=1).err
