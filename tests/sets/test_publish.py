from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sets.examples import SUCCESS, put, small_run

from emdstore import (
    Catalog,
    ExecutionRecord,
    ExecutionResult,
    InMemoryArtifactStore,
    LocalArtifactStore,
    TransferProgress,
    ingest,
    scoped,
)
from emdstore.emds import RECORD_NAME
from emdstore.errors import StoreError
from emdstore.sets.publish import publish_set
from emdstore.sets.record import read_record
from emdstore.testing import Fault, FaultyStore

FRAGMENT = "esmvaltool/sea-ice/historical/1"
RESULT = ExecutionResult(
    successful=True, metric_bundle_filename="diagnostic.json", output_bundle_filename="output.json"
)


def _run(folder: Path) -> LocalArtifactStore:
    """A run that names its page by an absolute path, as ESMValTool does."""
    entry = {"filename": f"{folder}/index.html", "long_name": "All plots", "description": ""}
    provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": f"{folder}/out.log"}
    files = {
        "out.log": b"done\n",
        "index.html": b"<html></html>",
        "diagnostic.json": json.dumps({"DIMENSIONS": {"json_structure": []}, "RESULTS": {}}).encode(),
        "output.json": json.dumps({"provenance": provenance, "html": {"index": entry}}).encode(),
    }
    store = LocalArtifactStore(folder)
    for name, data in files.items():
        store.write_bytes(name, data)
    return store


def test_an_absolute_name_that_promotion_followed_is_followed_by_ingest_too(tmp_path: Path) -> None:
    run, results = _run(tmp_path / "somewhere"), InMemoryArtifactStore()
    publish_set(ExecutionRecord.at(FRAGMENT), RESULT, source=run, dest=scoped(results, FRAGMENT))
    with Catalog("sqlite://") as catalog:
        ingest(results, FRAGMENT, catalog)
        assert [row.key for row in catalog.outputs()] == ["index.html"]


def test_the_progress_of_a_promotion_only_goes_up_and_is_complete_once(tmp_path: Path) -> None:
    seen: list[TransferProgress] = []
    publish_set(
        ExecutionRecord.at(FRAGMENT),
        RESULT,
        source=_run(tmp_path),
        dest=InMemoryArtifactStore(),
        on_progress=seen.append,
    )
    done = [each.keys_done for each in seen]
    assert done == sorted(done)
    assert done[-1] == 4
    assert [each.complete for each in seen] == [False] * (len(seen) - 1) + [True]


@pytest.mark.parametrize("also", [[], [RECORD_NAME]], ids=["", "and its record is refused, too"])
def test_what_is_shipped_by_half_says_so_where_no_record_was(also: list[str]) -> None:
    results = scoped(InMemoryArtifactStore(), FRAGMENT)
    dest = FaultyStore(
        results,
        Fault(verbs={"write_bytes", "open_writer", "create_bytes"}, keys={"data/tas.nc", *also}, error=StoreError),
    )
    source = put(InMemoryArtifactStore(), small_run())
    publication = publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=source, dest=dest)
    assert (publication.record, publication.decision.status) == (None, "upload_failed")
    record = read_record(results)
    if also:
        assert record is None
    else:
        assert record is not None
        assert (record.state, record.reason) == ("publishing", publication.decision.reason)
        assert "data/tas.nc" in str(record.reason)
        assert set(record.planned) == {key for key in small_run() if not key.startswith("climate_data")}


def test_who_promotes_the_same_bytes_again_makes_the_record_tell_no_less_of_the_run() -> None:
    run, results = put(InMemoryArtifactStore(), small_run()), InMemoryArtifactStore()
    known = ExecutionRecord.at("p/d/g/1", dataset_hash="abc", software={"numpy": "2.1"}, extra={"ours": 1})
    first = publish_set(known, SUCCESS, source=run, dest=results)
    again = publish_set(ExecutionRecord.at("p/d/g/1"), SUCCESS, source=run, dest=results)
    assert (again.record_written, read_record(results)) == (False, first.record)
    put(run, {"index.html": b"<p>another run"})
    assert publish_set(ExecutionRecord.at("p/d/g/1"), SUCCESS, source=run, dest=results).record_written
    other = read_record(results)
    assert other is not None
    assert (other.dataset_hash, other.software, other.extra) == (None, {}, {})
