"""A workspace is found, read, overridden and refused; and what it does with its executions as a whole."""

from __future__ import annotations

import os
import pickle
import re
import sqlite3
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.executions.runs import IDENTITY, committed, in_state, ran

import emdstore
from emdstore.catalog import Catalog
from emdstore.errors import (
    ArtifactExistsError,
    CatalogError,
    CatalogVersionError,
    ExecutionNotFoundError,
    InvalidKeyError,
    MissingExtraError,
    VocabularyError,
    WorkspaceError,
)
from emdstore.executions.settings import write_config
from emdstore.executions.workspace import Workspace
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore

PLACES = {"scratch": "scratch", "results": "results", "catalog": "catalog.db"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EMDSTORE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def config(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "emdstore.toml"
    file.write_text(text)
    return file


WHOLE = 'scratch = "scratch"\nresults = "results"\ncatalog = "catalog.db"\n'

# -- opening -------------------------------------------------------------------------------------------------------


def test_what_init_writes_is_what_open_reads(tmp_path: Path) -> None:
    file = write_config(tmp_path / "new" / "project", **PLACES)
    workspace = Workspace.open(file)
    assert workspace.scratch == LocalArtifactStore(tmp_path / "new/project/scratch")
    assert workspace.results == LocalArtifactStore(tmp_path / "new/project/results")
    assert workspace.catalog.url == f"sqlite:///{tmp_path}/new/project/catalog.db"
    assert (workspace.vocabulary, workspace.clean_folder) == (None, False)
    assert list((tmp_path / "new/project").iterdir()) == [file]


def test_any_path_can_be_written_and_read_again(tmp_path: Path) -> None:
    odd = {"scratch": 'a "quoted" \\ ü', "results": "tab\there", "catalog": "c'at.db"}
    workspace = Workspace.open(write_config(tmp_path, **odd))
    assert workspace.scratch.root == tmp_path / odd["scratch"]
    assert workspace.results == LocalArtifactStore(tmp_path / odd["results"])


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    file = config(tmp_path, "# mine\n")
    with pytest.raises(WorkspaceError, match="is there already"):
        write_config(tmp_path, **PLACES)
    assert file.read_text() == "# mine\n"


def test_the_file_is_found_here_and_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path, WHOLE)
    below = tmp_path / "here" / "and" / "below"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = Workspace.open()
    assert found.scratch.root == tmp_path / "scratch"
    assert repr(Workspace.open(tmp_path)) == repr(Workspace.open(tmp_path / "emdstore.toml")) == repr(found)
    elsewhere = config(tmp_path / "elsewhere", WHOLE)
    monkeypatch.setenv("EMDSTORE_CONFIG", str(elsewhere))
    assert Workspace.open().scratch.root == tmp_path / "elsewhere" / "scratch"


def test_relative_paths_are_relative_to_the_file_and_urls_stay(tmp_path: Path) -> None:
    text = 'scratch = "../s"\nresults = "memory://one/two"\ncatalog = "sqlite:///sub/c.db"\nclean_folder = true\n'
    workspace = Workspace.open(config(tmp_path / "ws", text + "lease_seconds = 5\n"))
    assert workspace.scratch.root == tmp_path / "s"
    assert repr(workspace.results) == "ScopedStore(InMemoryArtifactStore('one'), 'two')"
    assert workspace.catalog.url == f"sqlite:///{tmp_path}/ws/sub/c.db"
    assert (workspace.clean_folder, workspace.lease_seconds) == (True, 5)


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path / "ws", WHOLE)
    monkeypatch.setenv("EMDSTORE_SCRATCH", "fast")
    monkeypatch.setenv("EMDSTORE_CATALOG", f"{tmp_path}/other.db")
    monkeypatch.setenv("EMDSTORE_CLEAN_FOLDER", "yes")
    monkeypatch.setenv("EMDSTORE_LEASE_SECONDS", "7.5")
    workspace = Workspace.open(file)
    assert workspace.scratch.root == tmp_path / "here" / "fast"  # of this shell, not of the file
    assert workspace.results == LocalArtifactStore(tmp_path / "ws" / "results")
    assert workspace.catalog.url.endswith("/other.db")
    assert (workspace.clean_folder, workspace.lease_seconds) == (True, 7.5)


