"""Which artifacts of a set its record proves to be unchanged: decided from values, without a store."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, IntegrityError
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, encode_record
from emdstore.sets.unchanged import holds_the_same, proved_by, step_of_artifact
from emdstore.stores import ArtifactInfo, InMemoryArtifactStore
from emdstore.transfers.plan import KeyPair

HASH, OTHER_HASH = "a" * 64, "b" * 64
LOG = RecordedArtifact("out.log", "log", 3, HASH, "text/plain")
RECORD = ExecutionRecord.at("p/d/g/1", state="published", status="uploaded", artifacts=(LOG,))
OPEN = attrs.evolve(RECORD, state="publishing", status=None)
DATA = encode_record(RECORD)
WRITTEN = 2.0


def info(key: str = "out.log", size: int = 3, at: float = 1.0, **more: Any) -> ArtifactInfo:
    return ArtifactInfo(key, size, at, **more)


RECORDED = info(RECORD_NAME, 100, WRITTEN)


@pytest.mark.parametrize(
    ("record", "found", "proved"),
    [
        (RECORD, [info(), RECORDED], True),
        (RECORD, [info(at=WRITTEN), RECORDED], True),
        (RECORD, [info(at=2.1), RECORDED], False),
        (RECORD, [info(size=4), RECORDED], False),
        (RECORD, [RECORDED], False),
        (RECORD, [info()], False),
        (OPEN, [info(), RECORDED], True),
        (OPEN, [info(at=WRITTEN), RECORDED], False),
        (OPEN, [info(at=2.1), RECORDED], False),
    ],
)
def test_a_record_proves_what_has_its_size_and_was_not_touched_since(
    record: ExecutionRecord, found: list[ArtifactInfo], proved: bool
) -> None:
    assert proved_by(record, {each.key: each for each in found}) == ({"out.log": HASH} if proved else {})


def pair(source: ArtifactInfo | None = None, dest: ArtifactInfo | None = None) -> KeyPair:
    return KeyPair("out.log", source is not None, dest is not None, source, dest)


KEPT = info(checksum="md5:0")


@pytest.mark.parametrize(
    ("found", "there", "rule", "action"),
    [
        (None, None, "stat", "missing"),
        (pair(None, info()), None, "stat", "missing"),
        (pair(info(size=4), info()), HASH, "stat", "failed"),
        (pair(info()), None, "stat", "copy"),
        (pair(info(), info()), HASH, "never", "copy"),
        (pair(info(), info(size=4)), HASH, "stat", "copy"),
        (pair(info(), info()), OTHER_HASH, "stat", "copy"),
        (pair(info(), info()), HASH, "stat", "unchanged"),
        (pair(info(), info()), None, "stat", "compare"),
        (pair(info(), KEPT), HASH, "digest", "compare"),
    ],
)
def test_what_is_done_for_an_artifact_follows_from_what_is_proved_of_it(
    found: KeyPair | None, there: str | None, rule: Any, action: str
) -> None:
    store = InMemoryArtifactStore()
    step = step_of_artifact("out.log", LOG, found, RECORDED, there, rule, store)
    assert (step.key, step.action) == ("out.log", action)
    assert step.size == (4 if action == "failed" else 3)
    assert step.here == (HASH if action in ("copy", "compare") else None)
    assert step.checksum == ("md5:0" if rule == "digest" else None)
    assert not step.doubt
    wrong = {"missing": ArtifactNotFoundError, "failed": IntegrityError}.get(action)
    assert type(step.error) is (wrong or type(None))


@pytest.mark.parametrize(("at", "doubt"), [(WRITTEN, False), (2.1, True)])
def test_what_is_newer_than_its_record_is_hashed_before_it_is_moved(at: float, doubt: bool) -> None:
    store = InMemoryArtifactStore()
    assert step_of_artifact("out.log", LOG, pair(info(at=at)), RECORDED, None, "stat", store).doubt is doubt
    assert not step_of_artifact("out.log", LOG, pair(info(at=at)), None, None, "stat", store).doubt


BOTH = info(RECORD_NAME, len(DATA), WRITTEN)
SAME = KeyPair(RECORD_NAME, True, True, BOTH, BOTH)
BESIDE = "notes.txt"


def beside(here: float = 1.0, there: float = 1.0, size: int = 3) -> dict[str, KeyPair]:
    return {f"s/{BESIDE}": KeyPair(BESIDE, True, True, info(BESIDE, 3, here), info(BESIDE, size, there))}


@pytest.mark.parametrize(
    ("record", "log", "more", "same"),
    [
        (SAME, pair(info(), info()), {}, True),
        (SAME, pair(info(at=9.0), info()), {}, True),
        (SAME, pair(info(), info(at=2.1)), {}, False),
        (SAME, pair(info(), info(size=4)), {}, False),
        (SAME, pair(info(size=4), info()), {}, False),
        (SAME, pair(info(size=4), info(size=4)), {}, False),
        (SAME, pair(info()), {}, False),
        (SAME, pair(None, info()), {}, False),
        (SAME, None, {}, False),
        (attrs.evolve(SAME, dest=None), pair(info(), info()), {}, False),
        (attrs.evolve(SAME, source=info(RECORD_NAME, 1, 1.0)), pair(info(), info()), {}, False),
        (SAME, pair(info(), info()), beside(), True),
        (SAME, pair(info(), info()), beside(here=2.1), False),
        (SAME, pair(info(), info()), beside(there=2.1), False),
        (SAME, pair(info(), info()), beside(size=4), False),
        (SAME, pair(info(), info()), {"s/x": KeyPair("x", True, False, info("x"))}, False),
        (SAME, pair(info(), info()), {"s/x": KeyPair("x", False, True, None, info("x"))}, True),
    ],
)
def test_nothing_is_moved_where_both_sides_hold_all_that_one_record_names(
    record: KeyPair, log: KeyPair | None, more: dict[str, KeyPair], same: bool
) -> None:
    found = more | ({} if log is None else {"s/out.log": log})
    assert holds_the_same("s", DATA, record, found) is same


def test_an_open_record_holds_nothing_together() -> None:
    data = encode_record(OPEN)
    record = KeyPair(
        RECORD_NAME, True, True, info(RECORD_NAME, len(data), WRITTEN), info(RECORD_NAME, len(data), WRITTEN)
    )
    assert not holds_the_same("s", data, record, {"s/out.log": pair(info(), info())})
