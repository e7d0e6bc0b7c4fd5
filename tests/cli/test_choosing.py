"""The same options choose on every command, and what matches nothing is said."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.sets.examples import FAILURE, put
from tests.sets.published import OTHER, publish

from emdstore.cli.app import make_app
from emdstore.cli.choosing import parse_moment, parse_size
from emdstore.cli.options import WrongCallError
from emdstore.stores import LocalArtifactStore

COMMANDS = ("ls", "tree", "du", "transfer", "diff", "verify", "replay", "sets", "commit", "gc", "export", "list")
BIAS = "ilamb/bias/h/1"
METRIC = b'{"DIMENSIONS": {"json_structure": ["m"], "m": {"bias": {}}}, "RESULTS": {"bias": 0.5}}'


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifactStore:
    results = LocalArtifactStore(tmp_path / "results")
    publish(results)
    publish(results, OTHER)
    publish(results, BIAS, result=FAILURE)
    put(results, {"README.md": b"about"})
    return results


def test_every_command_that_works_on_many_has_the_same_options() -> None:
    def options(command: str) -> set[str]:
        arguments = make_app([command])[command].assemble_argument_collection()
        groups = {name for each in arguments for name in each.names if "Choosing" in str(each.parameter.group)}
        return {name for name in groups if name.startswith("-")}

    wanted = options("transfer")
    assert {"--include", "--files-from", "-0", "--newer", "--provider", "--state", "--latest"} <= wanted
    assert {command: options(command) for command in COMMANDS} == dict.fromkeys(COMMANDS, wanted)


def test_the_options_choose_the_same_sets_everywhere(here: Here, store: LocalArtifactStore) -> None:
    chosen = ("--provider", "ilamb")
    assert {each["key"] for each in here("ls", "results", *chosen, "--json").json["items"]} == {
        f"{BIAS}/out.log",
        f"{BIAS}/execution.json",
    }
    assert [each["fragment"] for each in here("sets", "results", *chosen, "--json").json["items"]] == [BIAS]
    assert here("verify", "results", *chosen, "--json").json["sets"] == 1
    here("replay", "results", *chosen, "--catalog", "catalog.db")
    at = ("--catalog", "catalog.db")
    assert [each["fragment"] for each in here("list", *at, "--json").json["items"]] == [BIAS]
    here("replay", "results", *at)
    assert [each["fragment"] for each in here("list", *at, *chosen, "--json").json["items"]] == [BIAS]
    here("export", "executions", *at, "--include", "pmp/", "-o", "rows.jsonl")
    assert len(Path("rows.jsonl").read_text().splitlines()) == 2
    here("transfer", "results", "copy", *chosen)
    assert {path.name for path in Path("copy").rglob("*.json")} == {"execution.json"}


def test_a_folder_may_be_named_as_a_shell_completes_it(here: Here, store: LocalArtifactStore) -> None:
    here("transfer", "results", "copy", "pmp/enso_tel/", "./README.md")
    assert here("sets", "copy", "--json").json["counts"] == {"published": 2}
    assert Path("copy/README.md").read_bytes() == b"about"


@pytest.mark.parametrize("end", ["\n", "\0"], ids=["lines", "nul"])
def test_names_come_from_a_file_or_from_stdin(
    here: Here, store: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    names = end.join(["README.md", f"{BIAS}/", ""]).encode()
    Path("names").write_bytes(names)
    more = ["-0"] if end == "\0" else []
    wanted = here("ls", "results", "--files-from", "names", *more).out.splitlines()
    assert wanted == ["README.md", f"{BIAS}/execution.json", f"{BIAS}/out.log"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    here("transfer", "results", "copy", "--files-from", "-", *more)
    assert here("ls", "copy").out.splitlines() == wanted
    assert here("sets", "results", "--files-from", "names", *more, "--json").json["counts"] == {"failed": 1}


def test_a_name_in_a_file_that_is_nowhere_is_told_by_transfer(here: Here, store: LocalArtifactStore) -> None:
    Path("names").write_text("README.md\nno/such\n")
    assert "missing  no/such" in here("transfer", "results", "copy", "--files-from", "names", code=1).out


def test_a_filter_file_is_read(here: Here, store: LocalArtifactStore) -> None:
    Path("rules").write_text("+ README.md\n- *\n")
    assert here("ls", "results", "--filter-from", "rules").out.splitlines() == ["README.md"]
    Path("rules").write_text("README.md\n")
    assert "line 1 of rules" in here("ls", "results", "--filter-from", "rules", code=2).err


@pytest.mark.parametrize(
    "command",
    [
        "ls results", "transfer results copy", "verify results", "sets results",
        "replay results --catalog c.db", "commit --pending", "gc", "gc --yes", "list", "export executions -o x.csv",
    ],
)  # fmt: skip
def test_what_matches_nothing_is_said(here: Here, store: LocalArtifactStore, command: str) -> None:
    if command.startswith(("commit", "gc", "list", "export")):
        here("init")
    told = here(*command.split(), "--provider", "nobody", code=4)
    assert "matches --provider nobody" in told.err
    document = here(*command.split(), "--provider", "nobody", "--json", code=4).json
    assert (document["ok"], document["exit_code"]) == (False, 4)
    assert not Path("x.csv").exists()


def test_commit_and_gc_keep_to_what_is_chosen(here: Here) -> None:
    here("init")
    Path("diagnostic.json").write_bytes(METRIC)
    program = ("sh", "-c", f'cp {Path("diagnostic.json").absolute()} "$EMDSTORE_OUTPUT_DIR"')
    for provider in ("pmp", "ilamb"):
        here("run", "--provider", provider, "--diagnostic", "d", "--", *program)
    committed = here("commit", "--pending", "--provider", "ilamb", "--json").json["items"]
    assert [each["fragment"].partition("/")[0] for each in committed] == ["ilamb"]
    assert "give --pending" in here("commit", "ilamb/d", "--provider", "ilamb", code=2).err
    here("commit", "--pending", "--no-catalog", "--include", "pmp/", "--exclude", "ilamb/")
    assert "--latest" in here("commit", "--pending", "--no-catalog", "--latest", code=2).err
    here("replay", "results", "--catalog", "catalog.db")
    removed = here("gc", "--include", "ilamb/", "--yes", "--json").json["items"]
    assert [each["name"].partition("/")[0] for each in removed] == ["ilamb"]


def test_executions_are_chosen_by_size_as_sets_are(here: Here) -> None:
    here("init")
    for name, size in (("small", 10), ("large", 5000)):
        run = ("run", "--provider", name, "--diagnostic", "d", "--", "head", "-c", str(size), "/dev/zero")
        assert here(*run, code=None).code in (0, 1)
    assert "no waiting execution" in here("commit", "--pending", "--max-size", "10", code=4).err
    first = here("commit", "--pending", "--no-catalog", "--min-size", "4k", "--json", code=None).json["items"]
    assert [each["fragment"].split("/")[0] for each in first] == ["large"]
    here("commit", "--pending", code=None)
    here("replay", "results", "--catalog", "catalog.db")
    chosen = ("--min-size", "4k", "--json")
    for call in (["list"], ["gc"], ["sets", "results"]):
        items = here(*call, *chosen, code=None).json["items"]
        named = {(each.get("fragment") or each["name"]).split("/")[0] for each in items}
        assert named == {"large"}, call
    here("export", "executions", "-o", "rows.jsonl", "--max-size", "1k")
    assert '"small' in Path("rows.jsonl").read_text()


def test_prune_wants_to_see_all(here: Here, store: LocalArtifactStore) -> None:
    here("replay", "results", "--catalog", "c.db")
    told = here("replay", "results", "--catalog", "c.db", "--prune", "--provider", "pmp", code=2)
    assert "--prune is about all sets" in told.err
    (store.local_path(f"{BIAS}/execution.json")).unlink()
    (store.local_path(f"{BIAS}/out.log")).unlink()
    assert "vanished" not in here("replay", "results", "--catalog", "c.db", "--provider", "pmp").out


@pytest.mark.parametrize(
    ("text", "size"),
    [("500", 500), ("20M", 20_000_000), ("1.5GB", 1_500_000_000), ("4KiB", 4096), ("2ki", 2048), ("0", 0)],
)
def test_sizes_are_written_as_people_do(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_times_are_ages_or_dates() -> None:
    assert parse_moment("2026-05-01") == parse_moment("2026-05-01T02:00+02:00") == 1777593600
    assert parse_moment("1d") < parse_moment("12h") < parse_moment("30min")


@pytest.mark.parametrize("text", ["", "20 apples", "-1", "1e3"])
def test_what_is_no_size_and_no_time_is_refused(text: str) -> None:
    with pytest.raises(WrongCallError):
        parse_size(text)
    with pytest.raises(WrongCallError):
        parse_moment(text)


def test_a_transfer_that_is_cut_is_not_all_and_the_next_goes_on(here: Here, store: LocalArtifactStore) -> None:
    cut = here("transfer", "results", "copy", "--max-transfer", "3k", "--order", "smallest", code=1)
    assert "--max-transfer" in cut.err
    assert here("transfer", "results", "copy", "--max-transfer", "1M").out.startswith("16 copied")
    assert here("transfer", "results", "copy", "--checksum").out.startswith("0 copied")
    assert "give one of them" in here("transfer", "results", "c", "--checksum", "--unchanged", "stat", code=2).err
