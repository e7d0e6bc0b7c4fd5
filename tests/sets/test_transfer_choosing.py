"""Moving what was chosen: folders, keys by name, sets as wholes; and a part of a set never looks like all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.sets.examples import CURATED, FAILURE, FRAGMENT, held, put
from tests.sets.published import OTHER, amend, publish, state

from emdstore.emds import RECORD_NAME
from emdstore.errors import SelectionError, TransferError
from emdstore.keys import in_folder
from emdstore.selection import Selection
from emdstore.sets.listing import list_sets
from emdstore.sets.transfer import plan_transfer, transfer
from emdstore.sets.verify import verify
from emdstore.stores import InMemoryArtifactStore
from emdstore.testing import RecordingStore
from emdstore.transfers import TransferReport
from emdstore.transfers.units import Order

AT = f"{FRAGMENT}/{RECORD_NAME}"
SET = {*(f"{FRAGMENT}/{key}" for key in CURATED), AT}
BIAS = "ilamb/bias/h/1"


@pytest.fixture
def results() -> InMemoryArtifactStore:
    """Two sets of one group, one of another provider, and files that belong to none."""
    store = InMemoryArtifactStore()
    publish(store)
    publish(store, OTHER)
    publish(store, BIAS, result=FAILURE)
    put(store, {"README.md": b"about", "pmp/notes.txt": b"notes", "pmp10/x.txt": b"x"})
    return store


@pytest.fixture
def archive() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


def words(report: TransferReport) -> dict[str, str]:
    return {each.folder: each.outcome for each in report.sets}


def below(keys: Any, *folders: str) -> set[str]:
    return {key for key in keys if any(key == folder or in_folder(key, folder) for folder in folders)}


@pytest.mark.parametrize(
    "names",
    [["pmp"], ["pmp", "ilamb"], [FRAGMENT], ["pmp/enso_tel", "README.md", FRAGMENT], ["pmp/notes.txt", AT, "ilamb"]],
    ids=str,
)
def test_a_folder_stands_for_all_that_lies_in_it(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore, names: list[str]
) -> None:
    wanted = below(results.iter_keys(), *names)
    report = transfer(results, archive, names)
    # A record that is named alone stays behind, as its artifacts are not there.
    assert set(archive.iter_keys()) == (wanted - {AT} if AT in names else wanted)
    assert report.ok == (AT not in names)
    assert len(report.outcomes) == len({each.key for each in report.outcomes})
    again = transfer(results, archive, names)
    assert again.counts["copied"] == 0


def test_a_folder_within_a_set_is_a_part_of_it(results: InMemoryArtifactStore, archive: InMemoryArtifactStore) -> None:
    assert transfer(results, archive, [f"{FRAGMENT}/plots"]).ok
    assert list(archive.iter_keys()) == [f"{FRAGMENT}/plots/map (°C).png"]


def test_a_name_that_is_neither_key_nor_folder_is_missing(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore
) -> None:
    report = transfer(results, archive, ["pmp/enso", "pmp/notes.txt"])
    assert report.keys("missing") == ("pmp/enso",)
    assert list(archive.iter_keys()) == ["pmp/notes.txt"]


def test_a_folder_is_listed_and_not_the_whole_store(results: InMemoryArtifactStore) -> None:
    dest = RecordingStore(InMemoryArtifactStore())
    source = RecordingStore(results)
    transfer(source, dest, ["ilamb"])
    listed = {call.key for store in (source, dest) for call in store.calls if call.verb.startswith("iter_")}
    assert listed
    assert all(each.startswith("ilamb") for each in listed)


@pytest.mark.parametrize(
    ("chosen", "sets"),
    [
        ({"provider": ["pmp"]}, [FRAGMENT, OTHER]),
        ({"execution": ["24"]}, [OTHER]),
        ({"state": ["failed"]}, [BIAS]),
        ({"provider": ["pmp"], "latest": True}, [OTHER]),
        ({"latest": True, "execution": ["23"]}, []),
        ({"diagnostic": ["enso_tel"], "exclude": ["24/"]}, [FRAGMENT]),
        ({"newer": datetime(2000, 1, 1, tzinfo=UTC).timestamp(), "provider": ["ilamb"]}, [BIAS]),
        ({"max_size": 40, "provider": ["ilamb", "pmp"]}, [BIAS]),
    ],
    ids=str,
)
def test_sets_are_chosen_as_wholes_and_what_belongs_to_none_stays(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore, chosen: dict[str, Any], sets: list[str]
) -> None:
    amend(results, published_at=datetime(2025, 1, 1, tzinfo=UTC))
    selection = Selection(**chosen)
    report = transfer(results, archive, selection=selection)
    assert report.ok
    assert set(archive.iter_keys()) == below(results.iter_keys(), *sets)
    assert words(report) == dict.fromkeys(sorted(sets), "copied")
    assert sorted(each.fragment for each in list_sets(results, selection=selection)) == sorted(sets)
    assert verify(results, selection=selection).sets == len(sets)


def test_size_and_time_choose_sets_as_wholes_and_other_keys_one_by_one(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore
) -> None:
    transfer(results, archive, selection=Selection(max_size=40))
    assert set(archive.iter_keys()) == {"README.md", "pmp/notes.txt", "pmp10/x.txt", *below(results.iter_keys(), BIAS)}


def test_a_part_of_a_set_is_moved_without_its_record_which_is_reported(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore
) -> None:
    report = transfer(results, archive, selection=Selection(include=["pmp/"], exclude=["*.png"]))
    left = {f"{folder}/{RECORD_NAME}" for folder in (FRAGMENT, OTHER)}
    assert set(report.keys("left")) == left
    assert words(report) == {FRAGMENT: "left", OTHER: "left"}
    wanted = {key for key in below(results.iter_keys(), "pmp") if not key.endswith(".png")} - left
    assert set(archive.iter_keys()) == wanted
    states = {each.fragment: each.state for each in list_sets(archive)}
    assert states == {FRAGMENT: "incomplete", OTHER: "incomplete"}
    # With the rest it is all of it.
    assert transfer(results, archive).ok
    assert held(archive) == held(results)


def test_without_the_record_a_part_of_a_set_is_no_failure(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore
) -> None:
    report = transfer(results, archive, selection=Selection(include=["*.png"]))
    assert (report.ok, words(report)) == (True, {})
    assert len(list(archive.iter_keys())) == 2


def test_the_record_goes_with_the_last_part(results: InMemoryArtifactStore, archive: InMemoryArtifactStore) -> None:
    transfer(results, archive, selection=Selection(include=["plots/"]))
    report = transfer(results, archive, selection=Selection(include=[FRAGMENT], exclude=["plots/"]))
    assert report.ok
    assert state(archive) == "published"
    assert held(archive, FRAGMENT) == held(results, FRAGMENT)


def test_a_part_cannot_change_what_is_published(results: InMemoryArtifactStore, archive: InMemoryArtifactStore) -> None:
    publish(archive, map=b"another plot")
    before = held(archive)
    report = transfer(results, archive, selection=Selection(include=["*.png"]), unchanged="digest")
    assert f"{FRAGMENT}/plots/map (°C).png" in report.keys("failed")
    assert held(archive, FRAGMENT) == {key[len(FRAGMENT) + 1 :]: data for key, data in before.items()}


def test_a_part_is_proved_by_its_record_at_the_source(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore
) -> None:
    results.write_bytes(f"{FRAGMENT}/index.html", b"<html>!/html>")
    report = transfer(results, archive, selection=Selection(include=["index.html"]))
    assert report.keys("failed") == (f"{FRAGMENT}/index.html",)
    assert list(archive.iter_keys()) == [f"{OTHER}/index.html"]


@pytest.mark.parametrize("names", [None, ["pmp/notes.txt"]], ids=str)
def test_what_the_store_does_not_tell_chooses_nothing_in_silence(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore, names: list[str] | None
) -> None:
    from tests.sets.examples import FourMethods

    with pytest.raises(SelectionError, match="size"):
        transfer(FourMethods(results), archive, names, selection=Selection(min_size=1))


def test_a_plan_is_of_what_is_chosen(results: InMemoryArtifactStore, archive: InMemoryArtifactStore) -> None:
    plan = list(plan_transfer(results, archive, selection=Selection(provider=["ilamb"])))
    assert [each.folder for each in plan if hasattr(each, "folder") and each.ranks] == [BIAS]


def test_no_more_bytes_are_moved_than_allowed_and_no_set_in_part(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore
) -> None:
    size = sum(len(data) for data in held(results, FRAGMENT).values())
    report = transfer(results, archive, ["pmp"], max_bytes=size + 10)
    assert (report.ok, report.is_cut, words(report)) == (False, True, {FRAGMENT: "copied"})
    assert below(archive.iter_keys(), FRAGMENT, OTHER) == SET
    again = transfer(results, archive, ["pmp"], max_bytes=size + 10)
    assert (again.ok, words(again)) == (True, {FRAGMENT: "unchanged", OTHER: "copied"})
    with pytest.raises(TransferError, match="more bytes"):
        report.raise_for_failures()


@pytest.mark.parametrize(("order", "first"), [("smallest", "pmp10/x.txt"), ("largest", f"{FRAGMENT}/")])
def test_the_order_is_by_bytes(
    results: InMemoryArtifactStore, archive: InMemoryArtifactStore, order: Order, first: str
) -> None:
    publish(results, FRAGMENT, map=b"large" * 100)  # records alone differ by the digits of their times
    watched = RecordingStore(archive)
    assert transfer(results, watched, order=order, max_workers=1).ok
    written = [call.key for call in watched.calls if call.verb in ("write_bytes", "open_writer", "create_bytes")]
    assert written[0].startswith(first)
    assert held(archive) == held(results)
