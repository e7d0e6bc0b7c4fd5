"""What every adoption promises, whatever the framework."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adoption.outputs import OUTPUTS, PICTURE, cmec, esmvaltool, pmp, write

from emdstore import (
    ArtifactExistsError,
    BundleError,
    InMemoryArtifactStore,
    ReleasedSetError,
    SameStoreError,
    StoreNotFoundError,
    Workspace,
    WorkspaceError,
    create_release,
    open_store,
    read_events,
    verify,
)
from emdstore.adoption import adopt
from emdstore.stores.views import scoped

FRAMEWORKS = pytest.mark.parametrize("framework", OUTPUTS)


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return everything that would show that somebody has written there."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        about = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_nlink, content)
    return found


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace.in_memory() as opened:
        yield opened


@FRAMEWORKS
def test_what_a_framework_has_written_becomes_whole_sets_with_rows(
    framework: str, tmp_path: Path, workspace: Workspace
) -> None:
    folder = OUTPUTS[framework](tmp_path)
    before = snapshot(folder)
    report = adopt(workspace, framework, folder)
    assert report.ok
    assert {each.outcome for each in report.sets} == {"published"}
    news = [(each.kind, each.name) for each in read_events(workspace.results)]
    assert sorted(news) == sorted(("published", each.fragment) for each in report.sets)
    checked = verify(workspace.results)
    assert checked.ok
    rows = {row.fragment: row for row in workspace.list_executions()}
    assert rows.keys() == {each.fragment for each in report.sets}
    assert {row.status for row in rows.values()} == {"uploaded"}
    for each in report.sets:
        assert workspace.catalog.scalars(fragment=each.fragment).count() == each.scalars
        assert workspace.catalog.series(fragment=each.fragment).count() == each.series
        assert len(list(workspace.catalog.inputs(fragment=each.fragment))) == each.datasets
    assert snapshot(folder) == before


@FRAMEWORKS
def test_once_more_changes_nothing(framework: str, tmp_path: Path) -> None:
    folder, results = OUTPUTS[framework](tmp_path), tmp_path / "results"
    first = adopt(results, framework, folder)
    before = snapshot(results)
    again = adopt(results, framework, folder)
    assert [each.fragment for each in again.sets] == [each.fragment for each in first.sets]
    assert {each.outcome for each in again.sets} == {"unchanged"}
    assert snapshot(results) == before


@FRAMEWORKS
def test_a_dry_run_tells_the_same_and_writes_nothing(framework: str, tmp_path: Path) -> None:
    folder, results = OUTPUTS[framework](tmp_path), tmp_path / "results"
    told = adopt(results, framework, folder, dry_run=True)
    assert {each.outcome for each in told.sets} == {"would be published"}
    assert not results.exists()
    done = adopt(results, framework, folder)
    assert [each.fragment for each in done.sets] == [each.fragment for each in told.sets]
    assert done.left == told.left
    assert {each.outcome for each in adopt(results, framework, folder, dry_run=True).sets} == {"is there"}


@FRAMEWORKS
def test_every_file_is_in_a_set_or_told_with_a_reason(framework: str, tmp_path: Path) -> None:
    folder, results = OUTPUTS[framework](tmp_path), InMemoryArtifactStore()
    write(folder, {"unheard-of/of.xyz": "?"})
    report = adopt(results, framework, folder)
    published = {key for each in report.sets for key in scoped(results, each.fragment).iter_keys()}
    left = {each.name for each in report.left}
    assert all(each.reason for each in report.left)
    read_into_bundles = {"scalar_database.csv", "output.json", "metrics.json", "run/main_log.txt", "run.log"}
    for path in folder.rglob("*"):
        key = path.relative_to(folder).as_posix()
        if path.is_file() and key not in published | left | read_into_bundles:
            assert any(key.startswith(name) for name in left if name.endswith("/")), key


@FRAMEWORKS
def test_a_folder_of_something_else_is_refused(framework: str, tmp_path: Path) -> None:
    write(tmp_path / "other", {"a.txt": "?"})
    with pytest.raises(BundleError, match="other"):
        adopt(tmp_path / "results", framework, tmp_path / "other")
    assert not (tmp_path / "results").exists()


def test_what_cannot_be_adopted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="cmec, esmvaltool, ilamb, pmp"):
        adopt(tmp_path / "results", "nobody", tmp_path)
    with pytest.raises(StoreNotFoundError, match="nowhere"):
        adopt(tmp_path / "results", "pmp", tmp_path / "nowhere")
    with pytest.raises(SameStoreError):
        adopt(tmp_path, "pmp", tmp_path)


def test_a_folder_that_has_changed_replaces_its_set(tmp_path: Path) -> None:
    folder, results = esmvaltool(tmp_path), tmp_path / "results"
    adopt(results, "esmvaltool", folder)
    (folder / "plots/tcr/calculate/tas.png").write_bytes(PICTURE + b"!")
    (only,) = adopt(results, "esmvaltool", folder).sets
    assert only.outcome == "updated"
    assert (results / only.fragment / "plots/tcr/calculate/tas.png").read_bytes() == PICTURE + b"!"
    assert verify(results).ok


def test_another_name_makes_another_execution(tmp_path: Path) -> None:
    folder, results = esmvaltool(tmp_path), InMemoryArtifactStore()
    for name in (None, "second"):
        adopt(results, "esmvaltool", folder, name=name)
    assert {each.split("/")[3] for each in results.iter_keys()} == {"20260716_140604", "second"}


def test_less_than_is_published_replaces_nothing(tmp_path: Path) -> None:
    folder, results = esmvaltool(tmp_path), tmp_path / "results"
    adopt(results, "esmvaltool", folder)
    before = snapshot(results)
    log = folder / "run/main_log.txt"
    log.write_text(log.read_text().replace("Run was successful", "An error was encountered"))
    (only,) = adopt(results, "esmvaltool", folder).sets
    assert only.outcome == "failed"
    assert "complete" in str(only.error)
    assert snapshot(results) == before


def test_a_released_set_stays_as_it_is_and_stops_no_others(tmp_path: Path, workspace: Workspace) -> None:
    folder = pmp(tmp_path)
    one, *_ = (each.fragment for each in adopt(workspace, "pmp", folder).sets)
    create_release(workspace.results, "2026.1", [one])
    metrics = folder / "pr_2.5x2.5_regrid2_metrics.json"
    metrics.write_text(metrics.read_text().replace("2.5e-01", "2.6e-01").replace("5.0e-01", "5.1e-01"))
    report = adopt(workspace, "pmp", folder)
    errors = {each.fragment: each.error for each in report.sets if each.outcome == "failed"}
    assert not report.ok
    assert errors.keys() == {one}
    assert isinstance(errors[one], ReleasedSetError)


def test_the_set_of_a_run_is_not_replaced(tmp_path: Path, workspace: Workspace) -> None:
    folder = cmec(tmp_path)
    (told,) = adopt(workspace, "cmec", folder, name="n", dry_run=True).sets
    provider, diagnostic, group, _ = told.fragment.split("/")
    with workspace.start_execution(provider=provider, diagnostic=diagnostic, group=group, name="n") as run:
        run.add_scalar(1.0, metric="x")
    run.commit_output_assets()
    (one,) = adopt(workspace, "cmec", folder, name="n").sets
    assert isinstance(one.error, ArtifactExistsError)
    assert [row.value for row in workspace.catalog.scalars(fragment=run.fragment)] == [1.0]


def test_what_the_file_system_cannot_name_is_told(tmp_path: Path) -> None:
    folder = esmvaltool(tmp_path)
    os.symlink("nowhere", folder / "plots/broken.png")
    report = adopt(InMemoryArtifactStore(), "esmvaltool", folder)
    assert not report.ok
    assert [each.name for each in report.left if each.lost] == ["plots/broken.png"]


def test_an_installed_package_brings_an_adopter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = """
from emdstore.adoption import FoundOutput, FoundSet

def find_sets(source):
    for key in source.keys:
        yield FoundSet(provider="mdtf", diagnostic=key.removesuffix(".png"), outputs=(FoundOutput.of(key),))
"""
    about = {"METADATA": "Metadata-Version: 2.1\nName: mdtf-adopter\nVersion: 1\n",
             "entry_points.txt": "[emdstore.adopters]\nmdtf = mdtf_adopter:find_sets\n"}  # fmt: skip
    write(tmp_path / "site", {"mdtf_adopter.py": module})
    write(tmp_path / "site/mdtf_adopter-1.dist-info", about)
    write(tmp_path / "pods", {"wavenumber.png": PICTURE, "mjo.png": PICTURE})
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    report = adopt(tmp_path / "results", "mdtf", tmp_path / "pods")
    assert [each.fragment.rpartition("/")[0] for each in report.sets] == ["mdtf/mjo/default", "mdtf/wavenumber/default"]
    assert verify(open_store(tmp_path / "results")).ok
