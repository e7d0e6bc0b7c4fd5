"""Commands that look: du, cat, stat, tree, status, logs, history."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.ensembles import INCOMPLETE
from tests.sets.examples import FAILURE, FRAGMENT, put
from tests.sets.published import OTHER, publish

from emdstore import retract
from emdstore.executions.workspace import Workspace
from emdstore.stores import LocalArtifactStore

BIAS = "ilamb/bias/h/1"
RUN = ("run", "--provider", "pmp", "--diagnostic", "enso", "--group", "historical")


@pytest.fixture
def store(here: Here) -> LocalArtifactStore:
    results = LocalArtifactStore("results")
    publish(results)
    publish(results, OTHER)
    publish(results, BIAS, result=FAILURE)
    put(results, {"README.md": b"about", f"{FRAGMENT}/left-over.txt": b"12345"})
    return results


def sizes(said: object) -> dict[str, int]:
    return {each["name"]: each["bytes"] for each in said}  # type: ignore[attr-defined]


def test_du_counts_what_lies_there_by_what_it_belongs_to(here: Here, store: LocalArtifactStore) -> None:
    total = sum(info.size for info in store.iter_info())
    for by in ("provider", "diagnostic", "group", "set", "role"):
        document = here("du", "results", "--by", by, "--json").json
        assert document["counts"]["bytes"] == total
        assert sum(sizes(document["items"]).values()) == total
    by_provider = here("du", "results", "--json").json["items"]
    assert [(each["name"], each["sets"]) for each in by_provider] == [("pmp", 2), ("ilamb", 1), ("(in no record)", 0)]
    by_role = sizes(here("du", "results", "--by", "role", "--json").json["items"])
    assert by_role["log"] == 3 * len(b"it ran\n")
    assert by_role["(in no record)"] == len(b"about") + len(b"12345")
    assert sizes(here("du", "results", "ilamb", "--by", "set", "--json").json["items"]).keys() == {BIAS}
    assert here("du", "results").out.splitlines()[-1].split()[:3] == ["total", "20", str(total)]


def test_cat_writes_the_bytes_as_they_are_or_lays_them_out(here: Here, store: LocalArtifactStore) -> None:
    assert here("cat", "results", f"{FRAGMENT}/out.log").out == "it ran\n"
    laid_out = here("cat", "results", f"{FRAGMENT}/diagnostic.json", "--pretty")
    assert '\n  "RESULTS": {\n' in laid_out.out
    assert laid_out.json["RESULTS"]["global"]["bias"] == 0.5
    assert "is not JSON" in here("cat", "results", f"{FRAGMENT}/out.log", "--pretty", code=2).err
    assert here("cat", "results", "no/such", "--json", code=4).json["error"]["key"] == "no/such"
    store.write_bytes("bytes", b"\xff\x00")
    texts = [here("cat", "results", key, "--json").json for key in (f"{FRAGMENT}/out.log", "bytes")]
    assert [(each["encoding"], each["content"]) for each in texts] == [("utf-8", "it ran\n"), ("base64", "/wA=")]


def test_stat_tells_what_the_record_says_and_whether_it_is_so(here: Here, store: LocalArtifactStore) -> None:
    (fine,) = here("stat", "results", f"{FRAGMENT}/index.html", "--json").json["items"]
    assert (fine["set"], fine["state"], fine["role"], fine["as_recorded"]) == (FRAGMENT, "published", "html", True)
    assert fine["sha256"] == fine["recorded_sha256"]
    (beside,) = here("stat", "results", f"{FRAGMENT}/left-over.txt", "--json").json["items"]
    assert beside["role"] == "not named by the record"
    (outside,) = here("stat", "results", "README.md", "--json").json["items"]
    assert "set" not in outside
    store.write_bytes(f"{FRAGMENT}/index.html", b"<html>!/html>")
    assert "as recorded      False" in here("stat", "results", f"{FRAGMENT}/index.html", code=1).out
    assert "state       failed" in here("stat", "results", BIAS).out
    assert "no artifact and no set" in here("stat", "results", "nowhere", code=4).err


def test_whoever_takes_an_artifact_of_a_retracted_set_is_warned(here: Here, store: LocalArtifactStore) -> None:
    key = f"{FRAGMENT}/index.html"
    assert "retracted" not in here("cat", "results", key).err
    retract(store, FRAGMENT, reason="wrong sign", successor=BIAS)
    taken = here("cat", "results", key)
    assert taken.out == here("cat", "results", key, "--json").json["content"]
    assert f"{FRAGMENT} is retracted: wrong sign; use {BIAS}" in taken.err
    for what in (key, FRAGMENT):
        assert f"wrong sign; use {BIAS}" in here("stat", "results", what).out
    assert here("stat", "results", key, "--json").json["items"][0]["retracted"] == f"wrong sign; use {BIAS}"
    assert "retracted" not in here("cat", "results", "README.md").err


def test_tree_shows_each_folder_once_and_counts_below_its_depth(here: Here, store: LocalArtifactStore) -> None:
    assert here("tree", "results", "ilamb").out.splitlines() == [
        "bias/",
        "  h/",
        "    1/",
        "      execution.json",
        "      out.log",
    ]
    shown = here("tree", "results", "-d", "1", "--exclude", ".emdstore").out.splitlines()
    assert shown == ["README.md", "ilamb/  (2)", "pmp/  (17)"]
    entries = here("tree", "results", "-d", "2", "--provider", "ilamb", "--json").json["items"]
    assert entries == [
        {"level": 0, "name": "ilamb/", "artifacts": None},
        {"level": 1, "name": "bias/", "artifacts": 2},
    ]
    here("tree", "results", "--provider", "nobody", code=4)


def test_status_tells_what_waits_and_what_failed(here: Here) -> None:
    here("init")
    assert here("status").out.startswith("no executions\n")
    here(*RUN, "--", "true")
    said = here("status").out
    assert said.startswith("1 stopped\n")
    assert "waits to be committed" in said
    assert "next: emdstore commit --pending" in said
    document = here("status", "--json").json
    assert (document["ok"], document["counts"]) == (True, {"stopped": 1})
    assert [each["what"] for each in document["disks"]] == ["scratch"]  # there are no results yet
    assert document["last_replay"] is None
    assert "% full" in said
    Path("results").mkdir()
    here("replay", "results", "--catalog", "catalog.db")
    assert "last replay: " in here("status").out
    assert here("status", "--json").json["last_replay"]["sets"] == 0
    with Workspace.open() as workspace:
        (row,) = workspace.list_executions()
        workspace.catalog.claims.claim(row.fragment, owner="me", lease_seconds=60, allowed_from=("stopped",))
    assert "is being committed" in here("status").out
    assert here("status", "--json").json["items"][0]["owner"] == "me"


def test_status_tells_what_is_incomplete_from_what_failed(here: Here, demo_folder: Path) -> None:
    for name in ("catalog.db", "results", "scratch"):
        Path(name).symlink_to(demo_folder / name)
    here("init", "--catalog", "catalog.db")
    concerns = {each["fragment"]: each["concern"] for each in here("status", "--json").json["items"]}
    assert concerns[INCOMPLETE] == "incomplete"
    assert set(concerns.values()) == {"incomplete", "failed"}


def test_a_log_is_shown_from_scratch_or_from_results(here: Here) -> None:
    here("init")
    run = here(*RUN, "--json", "--", "echo", "computing").json
    fragment = run["execution"]["fragment"]
    assert here("logs", fragment).out == "computing\n"
    here("commit", "--pending", "--clean-folder", "--unnamed", code=None)
    for place in Path("scratch").rglob("out.log"):
        place.unlink()
    assert "computing" in here("logs", fragment.rpartition("/")[2] + "/").out
    assert here("logs", fragment, "--json").json["log"].startswith("computing")


def test_a_log_is_followed_until_its_execution_has_stopped(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here("init")
    with Workspace.open() as workspace:
        execution = workspace.start_execution(provider="pmp", diagnostic="enso")
        log = execution.output_directory / "out.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("one\n")

        def go_on() -> None:
            with log.open("a") as file:
                file.write("two\n")
            execution.abort()

        later = threading.Timer(0.2, go_on)
        later.start()
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
        from emdstore.cli.status import logs

        assert logs(execution.fragment, follow=True) == 0
        later.join()
    assert written.getvalue() == b"one\ntwo\n"


def test_history_tells_the_executions_of_a_group_the_newest_first(here: Here, store: LocalArtifactStore) -> None:
    here("replay", "results", "--catalog", "catalog.db")
    group = OTHER.split("/")[2]
    for name in (group, f"pmp/enso_tel/{group}/"):
        items = here("history", name, "--catalog", "catalog.db", "--json").json["items"]
        assert [each["execution"]["fragment"] for each in items] == [OTHER, FRAGMENT]
        assert [each["latest"] for each in items] == [True, False]
    assert here("history", group, "--catalog", "catalog.db").out.splitlines()[1].split()[:2] == [OTHER, "latest"]
    here("history", "enso", "--catalog", "catalog.db", code=4)
