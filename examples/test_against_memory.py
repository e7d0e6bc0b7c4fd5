"""Test what a framework publishes with real stores in memory: no mocks, nothing to clean up.

pytest test_against_memory.py
"""

from __future__ import annotations

from emdstore import ArtifactStore, ExecutionResult, InMemoryArtifactStore, materialize_outputs, resolve_status
from emdstore.testing import RecordingStore

METRIC_BUNDLE = b"""{
  "DIMENSIONS": {"json_structure": ["metric"], "metric": {"bias": {}}},
  "RESULTS": {"bias": 0.25}
}"""


def publish(scratch: ArtifactStore, results: ArtifactStore) -> str:
    """Stand in for the framework's own code: promote a run, and return its final status."""
    successful = scratch.exists("diagnostic.json")
    result = ExecutionResult(successful=successful, metric_bundle_filename="diagnostic.json" if successful else None)
    return resolve_status(result, materialize_outputs(result, source=scratch, dest=results)).status


def test_a_good_run_is_promoted_whole() -> None:
    scratch, results = InMemoryArtifactStore(), InMemoryArtifactStore()
    scratch.write_bytes("out.log", b"done\n")
    scratch.write_bytes("diagnostic.json", METRIC_BUNDLE)
    scratch.write_bytes("working-file.tmp", b"not part of the set")

    assert publish(scratch, results) == "uploaded"
    assert list(results.iter_keys()) == ["diagnostic.json", "out.log"]


def test_a_failed_run_leaves_its_log() -> None:
    scratch, results = InMemoryArtifactStore(), InMemoryArtifactStore()
    scratch.write_bytes("out.log", b"division by zero\n")

    assert publish(scratch, results) == "failed"
    assert list(results.iter_keys()) == ["out.log"]


def test_publishing_twice_writes_nothing_the_second_time() -> None:
    scratch, results = InMemoryArtifactStore(), RecordingStore(InMemoryArtifactStore())
    scratch.write_bytes("out.log", b"done\n")
    scratch.write_bytes("diagnostic.json", METRIC_BUNDLE)

    publish(scratch, results)
    before = len(results.calls)
    publish(scratch, results)
    assert not [call for call in results.calls[before:] if call[0] in ("write_bytes", "open_writer")]
