"""`emdstore diff`: what differs, for people and programs, with exit code 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.sets.examples import FRAGMENT, encode, metric_bundle
from tests.sets.published import OTHER, publish

from emdstore.stores import LocalArtifactStore


@pytest.fixture
def both(here: Here) -> None:
    """Results, and a copy of them."""
    store = LocalArtifactStore("results")
    publish(store)
    publish(store, OTHER, diagnostic=encode(metric_bundle({"global": {"bias": 0.75, "rmse": 1.5}})))
    store.write_bytes("README.md", b"about")
    shutil.copytree("results", "copy")


def test_a_copy_does_not_differ(here: Here, both: None) -> None:
    assert here("diff", "results", "copy").out == "2 sets and 1 other key compared: no difference\n"
    assert here("diff", "results", "copy/", "pmp/", "--checksum", "--json").json["counts"] == {
        "sets_equal": 2,
        "sets_differ": 0,
        "keys_equal": 0,
        "keys_differ": 0,
    }


def test_what_differs_is_said_one_a_line(here: Here, both: None) -> None:
    Path("copy/README.md").unlink()
    shutil.rmtree(Path("results") / OTHER)
    Path(f"copy/{FRAGMENT}/index.html").write_bytes(b"longer than it was")
    answer = here("diff", "results", "copy", code=1)
    assert answer.out.splitlines() == [
        "only in A  key README.md",
        f"size  key {FRAGMENT}/index.html: 13 and 18",
        f"only in B  set {OTHER}",
        "2 sets and 1 other key compared: 3 differ",
    ]
    items = here("diff", "results", "copy", "--json", code=1).json["items"]
    assert [(each["kind"], each["how"]) for each in items] == [
        ("key", "only-in-a"),
        ("key", "size"),
        ("set", "only-in-b"),
    ]


def test_a_repetition_is_told_apart_by_its_values(here: Here, both: None) -> None:
    one, other = f"results/{FRAGMENT}", f"results/{OTHER}"
    said = here("diff", one, other, "--values", code=1).out
    assert "value  value metric=bias, region=global: 0.5 and 0.75" in said
    assert "only in A  value metric=bias, region=arctic" in said
    series = Path(one, "series.json")
    series.write_text(series.read_text().replace("1.0", "2.0"))
    assert "value  series region=global at 1850: 2 and 1" in here("diff", one, other, "--values", code=1).out
    assert "give --values" in here("diff", one, other, "--tolerance", "0.1", code=2).err


def test_what_matches_nothing_is_no_equality(here: Here, both: None) -> None:
    assert "no artifact in the folder 'pmq'" in here("diff", "results", "copy", "pmq", code=4).err
    here("diff", "results", "copy", "--provider", "nobody", code=4)
    assert "does not exist" in here("diff", "results", "cpy", code=2).err


def test_what_is_left_out_is_no_equality(here: Here, both: None) -> None:
    Path("copy/nowhere").symlink_to("gone")
    assert "left out  nowhere" in here("diff", "results", "copy", code=1).err
    here("diff", "results", "copy", "--accept-left-out")


def test_what_was_published_of_scratch_differs_only_in_what_was_not(here: Here) -> None:
    here("init")
    run = ("run", "--provider", "p", "--diagnostic", "d", "--", "sh", "-c", 'echo {} > "$EMDSTORE_OUTPUT_DIR/notes"')
    here(*run, code=None)
    fragment = here("list", "--json").json["items"][0]["fragment"]
    here("commit", "--pending", code=None)
    assert f"only in A  key {fragment}/notes" in here("diff", "scratch", "results", code=1).out.splitlines()
    Path("scratch", fragment, "notes").unlink()
    said = here("diff", "scratch", "results", code=None)
    assert "record" not in said.out
    Path("results", fragment, "out.log").write_text("another")
    assert "key out.log" in here("diff", f"scratch/{fragment}", f"results/{fragment}", code=1).out
