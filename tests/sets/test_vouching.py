"""How a set is moved as a whole, decided from values: what comes first and last, what opens it, and what stays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from tests.sets.published import publish

from emdstore.emds import RECORD_NAME
from emdstore.errors import DemotionRefusedError, RecordError
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, decode_record, encode_record
from emdstore.sets.seal import Standing, read_back
from emdstore.sets.vouching import bundles_last, plan_bare, plan_sealed, refuse_less, sealed_unit
from emdstore.stores import ArtifactInfo, ArtifactStore, InMemoryArtifactStore, Place, scoped
from emdstore.transfers import Step
from emdstore.transfers.plan import KeyPair
from emdstore.transfers.units import Group, Unit

FOLDER = "p/d/g/1"
AT = f"{FOLDER}/{RECORD_NAME}"
HASH, OTHER_HASH = "a" * 64, "b" * 64
LOG = RecordedArtifact("out.log", "log", 3, HASH, "text/plain")
SERIES = RecordedArtifact("series.json", "series", 3, HASH, "application/json")
OUTPUT = RecordedArtifact("output.json", "output", 3, HASH, "application/json")
METRIC = RecordedArtifact("diagnostic.json", "metric", 3, HASH, "application/json")
NOON, EVENING = (datetime(2026, 6, 1, hour, tzinfo=UTC) for hour in (12, 18))
WHOLE = (METRIC, OUTPUT, SERIES, LOG)
RECORD = ExecutionRecord.at(FOLDER, state="published", status="uploaded", artifacts=WHOLE, published_at=NOON)
FAILED = attrs.evolve(RECORD, state="incomplete", status="failed", artifacts=(LOG,), published_at=None)
OPEN = attrs.evolve(RECORD, state="publishing", status=None, published_at=None)
SCRATCH = attrs.evolve(RECORD, state=None, status=None, published_at=None)
FOREIGN = b'{"job": 7}'
WRITTEN = 2.0


class Distant(InMemoryArtifactStore):
    """A store that reads from far away."""

    def place(self) -> Place:
        return attrs.evolve(super().place(), remote=True)


def info(name: str, size: int = 3, at: float = 1.0, **more: Any) -> ArtifactInfo:
    return ArtifactInfo(name, size, at, **more)


def standing(record: ExecutionRecord | None = None, *there: ArtifactInfo, **more: Any) -> Standing:
    """Return a destination with these files, and a record that is newer than most of them."""
    data = None if record is None else encode_record(record)
    own = [] if data is None else [info(RECORD_NAME, len(data), WRITTEN)]
    return Standing({each.key: each for each in (*there, *own)}, data, record, **more)


NOTHING = standing()
BARE = standing(None, info("diagnostic.json"))
FOREIGN_THERE = Standing({RECORD_NAME: info(RECORD_NAME)}, FOREIGN)


def group(*here: ArtifactInfo, record: bytes | None = None, there: Standing = NOTHING, kind: Any = "sealed") -> Group:
    """Return what is listed of the folder on both sides."""
    sides = {each.key: each for each in here}
    if record is not None:
        sides[RECORD_NAME] = info(RECORD_NAME, len(record), WRITTEN)
    pairs = []
    for name in sorted({*sides, *there.found}):
        source, dest = (
            None if each is None else attrs.evolve(each, key=f"{FOLDER}/{name}")
            for each in (sides.get(name), there.found.get(name))
        )
        pairs.append(KeyPair(f"{FOLDER}/{name}", source is not None, dest is not None, source, dest))
    return Group(FOLDER, kind, tuple(pairs))


def sealed(
    record: ExecutionRecord | bytes,
    *here: ArtifactInfo,
    there: Standing = NOTHING,
    unchanged: Any = "stat",
    source: ArtifactStore | None = None,
    replace: bool = False,
) -> Unit:
    data = record if isinstance(record, bytes) else encode_record(record)
    store = InMemoryArtifactStore() if source is None else source
    found = group(*here, record=data, there=there)
    return plan_sealed(found, store, InMemoryArtifactStore(), data, there, unchanged, replace=replace)


def names(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.key.removeprefix(f"{FOLDER}/"), step.action) for step in steps]


ALL_HERE = tuple(info(each.key) for each in WHOLE)


def test_the_bundles_follow_everything_else_and_the_record_comes_last() -> None:
    unit = sealed(RECORD, *ALL_HERE)
    assert [names(rank) for rank in unit.ranks] == [
        [("out.log", "copy")],
        [("output.json", "copy"), ("series.json", "copy")],
        [("diagnostic.json", "copy")],
    ]
    data = encode_record(RECORD)
    assert unit.seal == Step(AT, "write", len(data), data=data)
    assert (unit.folder, unit.opening, unit.sealed, unit.loose, unit.read_back) == (FOLDER, None, False, (), ())


def test_what_the_source_lacks_is_told_of_its_store() -> None:
    source = InMemoryArtifactStore()
    lacking = [each for each in ALL_HERE if each.key != "out.log"]
    (step,) = sealed(RECORD, *lacking, source=source).ranks[0]
    assert (step.action, step.size) == ("missing", 3)
    assert step.error is not None
    assert step.error.store == repr(source)


@pytest.mark.parametrize(
    ("there", "is_opened"),
    [(NOTHING, False), (BARE, True), (FOREIGN_THERE, True), (standing(RECORD), True), (standing(is_hidden=True), True)],
)
def test_a_set_is_opened_over_whatever_may_count_as_one(there: Standing, is_opened: bool) -> None:
    opening = sealed(RECORD, *ALL_HERE, there=there).opening
    assert (opening is not None) == is_opened
    if opening is not None:
        assert (opening.key, opening.action, opening.there) == (AT, "write", there.digest)
        opened = decode_record(opening.data or b"")
        assert opened.state == "publishing"
        assert opened.planned == tuple(sorted(each.key for each in WHOLE))


def test_the_seal_may_replace_just_what_was_seen() -> None:
    there = standing(attrs.evolve(RECORD, published_at=datetime(2026, 5, 1, tzinfo=UTC)), *ALL_HERE)
    unit = sealed(RECORD, *ALL_HERE, there=there)
    assert unit.seal is not None
    assert unit.seal.there == there.digest
    assert not unit.sealed
    assert sealed(RECORD, *ALL_HERE, there=standing(RECORD, *ALL_HERE)).sealed


def test_a_set_that_was_open_is_read_back() -> None:
    there = standing(OPEN, was_open=True)
    assert sealed(RECORD, *ALL_HERE, there=there).read_back == read_back(RECORD, FOLDER)


@pytest.mark.parametrize(
    ("digest", "size", "at", "unchanged", "action"),
    [
        (HASH, 3, 1.0, "stat", "unchanged"),
        (OTHER_HASH, 3, 1.0, "stat", "copy"),
        (HASH, 3, 2.1, "stat", "compare"),
        (HASH, 4, 1.0, "stat", "copy"),
        (HASH, 3, 1.0, "digest", "compare"),
        (HASH, 3, 1.0, "never", "copy"),
    ],
)
def test_what_the_record_over_there_proves_decides_what_is_moved(
    digest: str, size: int, at: float, unchanged: Any, action: str
) -> None:
    known = attrs.evolve(RECORD, artifacts=(attrs.evolve(LOG, sha256=digest),))
    there = standing(known, info("out.log", size, at))
    one = attrs.evolve(RECORD, artifacts=(LOG,))
    ((step,), _, _) = sealed(one, info("out.log"), there=there, unchanged=unchanged).ranks
    assert step.action == action
    assert step.doubt == (action != "unchanged")  # which is read before the set is opened for nothing


def test_what_is_far_away_is_not_read_twice_unless_it_was_touched_after_its_record() -> None:
    there = standing(attrs.evolve(RECORD, generation=0), info("out.log", 4))
    here = [info(each.key, at=2.1 if each is METRIC else 1.0) for each in WHOLE]
    unit = sealed(RECORD, *here, there=there, source=Distant())
    assert {step.key.removeprefix(f"{FOLDER}/"): step.doubt for rank in unit.ranks for step in rank} == {
        "out.log": False,
        "output.json": False,
        "series.json": False,
        "diagnostic.json": True,
    }


EXTRA = RecordedArtifact("extra.nc", "data", 3, OTHER_HASH, "application/x-netcdf")


@pytest.mark.parametrize(
    ("named_there", "here", "unchanged", "where"),
    [
        (False, info("extra.nc", 4), "stat", ("loose", "copy")),
        (True, info("extra.nc", 4), "stat", ("first rank", "copy")),
        (True, info("extra.nc", at=1.5), "digest", ("first rank", "copy")),
        (True, info("extra.nc", at=0.5), "stat", ("loose", "unchanged")),
        (True, info("extra.nc", at=0.5), "never", ("first rank", "copy")),
    ],
)
def test_a_file_that_only_the_other_record_names_changes_while_the_set_is_open(
    named_there: bool, here: ArtifactInfo, unchanged: Any, where: tuple[str, str]
) -> None:
    artifacts = (*WHOLE, EXTRA) if named_there else WHOLE
    there = standing(attrs.evolve(RECORD, artifacts=artifacts), *ALL_HERE, info("extra.nc"))
    unit = sealed(RECORD, *ALL_HERE, here, there=there, unchanged=unchanged)
    found = {"loose": names(unit.loose), "first rank": names(unit.ranks[0])}
    place, action = where
    assert ("extra.nc", action) in found[place]
    assert sum(name == "extra.nc" for steps in found.values() for name, _ in steps) == 1


def test_part_of_a_set_is_moved_in_the_same_order() -> None:
    steps = {f"{FOLDER}/{each.key}": Step(f"{FOLDER}/{each.key}", "copy", 3) for each in (METRIC, LOG)}
    store = InMemoryArtifactStore()
    unit = sealed_unit(FOLDER, store, encode_record(RECORD), RECORD, standing(RECORD), steps, ())
    assert [names(rank) for rank in unit.ranks] == [[("out.log", "copy")], [], [("diagnostic.json", "copy")]]
    assert all(step.doubt for rank in unit.ranks for step in rank)


# -- what must not be replaced -----------------------------------------------------------------------------------------


def bare_set(*without: str) -> ArtifactStore:
    """Return the folder of a small run that somebody published without a record, without some files."""
    store = InMemoryArtifactStore()
    publish(store, FOLDER)
    folder = scoped(store, FOLDER)
    for key in (RECORD_NAME, *without):
        store.delete(f"{FOLDER}/{key}")
    return folder


OLDER = attrs.evolve(RECORD, generation=1)
NEWER = attrs.evolve(RECORD, generation=2, published_at=EVENING)


@pytest.mark.parametrize(
    ("record", "there", "said"),
    [
        (FAILED, standing(RECORD), "is published at the destination, and is incomplete at the source"),
        (FAILED, standing(OPEN), "is incomplete at the source"),
        (OLDER, standing(NEWER), f"(generation 1, {NOON}; here 2, {EVENING})"),
        (
            attrs.evolve(OLDER, published_at=None),
            standing(attrs.evolve(NEWER, published_at=None)),
            "(generation 1, no time; here 2, no time)",
        ),
    ],
)
def test_a_published_set_stays_where_less_would_replace_it(record: ExecutionRecord, there: Standing, said: str) -> None:
    with pytest.raises(DemotionRefusedError) as caught:
        refuse_less(FOLDER, record, there, InMemoryArtifactStore())
    assert said in str(caught.value)
    assert "without a record" not in str(caught.value)
    assert caught.value.key == AT
    sealed(record, *ALL_HERE, there=there, replace=True)  # which is what the message offers


def test_a_set_that_somebody_published_without_a_record_stays_too() -> None:
    with pytest.raises(DemotionRefusedError, match="is published without a record at the destination") as caught:
        refuse_less(FOLDER, FAILED, BARE, bare_set())
    assert caught.value.key == AT


@pytest.mark.parametrize(
    ("record", "there"),
    [
        (FAILED, NOTHING),
        (FAILED, FOREIGN_THERE),
        (FAILED, standing(FAILED)),
        (FAILED, standing(attrs.evolve(OPEN, artifacts=()))),
        (RECORD, BARE),
        (NEWER, standing(OLDER)),
        (OLDER, standing(OLDER)),
        (OLDER, standing(attrs.evolve(NEWER, state="publishing", published_at=None))),
        (OLDER, standing(attrs.evolve(NEWER, fragment="p/d/g/2"))),
    ],
)
def test_whatever_is_no_more_than_what_comes_is_replaced(record: ExecutionRecord, there: Standing) -> None:
    refuse_less(FOLDER, record, there, InMemoryArtifactStore())


def test_a_bare_folder_that_is_not_whole_is_no_publication() -> None:
    refuse_less(FOLDER, FAILED, BARE, bare_set("plots/map (°C).png"))


# -- records that vouch for nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [FOREIGN, SCRATCH], ids=["of some other program", "of a run in scratch"])
def test_a_record_that_vouches_for_nothing_comes_last_and_opens_nothing(record: Any) -> None:
    data = record if isinstance(record, bytes) else encode_record(record)
    unit = sealed(record, info("diagnostic.json"), info("x.nc"), there=FOREIGN_THERE)
    assert [names(rank) for rank in unit.ranks] == [[("x.nc", "copy")], [], [("diagnostic.json", "copy")]]
    assert unit.seal == Step(AT, "write", len(data), data=data, there=FOREIGN_THERE.digest)
    assert (unit.opening, unit.sealed) == (None, data == FOREIGN)


def test_a_record_that_cannot_be_read_does_not_replace_one_that_can() -> None:
    with pytest.raises(RecordError):
        sealed(FOREIGN, there=standing(RECORD))


def test_a_set_in_flux_waits_for_the_next_run() -> None:
    with pytest.raises(RecordError, match="in flux at the source") as caught:
        sealed(OPEN)
    assert caught.value.key == AT


def test_a_run_in_scratch_does_not_replace_what_was_published() -> None:
    with pytest.raises(DemotionRefusedError, match="commit it instead") as caught:
        sealed(SCRATCH, there=standing(RECORD))
    assert caught.value.key == AT


def test_the_bundles_of_a_folder_without_a_record_come_last() -> None:
    steps = [Step(f"{FOLDER}/{name}", "copy") for name in ("diagnostic.json", "output.json", "series.json", "x.nc")]
    ranks = bundles_last(FOLDER, steps)
    assert [names(rank) for rank in ranks] == [
        [("x.nc", "copy")],
        [("output.json", "copy"), ("series.json", "copy")],
        [("diagnostic.json", "copy")],
    ]


# -- folders without a record, over one that has one -------------------------------------------------------------------


def bare(*here: ArtifactInfo, there: Standing | None, unchanged: Any = "stat") -> Unit:
    found = group(*here, there=there or NOTHING, kind="bare")
    return plan_bare(found, there, unchanged)


@pytest.mark.parametrize("there", [None, NOTHING])
def test_a_folder_without_a_record_is_moved_like_one_where_none_stands(there: Standing | None) -> None:
    unit = bare(info("diagnostic.json"), info("x.nc"), there=there)
    assert [names(rank) for rank in unit.ranks] == [[("x.nc", "copy")], [], [("diagnostic.json", "copy")]]
    assert (unit.folder, unit.seal, unit.loose) == (FOLDER, None, ())


@pytest.mark.parametrize(("unchanged", "action"), [("stat", "unchanged"), ("never", "copy")])
def test_the_rule_holds_for_a_folder_without_a_record_too(unchanged: Any, action: str) -> None:
    unit = bare(info("x.nc", at=1.5), there=standing(None, info("x.nc", at=5.5)), unchanged=unchanged)
    assert names(unit.ranks[0]) == [("x.nc", action)]


@pytest.mark.parametrize(
    ("here", "there", "unchanged", "action"),
    [
        (info("out.log"), info("out.log"), "stat", "unchanged"),
        (info("out.log"), info("out.log"), "digest", "compare"),
        (info("out.log", 4), info("out.log"), "stat", "compare"),
        (info("out.log"), info("out.log", at=2.1), "stat", "compare"),
        (info("out.log"), None, "stat", "compare"),
    ],
)
def test_what_a_record_over_there_names_is_brought_back_only_as_it_was(
    here: ArtifactInfo, there: ArtifactInfo | None, unchanged: Any, action: str
) -> None:
    seen = standing(RECORD, *([] if there is None else [there]))
    (step,) = bare(here, there=seen, unchanged=unchanged).loose
    is_there = action == "unchanged"
    assert step == (
        Step(f"{FOLDER}/out.log", "unchanged", 3)
        if is_there
        else Step(f"{FOLDER}/out.log", "compare", 3, here=HASH, doubt=True)
    )


def test_what_no_record_names_is_moved_beside_a_publication() -> None:
    seen = standing(RECORD, info("y.nc", at=5.5))
    unit = bare(info("x.nc"), info("y.nc", at=1.5), there=seen)
    assert names(unit.loose) == [("x.nc", "copy"), ("y.nc", "unchanged")]
    assert unit.folder == FOLDER
    again = bare(info("y.nc", at=1.5), there=seen, unchanged="never")
    assert names(again.loose) == [("y.nc", "copy")]


@pytest.mark.parametrize("there", [FOREIGN_THERE, standing(OPEN)])
def test_nothing_is_put_beside_a_record_that_vouches_for_nothing(there: Standing) -> None:
    (step,) = bare(info("out.log"), there=there).loose
    assert (step.key, step.action) == (f"{FOLDER}/out.log", "left")
    assert isinstance(step.error, DemotionRefusedError)
    assert step.error.key == step.key
    assert repr(FOLDER) in str(step.error)
