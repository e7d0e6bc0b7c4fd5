"""The commands on releases."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.cli.test_export import answers_to
from tests.ensembles import GOOD

from emdstore import Workspace, create_release, list_releases, retract, transfer
from emdstore.sets.listing import list_sets
from emdstore.stores import LocalArtifactStore


def test_a_release_is_made_promoted_and_verified_on_a_copy(demo_folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(demo_folder / "results", results)
    whole = {each.fragment for each in list_sets(results) if each.state == "published"}
    other = sorted(whole - {GOOD})[0]
    made, again, aliased, listed, shown, checked, nothing, diff, unknown = answers_to(
        [
            f"release create 2026.1 {GOOD} {other} --results results -m 'for the report' --by ann",
            "release create 2026.1 --results results",
            "release alias production 2026.1 --reason first --results results",
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
    assert (nothing.code, unknown.code) == (1, 4)
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


def test_only_what_a_release_names_is_copied_and_verified_and_references_are_compared(
    here: Here, tmp_path: Path
) -> None:
    said = {"kind": "reference", "reference_id": "HadISST"}
    store = LocalArtifactStore(tmp_path / "results")
    with Workspace(scratch=tmp_path / "scratch", results=store, catalog="sqlite://") as workspace:
        for group, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
            with workspace.start_execution(provider="p", diagnostic="d", group=group, name="1") as execution:
                execution.add_scalar(value, metric="m")
                dimensions = {"region": "x"}
                execution.add_series([value], [1], index_name="time", dimensions=dimensions, attributes=said)
            execution.commit_output_assets()
    create_release(store, "2026.1", ["p/d/a/1", "p/d/b/1"])
    assert "2 sets" in here("verify", "results", "--release", "2026.1", "--references").out
    differ = here("verify", "results", "--references", code=1)
    assert "reference  p/d: HadISST (region=x) has 2 different contents: p/d/a/1; p/d/c/1" in differ.out
    (conflict,) = here("verify", "results", "--references", "--json", code=1).json["references"]
    assert conflict["contents"] == [["p/d/a/1", "p/d/b/1"], ["p/d/c/1"]]

    here("transfer", "results", "copy", "--release", "2026.1")
    assert {each.fragment for each in list_sets("copy")} == {"p/d/a/1", "p/d/b/1"}
    assert "2 of 2 sets as released" in here("release", "verify", "2026.1", "--results", "copy").out
    assert "leave out other names" in here("transfer", "results", "copy", "p/d/c/1", "--release", "2026.1", code=2).err
    assert "no release 'x'" in here("transfer", "results", "copy", "--release", "x", code=4).err


def test_nothing_gets_to_a_protected_target_to_which_a_check_objects(here: Here, tmp_path: Path) -> None:
    here("init")
    settings = Path("emdstore.toml")
    protected = 'store = "public"\nprotected = true\nchecks = ["completeness", "tolerances"]\ntolerances = "t.toml"\n'
    settings.write_text(f"{settings.read_text()}[targets.staging]\n[targets.production]\n{protected}")
    Path("t.toml").write_text('"*" = {relative = 0.1}')
    with Workspace.open() as workspace:

        def run(name: str, value: float) -> None:
            with workspace.start_execution(provider="p", diagnostic="d", group="g", name=name) as execution:
                execution.add_scalar(value, metric="m")
            execution.commit_output_assets()

        run("1", 1.0)
        asked = here("promote", "staging", "production", "--name", "2026.1", code=1)
        assert "nothing was promoted; give --yes" in asked.err
        assert "passed  tolerances" in asked.out
        here("promote", "staging", "production", "--name", "2026.1", "--dry-run")
        assert not Path("public").is_dir() or not list_releases("public")
        done = here("promote", "staging", "production", "--name", "2026.1", "--yes", "-m", "first")
        assert done.out.endswith("production is release 2026.1: 1 set\n")
        assert "2026.1: 1 of 1 set as released" in here("release", "verify", "production", "--results", "public").out
        shown = here("release", "show", "production", "--results", "public").out
        assert "completeness: passed" in shown
        assert "promoted from" in shown

        run("2", 2.0)
        refused = here("promote", "staging", "production", "--yes", code=1)
        assert "objects  tolerances\n  p/d/g (p/d/g/1 → p/d/g/2): metric=m: 1.0 → 2.0" in refused.out
        assert "production is protected" in refused.err
        assert len(list_releases("public")) == 1
        run("3", 1.05)
        told = here("promote", "staging", "production", "--yes", "--json").json
        assert told["promoted"]
        assert [pair["verdict"] for pair in told["pairs"]] == ["within"]
        assert [each.name for each in list_releases("public")] == ["2026.1", told["release"]]
        again = here("promote", "staging", "production", "--yes")
        assert "stands behind exactly these sets already" in again.err
    for store in ((), ("--results", "public")):
        refused = here("release", "alias", "production", "2026.1", *store, code=2).err
        assert "`emdstore promote` moves it" in refused
    here("release", "alias", "seen", "2026.1", "--results", "public")
    assert "no target 'x': there are staging, production" in here("promote", "x", "production", code=2).err
    settings.write_text(settings.read_text().replace("protected = true", "protect = true"))
    assert "[targets.production] has store, protected" in here("promote", "staging", "production", code=2).err


@pytest.mark.parametrize("dest", ["public", "./public/", "public/p/d", "links/public", "production", "archive:", "."])
def test_a_plain_transfer_to_a_protected_target_is_refused_however_it_is_named(
    here: Here, tmp_path: Path, dest: str
) -> None:
    here("init")
    settings = Path("emdstore.toml")
    named = '[stores.archive]\nurl = "public"\n[targets.staging]\n[targets.production]\nstore = "archive:"\n'
    settings.write_text(f'{settings.read_text()}{named}protected = true\n[targets.open]\nstore = "elsewhere"\n')
    (tmp_path / "links").symlink_to(tmp_path)
    Path("source").mkdir()
    Path("source/a.txt").write_text("a")
    said = here("transfer", "source", dest, code=2).err
    assert "production is a protected target" in said
    assert "`emdstore promote FROM production` brings results there" in said
    others = (
        ("transfer", "source", "elsewhere", "--delete", "--yes", "--backup-dir", dest),
        ("materialize", "source", dest, "--fragment", "p/d/g/1"),
        ("adopt", "cmec", "source", dest),
    )
    for command in others:
        assert "production is a protected target" in here(*command, code=2).err
    here("transfer", "source", "elsewhere")
    here("transfer", "source", "results")
    assert not Path("public").is_dir() or not any(Path("public").iterdir())
