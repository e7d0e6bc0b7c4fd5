"""Promotion: two stores and a result. There is no configuration and no database in this file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from tests.distant import Distant
from tests.executions.runs import WRITES
from tests.sets.examples import (
    CURATED,
    FAILURE,
    FRAGMENT,
    SUCCESS,
    FourMethods,
    encode,
    held,
    metric_bundle,
    one_series,
    output_bundle,
    put,
    recorded,
    small_run,
)
from tests.sets.published import disagreeing, state

from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    DemotionRefusedError,
    EmdstoreError,
    SameStoreError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.record import decode_record, publish_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore
from emdstore.testing import Fault, FaultyStore, RecordingStore

# -- the four promises -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [FAILURE, attrs.evolve(SUCCESS, successful=False)], ids=["bare", "with bundles"])
def test_a_failed_result_copies_only_the_log(
    scratch: LocalArtifactStore, results: ArtifactStore, result: ExecutionResult
) -> None:
    outcome = materialize_outputs(result, source=scratch, dest=results)
    assert held(results) == {"out.log": b"it ran\n"}
    assert outcome.log_copied
    assert [each.key for each in outcome.artifacts] == ["out.log"]
    assert outcome.artifacts_copied == outcome.artifacts_missing == ()


def test_a_missing_log_is_reported_and_nothing_is_copied(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    scratch.delete("out.log")
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert held(results) == {}
    assert outcome.log_missing
    assert outcome.artifacts == outcome.artifacts_copied == ()
    assert [warning.code for warning in outcome.warnings] == ["no-log"]
    assert "out.log" in outcome.warnings[0].message


def test_all_plots_data_and_html_that_the_bundle_names_arrive(
    scratch: LocalArtifactStore, results: ArtifactStore
) -> None:
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert held(results) == {key: data for key, data in small_run().items() if key in CURATED}
    assert outcome.artifacts_copied == CURATED[1:]
    assert [each.key for each in outcome.outputs] == ["plots/map (°C).png", "data/tas.nc", "index.html"]
    assert outcome.warnings == ()


def test_twice_gives_the_same_files_and_an_equal_outcome(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    first = materialize_outputs(SUCCESS, source=scratch, dest=results)
    before = held(results)
    dest = RecordingStore(results)
    second = materialize_outputs(SUCCESS, source=scratch, dest=dest)
    assert held(results) == before
    assert second == first
    assert second.artifacts_copied == ()
    assert second.artifacts_unchanged == first.artifacts_copied
    assert not {call.verb for call in dest.calls} & {*WRITES, "delete"}


# -- what goes, and in which order -------------------------------------------------------------------------------------


def test_the_log_goes_first(scratch: LocalArtifactStore) -> None:
    dest = RecordingStore(InMemoryArtifactStore())
    materialize_outputs(SUCCESS, source=scratch, dest=dest)
    written = [call.key for call in dest.calls if call.verb in ("write_bytes", "open_writer")]
    assert written[0] == "out.log"
    assert sorted(written) == sorted(CURATED)


def test_the_other_bundles_go_at_once_to_a_distant_store_and_the_metric_bundle_after_them(
    scratch: LocalArtifactStore,
) -> None:
    written: list[str] = []

    def is_other_bundle(verb: str, key: str) -> bool:
        time.sleep(0.005)  # so it takes a while to get there
        if verb not in ("write_bytes", "open_writer"):
            return False
        written.append(key)
        return key in ("output.json", "series.json")

    outcome = materialize_outputs(SUCCESS, source=scratch, dest=Distant(InMemoryArtifactStore(), is_other_bundle, 2))
    assert {each.key for each in outcome.artifacts} == set(CURATED)
    assert written[0] == "out.log"
    assert set(written[-3:-1]) == {"output.json", "series.json"}
    assert written[-1] == "diagnostic.json"


@pytest.mark.parametrize("error", [StoreError, UnsafePathError])
@pytest.mark.parametrize("name", ["output.json", "series.json", "index.html"])
def test_the_metric_bundle_waits_for_what_did_not_arrive(
    scratch: LocalArtifactStore, name: str, error: type[EmdstoreError]
) -> None:
    results = InMemoryArtifactStore()
    dest = FaultyStore(results, Fault(verbs={"write_bytes", "open_writer"}, keys={name}, error=error))
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=dest)
    # A file that may not stand where it should leaves a set that lacks it; without a bundle nobody would know.
    waits = error is StoreError or name != "index.html"
    assert results.exists("diagnostic.json") is not waits
    assert ("diagnostic.json" in outcome.artifacts_held_back) is waits


def test_artifacts_are_told_in_curated_order_with_what_they_are(
    scratch: LocalArtifactStore, results: ArtifactStore
) -> None:
    artifacts = materialize_outputs(SUCCESS, source=scratch, dest=results).artifacts
    assert tuple(each.key for each in artifacts) == CURATED
    assert [each.role for each in artifacts] == ["log", "metric", "output", "plot", "data", "html", "series"]
    plot = artifacts[3]
    assert (plot.size, plot.media_type, plot.description) == (9, "image/png", "Long")
    assert plot.sha256 == "7fbe48e4def008dc54b391e2251b6f827e9d2cfe8be6aa9e39827727d4b967c8"


def test_names_come_from_the_result_and_not_from_habit(results: ArtifactStore) -> None:
    files = small_run()
    source = put(InMemoryArtifactStore(), {"out.log": b"", "cmec/metrics.json": files["diagnostic.json"], **files})
    result = ExecutionResult(successful=True, metric_bundle_filename="cmec/metrics.json")
    outcome = materialize_outputs(result, source=source, dest=results)
    assert list(held(results)) == ["cmec/metrics.json", "out.log"]
    assert [each.role for each in outcome.artifacts] == ["log", "metric"]


def test_a_file_that_several_entries_name_is_one_artifact(results: ArtifactStore) -> None:
    output = output_bundle(plots=["a.png", "./plots/../a.png"], data=["out.log", "series.json", "diagnostic.json"])
    source = put(InMemoryArtifactStore(), small_run(output=output) | {"a.png": b"png"})
    outcome = materialize_outputs(SUCCESS, source=source, dest=results)
    assert {each.key: each.role for each in outcome.artifacts} == {
        "out.log": "log",
        "diagnostic.json": "metric",
        "output.json": "output",
        "a.png": "plot",
        "series.json": "series",
    }
    assert len(outcome.outputs) == 5


def test_what_lies_at_the_destination_already_stays(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    put(results, {"plots/old.png": b"of an earlier run"})
    materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert set(held(results)) == {*CURATED, "plots/old.png"}


def test_a_failed_result_leaves_an_earlier_payload_alone(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    materialize_outputs(SUCCESS, source=scratch, dest=results)
    before = held(results)
    put(scratch, {"out.log": b"it failed this time\n", "diagnostic.json": b"half a bund"})
    with pytest.raises(DemotionRefusedError):
        materialize_outputs(FAILURE, source=scratch, dest=results)
    assert held(results) == before
    materialize_outputs(FAILURE, source=scratch, dest=results, replace=True)
    after = held(results)
    opened = decode_record(after.pop(RECORD_NAME))
    assert (opened.state, after) == ("publishing", before | {"out.log": b"it failed this time\n"})


def test_only_what_changed_is_copied_again(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    materialize_outputs(SUCCESS, source=scratch, dest=results)
    put(scratch, {"data/tas.nc": b"CDF more data"})
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert outcome.artifacts_copied == ("data/tas.nc",)
    assert results.read_bytes("data/tas.nc") == b"CDF more data"


@pytest.mark.parametrize("vouched", [False, True], ids=["bare", "published"])
def test_a_set_that_is_there_is_opened_before_its_first_byte_changes(
    scratch: LocalArtifactStore, vouched: bool
) -> None:
    results = InMemoryArtifactStore()
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    if vouched:
        publish_record(recorded(SUCCESS, outcome), results)
    put(scratch, {"data/tas.nc": b"CDF DATA"})
    dest = RecordingStore(results)
    materialize_outputs(SUCCESS, source=scratch, dest=dest, fragment=FRAGMENT)
    assert [call.key for call in dest.calls if call.verb in WRITES] == [RECORD_NAME, "data/tas.nc"]
    opened = decode_record(results.read_bytes(RECORD_NAME))
    assert (opened.state, opened.fragment, set(opened.planned)) == ("publishing", FRAGMENT, set(CURATED))
    dest = RecordingStore(results)
    again = materialize_outputs(SUCCESS, source=scratch, dest=dest, fragment=FRAGMENT)
    assert not [call for call in dest.calls if call.verb in WRITES]
    publish_record(recorded(SUCCESS, again), results)
    assert (state(results, ""), disagreeing(results, "")) == ("published", [])


def test_digests_are_of_the_bytes_even_beside_an_older_record(
    scratch: LocalArtifactStore, results: ArtifactStore
) -> None:
    """A promotion that is cut off before its record leaves new bytes beside the old record, perhaps as many."""
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    publish_record(recorded(SUCCESS, outcome), results)
    time.sleep(0.02)
    put(scratch, {"data/tas.nc": b"CDF DATA"})
    cut_off = materialize_outputs(SUCCESS, source=scratch, dest=results)
    resumed = materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert resumed.artifacts_copied == ()
    assert resumed.artifacts == cut_off.artifacts != outcome.artifacts


def test_a_published_object_is_not_read_again_while_nobody_has_touched_it(scratch: LocalArtifactStore) -> None:
    results = InMemoryArtifactStore()
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    publish_record(recorded(SUCCESS, outcome), results)
    dest = RecordingStore(results)
    again = materialize_outputs(SUCCESS, source=scratch, dest=dest)
    assert again == outcome
    assert again.artifacts_copied == ()
    assert {call.key for call in dest.calls if call.verb in ("open_reader", "read_bytes")} == {"execution.json"}


@pytest.mark.parametrize("times", ["kept", "new"])
def test_a_damaged_published_file_is_written_again_from_the_good_one(
    scratch: LocalArtifactStore, tmp_path: Path, times: str
) -> None:
    """Guards against a record that vouches for the damage, because the damaged file was hashed for it."""
    results = LocalArtifactStore(tmp_path / "results")
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    publish_record(recorded(SUCCESS, outcome), results)
    damaged = results.local_path("data/tas.nc")
    before = damaged.stat()
    with damaged.open("r+b") as file:
        file.write(b"\0")
    if times == "kept":
        os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert again.artifacts_copied == ("data/tas.nc",)
    assert again.artifacts == outcome.artifacts
    assert results.read_bytes("data/tas.nc") == scratch.read_bytes("data/tas.nc")


# -- results of another framework, absolute names ----------------------------------------------------------------------


def their_result(directory: Path, **more: Any) -> Any:
    """Return what `climate_ref_core` hands over: names are paths, the directory is that of its definition."""
    return SimpleNamespace(
        definition=SimpleNamespace(output_directory=directory),
        successful=True,
        metric_bundle_filename=Path("diagnostic.json"),
        output_bundle_filename=Path("output.json"),
        series_filename=Path("series.json"),
        **more,
    )


def test_a_result_of_climate_ref_core_is_taken_as_it_is(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    theirs = materialize_outputs(their_result(scratch.root), source=scratch, dest=results)
    ours = materialize_outputs(SUCCESS, source=scratch, dest=InMemoryArtifactStore())
    assert theirs == ours


def test_a_failed_result_of_climate_ref_core_names_no_bundles(
    scratch: LocalArtifactStore, results: ArtifactStore
) -> None:
    theirs: Any = SimpleNamespace(
        definition=SimpleNamespace(output_directory=scratch.root), successful=False, metric_bundle_filename=None
    )
    assert materialize_outputs(theirs, source=scratch, dest=results).log_copied
    assert list(held(results)) == ["out.log"]


@pytest.mark.parametrize("kind", ["by the result", "by the store's path", "by the fragment"])
def test_absolute_names_are_found_in_the_directory_that_the_run_knew(tmp_path: Path, kind: str) -> None:
    there = tmp_path / "scratch" / FRAGMENT
    ran_in = "/data/projects/other-machine/" + FRAGMENT if kind == "by the fragment" else str(there)
    output = output_bundle(plots=[f"{ran_in}/plots/map (°C).png"], html=[f"{ran_in}/sub/../index.html"])
    local = put(LocalArtifactStore(there), small_run(output=output))
    source = local if kind == "by the store's path" else put(InMemoryArtifactStore(), held(local))
    result: Any = their_result(there) if kind == "by the result" else SUCCESS
    fragment = FRAGMENT if kind == "by the fragment" else None
    outcome = materialize_outputs(result, source=source, dest=InMemoryArtifactStore(), fragment=fragment)
    assert [each.key for each in outcome.outputs] == ["plots/map (°C).png", "index.html"]
    assert outcome.artifacts_rejected == outcome.artifacts_missing == ()


def test_the_result_may_name_its_bundles_absolutely(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    result = ExecutionResult(
        successful=True,
        metric_bundle_filename=scratch.root / "diagnostic.json",
        output_bundle_filename=scratch.root / "output.json",
    )
    outcome = materialize_outputs(result, source=scratch, dest=results)
    assert [each.key for each in outcome.artifacts] == list(CURATED[:-1])


def test_a_directory_that_is_reached_by_a_link_is_known_by_both_names(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (tmp_path / "link").symlink_to(real)
    output = output_bundle(plots=[str(real / "plots/map (°C).png")], html=[str(tmp_path / "link" / "index.html")])
    put(LocalArtifactStore(real), small_run(output=output))
    outcome = materialize_outputs(SUCCESS, source=LocalArtifactStore(tmp_path / "link"), dest=InMemoryArtifactStore())
    assert [each.key for each in outcome.outputs] == ["plots/map (°C).png", "index.html"]


# -- what is reported, and what raises ---------------------------------------------------------------------------------


def test_an_incomplete_set_is_promoted_as_far_as_it_goes(results: ArtifactStore) -> None:
    source = put(InMemoryArtifactStore(), small_run(map=None, series=None))
    outcome = materialize_outputs(SUCCESS, source=source, dest=results)
    assert outcome.artifacts_missing == ("plots/map (°C).png", "series.json")
    assert set(held(results)) == set(CURATED) - set(outcome.artifacts_missing)
    assert [(each.code, each.place) for each in outcome.warnings] == [
        ("missing-artifact", "plots/map (°C).png"),
        ("missing-artifact", "series.json"),
    ]


def test_a_metric_bundle_that_is_not_there_is_missing(results: ArtifactStore) -> None:
    source = put(InMemoryArtifactStore(), small_run(diagnostic=None))
    assert materialize_outputs(SUCCESS, source=source, dest=results).artifacts_missing == ("diagnostic.json",)


def test_one_place_for_both_is_refused(scratch: LocalArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(scratch.root)
    before = held(scratch)
    for dest in (
        scratch,
        LocalArtifactStore(scratch.root),
        LocalArtifactStore(tmp_path / "link"),
        scratch.scope("plots"),
    ):
        with pytest.raises(SameStoreError, match="scratch"):
            materialize_outputs(SUCCESS, source=scratch, dest=dest)
    assert held(scratch) == before


@pytest.mark.parametrize("side", ["source", "dest"])
def test_a_store_that_cannot_be_used_at_all_raises(scratch: LocalArtifactStore, side: str) -> None:
    dead = Fault(error=StoreError)
    stores: dict[str, Any] = {"source": put(InMemoryArtifactStore(), held(scratch)), "dest": InMemoryArtifactStore()}
    stores[side] = FaultyStore(stores[side], dead)
    with pytest.raises(StoreError, match="on purpose"):
        materialize_outputs(SUCCESS, **stores)


def test_a_file_that_cannot_be_written_is_reported_and_stops_no_other(scratch: LocalArtifactStore) -> None:
    dest = InMemoryArtifactStore()
    full = FaultyStore(dest, Fault(verbs={"write_bytes"}, keys={"data/tas.nc"}, error=StoreError))
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=full)
    assert [each.key for each in outcome.artifacts_failed] == ["data/tas.nc"]
    assert outcome.artifacts_held_back == ("diagnostic.json",)
    # Without its metric bundle the folder does not look like a set that nobody vouches for.
    assert set(held(dest)) == set(CURATED) - {"data/tas.nc", "diagnostic.json"}
    assert "data/tas.nc" not in [each.key for each in outcome.artifacts]


def test_a_busy_store_is_tried_again(scratch: LocalArtifactStore) -> None:
    dest = InMemoryArtifactStore()
    busy = FaultyStore(dest, Fault(verbs={"write_bytes"}, nth={2}, error=StoreUnavailableError))
    assert materialize_outputs(SUCCESS, source=scratch, dest=busy).artifacts_failed == ()
    assert set(held(dest)) == set(CURATED)


def test_a_bundle_that_cannot_be_read_once_is_a_failure_and_not_an_empty_set(scratch: LocalArtifactStore) -> None:
    """Read for its names it fails, copied a moment later it arrives: its plots are still not there."""
    source = FaultyStore(
        put(InMemoryArtifactStore(), held(scratch)),
        Fault(verbs={"read_bytes"}, keys={"output.json"}, nth={1}, error=StoreError),
    )
    dest = InMemoryArtifactStore()
    outcome = materialize_outputs(SUCCESS, source=source, dest=dest)
    assert [each.key for each in outcome.artifacts_failed] == ["output.json"]
    assert set(held(dest)) == {"out.log", "series.json"}
    assert materialize_outputs(SUCCESS, source=source, dest=dest).artifacts_failed == ()
    assert set(held(dest)) == set(CURATED)


def test_a_log_that_cannot_stand_where_it_should_is_no_missing_log(scratch: LocalArtifactStore, tmp_path: Path) -> None:
    results = put(LocalArtifactStore(tmp_path / "results"), {"out.log/part1": b"a folder where the log should be"})
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert not outcome.log_copied
    assert not outcome.log_missing
    assert [each.key for each in outcome.artifacts_failed] == ["out.log"]
    assert list(held(results)) == ["out.log/part1"]


def test_progress_is_told_and_a_display_that_raises_costs_nothing(
    scratch: LocalArtifactStore, results: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    materialize_outputs(SUCCESS, source=scratch, dest=InMemoryArtifactStore(), on_progress=told.append)
    assert told[-1].complete
    assert told[-1].keys_done == told[-1].keys_planned

    def broken(progress: object) -> None:
        raise ZeroDivisionError

    assert materialize_outputs(SUCCESS, source=scratch, dest=results, on_progress=broken).artifacts_failed == ()
    assert "progress callback failed" in caplog.text


@pytest.mark.parametrize("four", ["source", "dest", "both"])
def test_stores_of_four_methods_are_enough(scratch: LocalArtifactStore, four: str) -> None:
    source: ArtifactStore = put(InMemoryArtifactStore(), held(scratch))
    inner = InMemoryArtifactStore()
    dest: ArtifactStore = inner
    if four in ("source", "both"):
        source = FourMethods(source)
    if four in ("dest", "both"):
        dest = FourMethods(inner)
    expected = materialize_outputs(SUCCESS, source=scratch, dest=InMemoryArtifactStore())
    assert materialize_outputs(SUCCESS, source=source, dest=dest) == expected
    again = materialize_outputs(SUCCESS, source=source, dest=dest)
    assert (again.artifacts_copied, again.artifacts) == ((), expected.artifacts)


def test_it_needs_no_database() -> None:
    program = "import sys, emdstore; emdstore.materialize_outputs; sys.exit('sqlalchemy' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_values_are_checked_and_odd_ones_are_told(results: ArtifactStore) -> None:
    metric = metric_bundle()
    metric["RESULTS"]["global"]["undeclared"] = 1.0
    source = put(InMemoryArtifactStore(), small_run(diagnostic=encode(metric), series=[one_series()]))
    outcome = materialize_outputs(SUCCESS, source=source, dest=results)
    assert outcome.artifacts_unreadable == ()
    assert [warning.code for warning in outcome.warnings] == ["undeclared-value"]


def test_the_destination_is_asked_once_what_it_holds(scratch: LocalArtifactStore) -> None:
    """Guards against a dozen questions for each set, each of which takes as long as to send a small file."""
    dest = RecordingStore(InMemoryArtifactStore())
    assert materialize_outputs(SUCCESS, source=scratch, dest=dest).artifacts_copied
    asked = [call.verb for call in dest.calls if call.verb in ("exists", "info", "iter_keys", "iter_info")]
    assert asked == ["iter_info"]
