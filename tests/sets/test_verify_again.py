"""A verification or transfer that goes on where the one before ended, without reading what is proved."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from tests.sets.examples import FRAGMENT
from tests.sets.published import OTHER, amend, publish

from emdstore.emds import RECORD_NAME
from emdstore.errors import SelectionError
from emdstore.sets.proved import Proved
from emdstore.sets.transfer import transfer
from emdstore.sets.verify import verify
from emdstore.stores import InMemoryArtifactStore
from emdstore.testing import RecordingStore
from emdstore.transfers import Unchanged


def reads(store: RecordingStore, fragment: str) -> int:
    """Return how often something of a set but its record was read."""
    touched = [call.key for call in store.calls if call.verb in ("read_bytes", "open_reader", "digest")]
    return sum(key.startswith(f"{fragment}/") and not key.endswith(RECORD_NAME) for key in touched)


def test_what_is_proved_is_not_read_again_until_all_is_well(tmp_path: Path) -> None:
    results, file = InMemoryArtifactStore(), tmp_path / "state"
    for fragment in (FRAGMENT, OTHER):
        publish(results, fragment)
    results.write_bytes(f"{OTHER}/out.log", b"other")
    first = verify(RecordingStore(results), state_file=file)
    assert not first.ok
    assert [line.split("  ")[-1] for line in file.read_text().splitlines()[1:]] == [FRAGMENT]
    again = RecordingStore(results)
    report = verify(again, state_file=file)
    assert (reads(again, FRAGMENT), reads(again, OTHER) > 0) == (0, True)
    assert attrs.evolve(report, seconds=0) == attrs.evolve(first, seconds=0)
    publish(results, OTHER, replace=True)
    assert verify(RecordingStore(results), state_file=file).ok
    assert not file.exists()


@pytest.mark.parametrize("change", ["another record", "lost", "written since"])
def test_what_was_proved_is_read_again_if_anything_tells_of_a_change(tmp_path: Path, change: str) -> None:
    results, file = InMemoryArtifactStore(), tmp_path / "state"
    publish(results)
    publish(results, OTHER)
    results.delete(f"{OTHER}/out.log")
    verify(results, state_file=file)
    data = f"{FRAGMENT}/data/tas.nc"
    if change == "lost":
        results.delete(data)
    else:
        results.write_bytes(data, results.read_bytes(data)[::-1])
    if change == "another record":
        amend(results)
        record = f"{FRAGMENT}/{RECORD_NAME}"
        results.write_bytes(record, results.read_bytes(record) + b"\n")
    assert {each.key for each in verify(results, state_file=file).problems} == {"data/tas.nc", "out.log"}


def test_a_line_that_was_cut_off_is_not_believed_and_another_stores_file_is_refused(tmp_path: Path) -> None:
    results, file = InMemoryArtifactStore(), tmp_path / "state"
    publish(results)
    publish(results, OTHER)
    results.delete(f"{OTHER}/out.log")
    verify(results, state_file=file)
    cut = file.read_text()[:-5]
    file.write_text(cut)
    with Proved(file, f"verify of {results!r}") as proved:
        assert proved.record_of(FRAGMENT) is None
        proved.note(FRAGMENT, "0" * 64)
    with Proved(file, f"verify of {results!r}") as proved:
        assert proved.record_of(FRAGMENT) == "0" * 64
    with pytest.raises(SelectionError, match="name another file"):
        verify(InMemoryArtifactStore(), state_file=file)
    with pytest.raises(SelectionError, match="cannot be"):
        verify(results, state_file=tmp_path)


@pytest.mark.parametrize("rule", ["digest", "never"])
def test_a_transfer_reads_and_copies_nothing_again_that_is_proved(tmp_path: Path, rule: Unchanged) -> None:
    source, dest, file = InMemoryArtifactStore(), InMemoryArtifactStore(), tmp_path / "state"
    for fragment in (FRAGMENT, OTHER):
        publish(source, fragment)
    source.write_bytes(f"{OTHER}/out.log", source.read_bytes(f"{OTHER}/out.log")[::-1])
    here, there = RecordingStore(source), RecordingStore(dest)
    assert transfer(here, there, unchanged=rule, dry_run=True, state_file=file).sets
    assert not file.exists()
    first = transfer(here, there, unchanged=rule, state_file=file)
    assert {each.folder: each.outcome for each in first.sets} == {FRAGMENT: "copied", OTHER: "failed"}
    here, there = RecordingStore(source), RecordingStore(dest)
    transfer(here, there, unchanged=rule, state_file=file)
    assert (reads(here, FRAGMENT), reads(there, FRAGMENT), reads(here, OTHER) > 0) == (0, 0, True)
    assert not [call for call in there.calls if call.verb.startswith("write") and call.key.startswith(FRAGMENT)]


def test_a_transfer_moves_what_was_written_since_it_was_proved(tmp_path: Path) -> None:
    source, dest, file = InMemoryArtifactStore(), InMemoryArtifactStore(), tmp_path / "state"
    for fragment in (FRAGMENT, OTHER):
        publish(source, fragment)
    source.delete(f"{OTHER}/out.log")
    transfer(source, dest, unchanged="digest", state_file=file)
    data = f"{FRAGMENT}/data/tas.nc"
    dest.write_bytes(data, dest.read_bytes(data)[::-1])
    transfer(source, dest, unchanged="digest", state_file=file)
    assert dest.read_bytes(data) == source.read_bytes(data)
    with pytest.raises(SelectionError, match="name another file"):
        transfer(source, dest, state_file=file)  # by another rule