def test_the_environment_can_do_without_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in PLACES.items():
        monkeypatch.setenv(f"EMDSTORE_{name.upper()}", value)
    assert Workspace.open().scratch.root == tmp_path / "here" / "scratch"


def test_a_vocabulary_is_loaded_once_and_used_at_ingest(tmp_path: Path) -> None:
    region = "{name: region, long_name: R, description: D, allow_extra_values: false, required: false, values: []}"
    (tmp_path / "cv.yaml").write_text(f"dimensions: [{region}]\n")
    with Workspace.open(config(tmp_path, WHOLE + 'vocabulary = "cv.yaml"\n')) as workspace:
        execution = committed(workspace)
        codes = {row.code for row in workspace.catalog.warnings(fragment=execution.fragment)}
    assert codes == {"unknown-dimension", "unknown-value"}


def test_options_of_the_results_store_are_passed_on(tmp_path: Path) -> None:
    text = WHOLE + '[results_options]\ndurability = "object"\n'
    assert Workspace.open(config(tmp_path, text)).results == LocalArtifactStore(
        tmp_path / "results", durability="object"
    )


BAD = {
    "no TOML": ("scratch = ", "Invalid value"),
    "no text": ("scratch = '\\xff'", "emdstore.toml"),
    "unknown setting": (WHOLE + "resluts = 'x'", "unknown setting 'resluts'; there are scratch, results"),
    "wrong type": (WHOLE.replace('"scratch"', "3"), "scratch is str, not 3"),
    "wrong flag": (WHOLE + 'clean_folder = "yes"', "clean_folder is bool, not 'yes'"),
    "wrong lease": (WHOLE + "lease_seconds = -1", "lease_seconds"),
    "lease is text": (WHOLE + "lease_seconds = 'long'", "lease_seconds|not supported"),
    "scratch elsewhere": (WHOLE.replace('"scratch"', '"s3://bucket/x"'), "scratch is a folder of this machine"),
    "unknown scheme": (WHOLE.replace('"results"', '"gopher9://x"'), "gopher9"),
    "unknown option": (WHOLE + "[results_options]\ncolour = 1", "colour"),
    "options are none": (WHOLE + "results_options = 5", "results_options|mapping"),
    "unknown database": (WHOLE.replace("catalog.db", "mysql://host/x"), "mysql"),
    "something left out": ('scratch = "x"\n', "no results, catalog given in .*emdstore.toml"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_configuration_that_makes_no_sense_is_refused_with_file_and_place(case: str, tmp_path: Path) -> None:
    text, message = BAD[case]
    file = config(tmp_path / "ws", "")
    file.write_bytes(text.encode().replace(b"\\xff", b"\xff"))
    with pytest.raises(WorkspaceError, match=message) as caught:
        Workspace.open(file)
    assert str(file) in str(caught.value)
    assert list(file.parent.iterdir()) == [file]


def test_a_missing_file_is_named_with_the_command_that_writes_one(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path / "here"):
        with pytest.raises(WorkspaceError, match=r"there is no .*; `emdstore init` writes one"):
            Workspace.open(path)
    with pytest.raises(WorkspaceError, match="no scratch, results, catalog given: there is no emdstore"):
        Workspace.open()


@pytest.mark.parametrize(("name", "value"), [("CLEAN_FOLDER", "perhaps"), ("LEASE_SECONDS", "long")])
def test_an_override_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv(f"EMDSTORE_{name}", value)
    with pytest.raises(WorkspaceError, match=f"EMDSTORE_{name} is .*, not '{value}'"):
        Workspace.open(config(tmp_path, WHOLE))


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises((VocabularyError, MissingExtraError), match=r"no\.yaml"):
        Workspace.open(config(tmp_path, WHOLE + 'vocabulary = "no.yaml"\n'))


# -- what it is ----------------------------------------------------------------------------------------------------


def test_one_in_memory_needs_nothing_and_leaves_nothing() -> None:
    with Workspace.in_memory() as workspace:
        execution = committed(workspace)
        assert execution.status == "uploaded"
        assert isinstance(workspace.results, InMemoryArtifactStore)
        scratch = workspace.scratch.root
        assert scratch.is_dir()
    assert not scratch.exists()


def test_two_in_memory_share_nothing() -> None:
    with Workspace.in_memory() as one, Workspace.in_memory() as other:
        committed(one)
        assert list(other.catalog.executions()) == []
        assert list(other.results.iter_keys()) == []


def test_it_pickles_as_its_configuration(workspace: Workspace) -> None:
    execution = ran(workspace)
    copy = pickle.loads(pickle.dumps(attrs.evolve(workspace, clean_folder=True, lease_seconds=9)))
    assert (copy.scratch, copy.results, copy.catalog.url) == (
        workspace.scratch,
        workspace.results,
        workspace.catalog.url,
    )
    assert (copy.clean_folder, copy.lease_seconds) == (True, 9)
    copy.resume_execution(execution.fragment).commit_output_assets()
    assert execution.status == "uploaded"


def test_one_in_memory_says_why_it_does_not_pickle() -> None:
    with Workspace.in_memory() as workspace, pytest.raises(CatalogError, match="does not pickle"):
        pickle.dumps(workspace)


def test_its_catalog_belongs_to_one_results_store(workspace: Workspace, tmp_path: Path) -> None:
    execution = ran(workspace)
    other = attrs.evolve(workspace, results=LocalArtifactStore(tmp_path / "others"))
    for call in (
        lambda: other.start_execution(**IDENTITY),
        lambda: other.resume_execution(execution.fragment),
        other.commit_pending_executions,
        other.gc_executions,
        other.recover,
        lambda: other.reingest(execution.fragment),
    ):
        with pytest.raises(CatalogError, match=re.escape(f"belongs to the results store {tmp_path}/ws-results")):
            call()
    assert execution.status == "stopped"
    assert not (tmp_path / "others").exists()


def test_the_same_results_store_by_another_path_is_the_same(workspace: Workspace, tmp_path: Path) -> None:
    execution = committed(workspace)
    (tmp_path / "link").symlink_to(tmp_path / "ws-results")
    other = attrs.evolve(workspace, results=LocalArtifactStore(tmp_path / "link"))
    assert other.resume_execution(execution.fragment).status == "uploaded"


def test_a_catalog_of_a_newer_emdstore_is_refused_and_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    ran(workspace)
    workspace.catalog.release_connections()
    with sqlite3.connect(tmp_path / "catalog.db") as database:
        database.execute("UPDATE catalog_version SET version_num = '9999'")
    with pytest.raises(CatalogVersionError, match="a newer emdstore made it; upgrade emdstore"):
        workspace.commit_pending_executions()
    with pytest.raises(CatalogVersionError):
        workspace.start_execution(**IDENTITY)
    assert list(workspace.results.iter_keys()) == []


def test_a_catalog_that_cannot_be_reached_leaves_a_start_to_clean_up(workspace: Workspace, tmp_path: Path) -> None:
    lost = attrs.evolve(workspace, catalog=Catalog(tmp_path / "no-such-folder" / "catalog.db"))
    with pytest.raises(CatalogError, match="check that the folder exists"):
        lost.start_execution(**IDENTITY)
    with pytest.raises(CatalogError):
        lost.commit_pending_executions()
    assert not workspace.scratch.root.exists()


# -- its executions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["provider", "diagnostic", "name"])
@pytest.mark.parametrize("value", ["a/b", "", "..", "a\nb", ".emdstore-x"])
def test_a_name_that_cannot_be_a_folder_is_refused_before_anything_is_made(
    workspace: Workspace, name: str, value: str
) -> None:
    with pytest.raises(InvalidKeyError):
        workspace.start_execution(**IDENTITY | {name: value})
    assert not workspace.scratch.root.exists()
    assert workspace.catalog.executions().count() == 0


def test_a_group_may_have_several_segments(workspace: Workspace) -> None:
    execution = workspace.start_execution(**IDENTITY | {"group": "cmip6/historical (°C)"})
    assert execution.fragment.startswith("pmp/enso_tel/cmip6/historical (°C)/")
    assert execution.row.group == "cmip6/historical (°C)"


def test_a_name_is_given_once(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.start_execution(**IDENTITY, name="2025-01")
    assert first.fragment == "{provider}/{diagnostic}/{group}/2025-01".format(**IDENTITY)
    with first:
        pass
    kept = (first.output_directory / "execution.json").read_bytes()
    elsewhere = attrs.evolve(workspace, catalog=Catalog(tmp_path / "other.db"))  # in scratch alone
    first.commit_output_assets()
    cleaned = attrs.evolve(workspace, scratch=tmp_path / "other")  # in the catalog alone
    for each in (workspace, elsewhere, cleaned):
        with pytest.raises(ArtifactExistsError, match="2025-01' already: resume it, or start one of another name"):
            each.start_execution(**IDENTITY, name="2025-01")
    assert (first.output_directory / "execution.json").read_bytes() == kept
    assert first.status == "failed"
    assert not (tmp_path / "other").exists()
    assert workspace.start_execution(**IDENTITY, name="2025-02").status == "created"


def test_executions_that_start_at_once_get_folders_of_their_own(workspace: Workspace) -> None:
    started = [workspace.start_execution(**IDENTITY) for _ in range(20)]
    assert len({execution.output_directory for execution in started}) == 20
    assert workspace.list_executions().count() == 20


def test_an_execution_is_resumed_by_its_fragment_or_the_end_of_it(workspace: Workspace) -> None:
    execution = ran(workspace)
    for name in (execution.fragment, execution.fragment.rpartition("/")[2]):
        resumed = workspace.resume_execution(name)
        assert (resumed.fragment, resumed.status) == (execution.fragment, "stopped")


@pytest.mark.parametrize("unknown", ["nope", "pmp/enso_tel/historical", "", "%"])
def test_an_unknown_id_is_named(workspace: Workspace, unknown: str) -> None:
    ran(workspace)
    for call in (workspace.resume_execution, workspace.reingest):
        with pytest.raises(ExecutionNotFoundError, match=f"no execution '{unknown}'.*`emdstore list`"):
            call(unknown)
    with pytest.raises(ExecutionNotFoundError):
        workspace.commit_pending_executions(execution_ids=[unknown])


def test_listing_is_narrowed_by_one_state_or_several(workspace: Workspace) -> None:
    states = {status: in_state(workspace, status).fragment for status in ("created", "stopped", "uploaded", "aborted")}
    assert [row.fragment for row in workspace.list_executions(status="stopped")] == [states["stopped"]]
    both: Any = {row.fragment for row in workspace.list_executions(status=("created", "aborted"))}
    assert both == {states["created"], states["aborted"]}
    assert workspace.list_executions().count() == 4
    with pytest.raises(ValueError, match=r"no such status: stoped; there are created, running"):
        workspace.list_executions(status="stoped")


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (emdstore.Workspace, "upload retry ship push sync commit_all upload_pending retry_failed save"),
        (
            emdstore.Execution,
            "upload retry ship push sync commit commit_assets upload_output_assets save finish complete close finalize",
        ),
    ],
)
def test_there_is_one_method_that_ships_and_no_other_name_for_it(owner: type, names: str) -> None:
    assert [name for name in names.split() if hasattr(owner, name)] == []
    shipping = [name for name in vars(owner) if not name.startswith("_") and re.search("commit|upload|ship", name)]
    assert len(shipping) == 1
