"""Names as people and shells write them: `~`, `./`, slashes at the end, paths that were completed with the tab key."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.sets.examples import FRAGMENT
from tests.sets.published import OTHER, publish

from emdstore.stores import LocalArtifactStore

LOG = f"{FRAGMENT}/out.log"


@pytest.fixture
def home(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a workspace, its results and a catalog; calls are made from another folder."""
    home = tmp_path / "home"
    publish(LocalArtifactStore(home / "results"))
    publish(LocalArtifactStore(home / "results"), OTHER)
    (home / "emdstore.toml").write_text('scratch = "scratch"\nresults = "~/results"\ncatalog = "~/catalog.db"\n')
    (home / "names").write_text(f"./{FRAGMENT}/\n")
    (home / "rules").write_text("+ out.log\n- *\n")
    monkeypatch.setenv("HOME", str(home))
    here("replay", "~/results", "--catalog=~/catalog.db")
    return home


@pytest.mark.parametrize(
    "call",
    [
        "ls ~/results/ --filter-from=~/rules --log-file=~/log",
        "ls ~/results --files-from=~/names",
        "verify ~/results --state-file=~/state",
        "show 1 --catalog=sqlite:///~/catalog.db",
        "list --config=~",
        "export scalars --config=~/emdstore.toml -o ~/rows.csv",
        "compare ~/results ~/catalog.db",
        "transfer ~/results/ ~/copy/ ./",
        "diff ~/results ~/results/ ./ --files-from ~/names",
        "deposit ~/results -o ~/crate",
        "init ~/workspace",
        "man --install --folder=~/man",
        "materialize ~/results/pmp ~/new/a/b/c/d --failed --output-directory=~/run",
    ],
)
def test_the_home_folder_is_understood_everywhere(here: Here, home: Path, call: str) -> None:
    if call.startswith("show"):
        call = call.replace("1", FRAGMENT)
    here(*call.split(), code=1 if call.startswith("materialize") else 0)  # which finds no log there
    assert not Path("~").exists()


def test_the_home_folder_is_understood_in_variables(here: Here, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "EMDSTORE_SCRATCH": "~/scratch",
        "EMDSTORE_RESULTS": "~/results",
        "EMDSTORE_CATALOG": "~/catalog.db",
        "EMDSTORE_LOG_FILE": "~/log",
        "EMDSTORE_VERIFY_STATE_FILE": "~/state",
    }.items():
        monkeypatch.setenv(name, value)
    assert [each["fragment"] for each in here("list", "--json").json["items"]] == [FRAGMENT, OTHER]
    here("verify", "~/results")
    assert (home / "log").exists()
    assert not Path("~").exists()
    monkeypatch.setenv("EMDSTORE_CONFIG", "~/nowhere.toml")
    assert f"there is no {home}/nowhere.toml" in here("status", code=2).err


@pytest.mark.parametrize(
    "prefix", [f"./{FRAGMENT}/", f".//{FRAGMENT}", f"results/{FRAGMENT}/", f"{{home}}/results/{FRAGMENT}"]
)
def test_a_folder_of_a_store_is_understood_as_a_shell_completes_it(
    here: Here, home: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.chdir(home)
    prefix = prefix.format(home=home)
    assert LOG in here("ls", "results", prefix).out.splitlines()
    assert here("cat", "results", f"{prefix.rstrip('/')}/out.log").out == "it ran\n"
    assert here("transfer", "results", "copy", prefix, "--json").json["sets"][0]["folder"] == FRAGMENT


@pytest.mark.parametrize(
    "name", [f"results/{FRAGMENT}/", f"./results/{FRAGMENT}", f"~/results/{FRAGMENT}", f"{FRAGMENT}/"]
)
def test_an_execution_is_understood_as_a_shell_completes_it(
    here: Here, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(home)
    assert here("show", name, "--json").json["execution"]["fragment"] == FRAGMENT
    assert here("logs", name).out == "it ran\n"


def test_a_key_that_is_there_is_meant_even_if_it_looks_like_a_path(
    here: Here, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    publish(LocalArtifactStore(home / "results"), f"results/{FRAGMENT}")
    keys = here("ls", "results", f"results/{FRAGMENT}").out.splitlines()
    assert f"results/{LOG}" in keys


def test_a_name_that_is_empty_does_not_stand_for_all_that_is_to_be_removed(here: Here, home: Path) -> None:
    for name in ("", ".", "./"):
        assert "empty, or means all" in here("rm", "~/results", name, "-r", "--force", "--yes", code=2).err
    assert (home / "results" / LOG).exists()
