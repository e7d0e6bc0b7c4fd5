"""Why a run failed: what its log says is in the record, and from there in the catalog."""

from __future__ import annotations

import attrs
import pytest

from emdstore import Catalog, ExecutionRecord, ExecutionResult, InMemoryArtifactStore, replay, scoped
from emdstore.emds import RECORD_NAME
from emdstore.sets.cause import count_causes, find_cause
from emdstore.sets.publish import publish_set
from emdstore.sets.record import encode_record, read_record

CHAINED = """INFO reading
Traceback (most recent call last):
  File "a.py", line 1, in read
KeyError: 'tas'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 214, in run
    metrics = compute(<model>)
  File "c.py", line 9, in compute
    raise lib.errors.GridError("cells <b> differ")
lib.errors.GridError: cells <b> differ
  in 3 places
INFO leaving
"""


@pytest.mark.parametrize(
    ("log", "text", "line"),
    [
        (CHAINED, "lib.errors.GridError: cells <b> differ", 12),
        ("a\nTraceback (most recent call last):\n  File 'x'\nKeyboardInterrupt\n", "KeyboardInterrupt", 3),
        ("[1]  Traceback (most recent call last):\n[1]    x\n", "[1]    x", 1),
        ("x\nValueError: 3 steps\ncleaning up\n", "ValueError: 3 steps", 1),
        (
            "step 1\nslurmstepd: error: Detected 1 oom-kill event\nbye",
            "slurmstepd: error: Detected 1 oom-kill event",
            1,
        ),
        ("Traceback (most recent call last):\n  File 'x'\n", None, 0),  # cut off there
        ("all is well\n", None, 0),
        ("", None, 0),
    ],
)
def test_the_cause_is_the_last_exception_or_else_the_last_error(log: str, text: str | None, line: int) -> None:
    cause = find_cause(log)
    assert (cause and (cause.text, cause.line)) == (text and (text, line))


def test_the_last_frames_say_where() -> None:
    cause = find_cause(CHAINED)
    assert cause is not None
    assert cause.frames[0].strip() == 'File "b.py", line 214, in run'
    assert len(cause.frames) == 4
    deep = "Traceback (most recent call last):\n" + "  frame\n" * 50 + "RecursionError: " + "x" * 999
    found = find_cause(deep)
    assert found is not None
    assert (len(found.frames), len(found.short)) == (8, 300)


def test_causes_that_differ_in_numbers_are_one() -> None:
    assert count_causes(["E: 1.5 GiB", "K: a", "E: 22 GiB", "K: a", "K: a"]) == [("K: a", 3), ("E: 1.5 GiB", 2)]


FAILED = ExecutionResult(successful=False)
FRAGMENT = "p/d/g/1"


@pytest.fixture
def results() -> InMemoryArtifactStore:
    """A results store with one failed run."""
    scratch, results = InMemoryArtifactStore(), InMemoryArtifactStore()
    scratch.write_bytes("out.log", CHAINED.encode())
    publish_set(ExecutionRecord.at(FRAGMENT), FAILED, source=scratch, dest=scoped(results, FRAGMENT))
    return results


def test_a_publication_keeps_the_cause_and_a_replay_has_it(results: InMemoryArtifactStore) -> None:
    record = read_record(scoped(results, FRAGMENT))
    assert record is not None
    assert record.cause == "lib.errors.GridError: cells <b> differ"
    with Catalog("sqlite://") as catalog:
        replay(results, catalog)
        assert [row.cause for row in catalog.executions()] == [record.cause]
        assert [row.fragment for row in catalog.survey("griderror").rows(9)] == [FRAGMENT]
        assert catalog.survey().causes() == [record.cause]


def test_a_run_that_succeeded_has_no_cause_whatever_its_log_says() -> None:
    scratch, results = InMemoryArtifactStore(), InMemoryArtifactStore()
    scratch.write_bytes("out.log", CHAINED.encode())
    scratch.write_bytes("diagnostic.json", b'{"DIMENSIONS": {"json_structure": []}, "RESULTS": {}}')
    result = ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json")
    done = publish_set(ExecutionRecord.at(FRAGMENT), result, source=scratch, dest=scoped(results, FRAGMENT))
    assert done.record is not None
    assert done.record.cause is None


@pytest.mark.parametrize("log", [CHAINED, CHAINED.replace("GridError", "OtherError")])
def test_of_an_older_record_the_cause_is_read_from_its_log_if_that_is_what_was_published(
    results: InMemoryArtifactStore, log: str
) -> None:
    folder = scoped(results, FRAGMENT)
    record = read_record(folder)
    assert record is not None
    folder.write_bytes(RECORD_NAME, encode_record(attrs.evolve(record, cause=None)))
    folder.write_bytes("out.log", log.encode())
    with Catalog("sqlite://") as catalog:
        report = replay(results, catalog)
        found = [row.cause for row in catalog.executions()]
    assert found == ([record.cause] if log == CHAINED else [])
    assert report.ok == (log == CHAINED)
