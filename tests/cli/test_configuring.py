"""Named stores, and where each setting comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Here

SECRET = "hunter2-hunter2"


@pytest.fixture
def stores(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace and a user's file, which name stores."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    user = tmp_path / "home" / "emdstore" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('[stores.archive]\nurl = "/nowhere/of/the/user"\n[stores.mine]\nurl = "mine"\ntimeout = 3\n')
    here("init")
    with Path("emdstore.toml").open("a") as file:
        file.write('[stores.archive]\nurl = "shelf"\n')
    for place in ("shelf/pmp/enso", "home/emdstore/mine"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.txt").write_text(place)
    return user


def test_a_named_store_and_a_folder_of_it_are_used_wherever_a_store_is(here: Here, stores: Path) -> None:
    assert here("ls", "archive:").out == "pmp/enso/a.txt\n"
    assert here("ls", "archive:pmp/").out == "enso/a.txt\n"
    assert here("ls", "mine:").out == "a.txt\n"
    here("transfer", "archive:pmp", "mine:copy")
    assert here("diff", "archive:pmp/enso", "mine:copy/enso").out.endswith("no difference\n")
    assert "does not exist" in here("ls", "archive:nothing", code=2).err


def test_a_folder_with_a_colon_is_a_folder(here: Here, stores: Path) -> None:
    Path("unknown:pmp").mkdir()
    Path("unknown:pmp/b.txt").write_text("b")
    assert here("ls", "unknown:pmp").out == "b.txt\n"
    Path("archive:x").mkdir()
    Path("archive:x/c.txt").write_text("c")
    assert here("ls", "./archive:x").out == "c.txt\n"


@pytest.mark.parametrize("place", ["nowhere:", "nowhere:copy", "user:secret@host/copy"])
def test_a_store_that_nobody_named_is_no_new_folder(here: Here, stores: Path, place: str) -> None:
    refused = here("transfer", "archive:", place, code=2).err
    assert f"no store named {place.partition(':')[0]!r} (there are archive, mine)" in refused
    assert "secret" not in refused
    assert not list(Path().glob("*:*"))


def test_the_fragment_of_a_set_in_a_named_store_is_its_folder(here: Here, stores: Path) -> None:
    bundle = '{"DIMENSIONS": {"json_structure": ["m"], "m": {"bias": {}}}, "RESULTS": {"bias": 0.5}}'
    Path("run").mkdir()
    Path("run/diagnostic.json").write_text(bundle)
    Path("run/out.log").write_text("it ran")
    said = here("materialize", "run", "archive:pmp/enso/h/1", "--metric", "diagnostic.json", "--json").json
    assert said["fragment"] == "pmp/enso/h/1"


def test_show_tells_where_each_value_comes_from(here: Here, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMDSTORE_RESULTS", f"s3://key:{SECRET}@bucket/results")
    with Path("emdstore.toml").open("a") as file:
        file.write(f'[stores.cloud]\nurl = "s3://bucket/x"\nsecret_access_key = "{SECRET}"\n')
    for more in ([], ["--json"]):
        said = here("config", "show", *more)
        assert SECRET not in said.out + said.err
    origins = {each["name"]: each["origin"] for each in here("config", "show", "--json").json["items"]}
    assert origins["results"] == "EMDSTORE_RESULTS"
    assert origins["scratch"] == origins["stores.archive"] == str(Path("emdstore.toml").resolve())
    assert origins["stores.mine"] == str(stores)
    assert origins["clean_folder"] == "default"


def test_show_tells_options_from_variables_and_check_names_those_that_nothing_reads(
    here: Here, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TIMEOUT": "7", "RETRIES": "3", "TRANSFER_ORDER": "smallest", "DB_CHECK_VERBOSE": "1", "TOKEN": SECRET,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"EMDSTORE_{name}", value)
    said = here("config", "show", "--retries", "0", "--json")
    assert SECRET not in said.out
    found = {each["name"]: (each["value"], each["origin"]) for each in said.json["items"]}
    assert found["timeout"] == ("7.0", "EMDSTORE_TIMEOUT")
    assert found["retries"] == ("0", "--retries")
    assert found["connect_timeout"] == found["config"] == (None, "default")
    assert found["transfer --order"] == ("smallest", "EMDSTORE_TRANSFER_ORDER")
    assert found["db check --verbose"] == ("1", "EMDSTORE_DB_CHECK_VERBOSE")
    here("config", "check")
    monkeypatch.setenv("EMDSTORE_TRANSFER_ODER", "largest")
    monkeypatch.setenv("EMDSTORE_RESULT", "results")
    said = here("config", "check", code=1)
    assert "EMDSTORE_TRANSFER_ODER: no option has this variable: is EMDSTORE_TRANSFER_ORDER meant?" in said.out
    assert "EMDSTORE_RESULT: no option has this variable: is EMDSTORE_RESULTS meant?" in said.out


def test_check_tries_each_named_store(here: Here, stores: Path) -> None:
    assert here("config", "check").out.splitlines()[0].startswith("ok  archive: ")
    with Path("emdstore.toml").open("a") as file:
        file.write('[stores.gone]\nurl = "nowhere"\n')
    document = here("config", "check", "--json", code=2).json
    assert [(each["name"], each["ok"]) for each in document["items"]] == [
        ("archive", True),
        ("mine", True),
        ("gone", False),
    ]
    assert [each["name"] for each in document["errors"]] == ["gone"]


@pytest.mark.parametrize(
    "text", ["[stores]\nx = 1", "[stores.x]\ntimeout = 1", 'stores = "x"', '[stores."a b"]\nurl = "x"']
)
def test_a_store_without_a_url_is_a_mistake(here: Here, stores: Path, text: str) -> None:
    Path("emdstore.toml").write_text(text)
    assert "[stores.NAME] with a url" in here("ls", "archive:", code=2).err
