"""What will be done is decided before a byte moves."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given, strategies as st
from tests.transfers.stores import FourMethods, fill

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError, StoreAccessError, StoreError, UnsafePathError
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactInfo, LeftOut
from emdstore.testing import Fault, FaultyStore, RecordingStore
from emdstore.transfers import Step, Unchanged, decide, plan_steps
from emdstore.transfers.plan import KeyPair, pairs_of, step_of

NOON = 1_700_000_000.0
KEPT = "md5:0123"


def info(size: int, modified: float, key: str = "a") -> ArtifactInfo:
    return ArtifactInfo(key, size, modified)


def test_a_step_arrives_at_a_worker_as_it_was() -> None:
    plain = Step("a/x", "copy", 3)
    full = Step("a", "write", 4, None, "f" * 64, "e" * 64, KEPT, True, b"data", True, "v1")
    assert [pickle.loads(pickle.dumps(each)) for each in (plain, full)] == [plain, full]
    failed = pickle.loads(pickle.dumps(Step("a", "failed", error=StoreError("no", key="a"))))
    assert (failed.key, failed.action, str(failed.error), failed.error.key) == ("a", "failed", "no", "a")


class TestDecide:
    @pytest.mark.parametrize(
        ("source", "dest", "expected"),
        [
            (info(5, NOON), None, "copy"),
            (info(5, NOON), info(5, NOON + 60), "unchanged"),
            (info(5, NOON + 0.25), info(5, NOON + 0.25), "unchanged"),
            (info(0, NOON), info(0, NOON + 60), "unchanged"),
            (info(5, NOON), info(6, NOON + 60), "copy"),
            (info(5, NOON + 0.75), info(5, NOON + 0.5), "copy"),
            (info(5, NOON + 60), info(5, NOON), "copy"),
            # a destination in whole seconds, written in the second in which the source was
            (info(5, NOON + 0.75), info(5, NOON), "compare"),
            (info(5, NOON + 0.999), info(5, NOON), "compare"),
            (info(5, NOON + 1), info(5, NOON), "copy"),
            (info(6, NOON + 0.75), info(5, NOON), "copy"),
            # a source in whole seconds, which may have been written again in the second in which it was copied
            (info(5, NOON), info(5, NOON + 0.9), "compare"),
            (info(5, NOON), info(5, NOON), "compare"),
            (info(5, NOON), info(5, NOON + 1), "unchanged"),
            (attrs.evolve(info(5, NOON), changed=NOON + 0.5), info(5, NOON + 0.9), "unchanged"),
            # no times
            (info(5, NOON), info(5, math.nan), "compare"),
            (info(5, math.nan), info(5, NOON), "compare"),
            (info(5, math.nan), info(6, math.nan), "copy"),
        ],
    )
    def test_by_stat(self, source: ArtifactInfo, dest: ArtifactInfo | None, expected: str) -> None:
        assert decide(source, dest) == expected

    @pytest.mark.parametrize(
        ("source", "dest", "expected"),
        [
            # both are local files: a copy has the time of its source, and was made after the source was last touched
            ((NOON, NOON + 0.25), (NOON, NOON + 0.28), "unchanged"),
            ((NOON, NOON + 0.25), (NOON, NOON + 0.25 + 0.02), "compare"),
            ((NOON, NOON + 0.25), (NOON, NOON + 0.24), "compare"),
            ((NOON, NOON + 0.25), (NOON + 1, NOON + 9), "compare"),
            ((NOON + 1, NOON + 1.25), (NOON, NOON + 9), "compare"),
            # a file system that keeps whole seconds, or pairs of them
            ((NOON, NOON), (NOON, NOON + 1.9), "compare"),
            ((NOON, NOON), (NOON, NOON + 2), "compare"),
            ((NOON, NOON), (NOON, NOON + 2.1), "unchanged"),
        ],
    )
    def test_between_local_files_by_the_time_of_any_change(
        self, source: tuple[float, float], dest: tuple[float, float], expected: str
    ) -> None:
        here, there = (ArtifactInfo("a", 5, modified, changed=changed) for modified, changed in (source, dest))
        assert decide(here, there) == expected

    def test_a_time_of_change_on_one_side_alone_says_nothing_of_the_other(self) -> None:
        there = attrs.evolve(info(5, NOON - 60), changed=NOON + 60)
        assert decide(info(5, NOON + 0.5), there) == "copy"

    @pytest.mark.parametrize(
        ("here", "there", "expected"),
        [(KEPT, KEPT, "unchanged"), (KEPT, "md5:4567", "compare"), (KEPT, None, "compare"), (None, None, "compare")],
    )
    def test_equal_checksums_of_two_stores_are_equal_digests(
        self, here: str | None, there: str | None, expected: str
    ) -> None:
        one, other = (attrs.evolve(info(5, NOON), checksum=each) for each in (here, there))
        assert decide(one, other, "digest") == expected
        assert decide(one, other, "never") == "copy"

    @pytest.mark.parametrize(
        ("dest", "digest", "never"),
        [
            (None, "copy", "copy"),
            (info(5, NOON + 60), "compare", "copy"),
            (info(5, NOON - 60), "compare", "copy"),
            (info(6, NOON + 60), "copy", "copy"),
        ],
    )
    def test_by_digest_and_by_nothing(self, dest: ArtifactInfo | None, digest: str, never: str) -> None:
        assert decide(info(5, NOON), dest, "digest") == digest
        assert decide(info(5, NOON), dest, "never") == never

    @given(
        st.integers(0, 3),
        st.integers(0, 3),
        st.floats(NOON, NOON + 5),
        st.floats(NOON, NOON + 5),
        st.booleans(),
        st.booleans(),
    )
    def test_only_what_is_certain_is_left_as_it_is(
        self, size: int, other: int, written: float, copied: float, whole_source: bool, whole_dest: bool
    ) -> None:
        """However coarse the clocks of both are: what was written after it was copied is looked at."""
        shown = float(int(copied)) if whole_dest else copied
        told = float(int(written)) if whole_source else written
        decided = decide(info(size, told), info(other, shown))
        if size != other:
            assert decided == "copy"
        elif decided == "unchanged":
            assert copied >= written
        elif copied >= written:
            assert decided == "compare"  # the second is the same, and the order in it unknown


# Few letters, so that keys collide, nest and sort around "/".
keys = st.lists(st.sampled_from("ab!"), min_size=1, max_size=3).map("/".join) | st.text("ab-é", min_size=1, max_size=3)
holdings = st.dictionaries(keys, st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=12)


class Told:
    """A store that tells sizes and times as it was told, and has no bytes."""

    def __init__(self, held: dict[str, tuple[int, int]]) -> None:
        self._held = held

    def exists(self, key: str, /) -> bool:
        return key in self._held

    def read_bytes(self, key: str, /) -> bytes:
        raise AssertionError("a plan reads nothing")

    def write_bytes(self, key: str, data: bytes, /) -> None:
        raise AssertionError("a plan writes nothing")

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return iter(sorted(self._held))

    def info(self, key: str, /) -> ArtifactInfo:
        try:
            size, modified = self._held[key]
        except KeyError:
            raise ArtifactNotFoundError(key, key=key) from None
        return ArtifactInfo(key, size, modified)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        return map(self.info, sorted(self._held))


@pytest.mark.parametrize(
    ("there", "dest", "unchanged", "expected"),
    [
        (False, None, "stat", Step("a", "copy", 5)),
        (True, info(5, NOON + 60), "never", Step("a", "copy", 5)),
        (True, None, "stat", Step("a", "compare", 5)),
        (True, info(6, NOON + 60), "stat", Step("a", "copy", 5)),
        (True, info(5, NOON + 60), "stat", Step("a", "unchanged", 5)),
        (True, attrs.evolve(info(5, NOON + 60), checksum=KEPT), "digest", Step("a", "compare", 5, checksum=KEPT)),
    ],
)
def test_a_key_outside_sets_is_decided_by_its_infos_and_the_rule(
    there: bool, dest: ArtifactInfo | None, unchanged: Unchanged, expected: Step
) -> None:
    assert step_of(KeyPair("a", True, there, info(5, NOON), dest), unchanged) == expected


class TestWholeStores:
    @given(holdings, holdings, st.sampled_from(["stat", "digest", "never"]))
    def test_the_merge_decides_as_looking_up_each_key_would(
        self, source: dict[str, tuple[int, int]], dest: dict[str, tuple[int, int]], unchanged: str
    ) -> None:
        steps = list(plan_steps(Told(source), Told(dest), unchanged=unchanged))  # type: ignore[arg-type]
        expected = [
            Step(
                key,
                decide(
                    ArtifactInfo(key, *source[key]),
                    ArtifactInfo(key, *dest[key]) if key in dest else None,
                    unchanged,  # type: ignore[arg-type]
                ),
                source[key][0],
            )
            for key in sorted(source)
        ]
        assert steps == expected
        assert list(plan_steps(Told(source), Told(dest), sorted(source), unchanged=unchanged)) == expected  # type: ignore[arg-type]

    @pytest.mark.parametrize("blind", ["source", "dest", "both"])
    @pytest.mark.parametrize(("unchanged", "same"), [("stat", "compare"), ("digest", "compare"), ("never", "copy")])
    def test_stores_that_cannot_tell_are_compared_by_their_bytes(self, blind: str, unchanged: str, same: str) -> None:
        source, dest = (
            fill(InMemoryArtifactStore(), {"a": b"", "b": b"", "d": b""}),
            fill(InMemoryArtifactStore(), {"b": b"", "c": b""}),
        )
        one = FourMethods(source) if blind != "dest" else source
        other = FourMethods(dest) if blind != "source" else dest
        steps = list(plan_steps(one, other, unchanged=unchanged))  # type: ignore[arg-type]
        assert [(step.key, step.action) for step in steps] == [("a", "copy"), ("b", same), ("d", "copy")]

    def test_it_is_lazy(self) -> None:
        """Guards against a plan of a million keys that is made before the first byte moves."""
        seen = 0

        class Endless(Told):
            def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
                nonlocal seen
                for number in itertools.count():
                    seen += 1
                    yield ArtifactInfo(f"{number:09}", 1, NOON)

        steps = plan_steps(Endless({}), Endless({}))
        assert seen == 0
        assert len(list(itertools.islice(steps, 20_000))) == 20_000
        assert seen <= 2 * 20_001

    def test_a_listing_that_breaks_off_is_an_error_and_no_end(self, tmp_path: Path) -> None:
        """Guards against half a store that passes for all of it."""
        source = FaultyStore(LocalArtifactStore(tmp_path), Fault(verbs={"iter_info"}, error=StoreAccessError))
        with pytest.raises(StoreError):
            list(plan_steps(source, InMemoryArtifactStore()))


class Leaving(Told):
    """A store whose listing leaves something out."""

    def __init__(self, held: dict[str, tuple[int, int]], name: str) -> None:
        super().__init__(held)
        self._name = name

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        yield LeftOut(self._name, "is no key")
        yield from self.iter_info(prefix)


class TestPairs:
    @given(holdings, holdings, st.booleans())
    def test_both_sides_are_merged_as_far_as_the_source_goes_or_to_the_end(
        self, source: dict[str, tuple[int, int]], dest: dict[str, tuple[int, int]], whole: bool
    ) -> None:
        def side(held: dict[str, tuple[int, int]], key: str) -> ArtifactInfo | None:
            return ArtifactInfo(key, *held[key]) if key in held else None

        last = max(source, default="")
        there = [key for key in dest if whole or key < last]
        assert list(pairs_of(Told(source), Told(dest), whole=whole)) == [
            KeyPair(key, key in source, key in dest, side(source, key), side(dest, key))
            for key in sorted({*source, *there})
        ]

    def test_the_identity_of_the_source_is_not_that_of_its_copy(self) -> None:
        held = {"a": (1, 1), IDENTITY_KEY: (1, 1), "z": (1, 1)}
        for dest in ({}, {"z": (1, 1)}):
            assert [pair.key for pair in pairs_of(Told(held), Told(dest)) if pair.here] == ["a", "z"]

    @pytest.mark.parametrize(("whole", "told"), [(False, ["x//"]), (True, ["x//", "y//"])])
    def test_what_the_listings_leave_out_is_told(self, whole: bool, told: list[str]) -> None:
        found: list[LeftOut] = []
        held = {"a": (1, 1)}
        pairs = list(pairs_of(Leaving(held, "x//"), Leaving(held, "y//"), found.append, whole=whole))
        assert [pair.key for pair in pairs] == ["a"]
        assert [each.name for each in found] == told

    def test_a_name_at_the_root_over_there_is_told_even_if_it_comes_later(self) -> None:
        source, dest = Told({"a/x": (1, 1)}), Told({"a/x": (1, 1), "b/x": (1, 1), "record": (1, 1)})
        assert [pair.key for pair in pairs_of(source, dest, also="record")] == ["a/x", "record"]
        assert [pair.key for pair in pairs_of(source, dest)] == ["a/x"]
        assert [pair.key for pair in pairs_of(source, dest, also="other")] == ["a/x"]


class TestGivenKeys:
    def test_order_is_kept_and_what_comes_twice_is_planned_once(self) -> None:
        source = fill(InMemoryArtifactStore(), {"a": b"", "b": b"", "c": b""})
        steps = plan_steps(source, InMemoryArtifactStore(), ["c", "a", "c", "b", "a"])
        assert [step.key for step in steps] == ["c", "a", "b"]

    @pytest.mark.parametrize("key", ["../a", "/etc/passwd", "a//b", "a/", "", "a\\b", "a\x00b", "x" * 2000])
    def test_an_invalid_key_is_rejected_with_its_reason(self, key: str) -> None:
        source = RecordingStore(InMemoryArtifactStore())
        (step,) = plan_steps(source, InMemoryArtifactStore(), [key])
        assert (step.key, step.action) == (key, "rejected")
        assert isinstance(step.error, InvalidKeyError)
        assert source.calls == ()

    def test_an_absent_key_is_missing(self) -> None:
        for source in (InMemoryArtifactStore(), FourMethods(InMemoryArtifactStore())):
            (step,) = plan_steps(source, InMemoryArtifactStore(), ["a/b"])
            assert step.action == "missing"
            assert isinstance(step.error, ArtifactNotFoundError)

    def test_a_link_out_is_rejected(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"")
        (tmp_path / "store").mkdir()
        (tmp_path / "store/a").symlink_to("../secret")
        (step,) = plan_steps(LocalArtifactStore(tmp_path / "store"), InMemoryArtifactStore(), ["a"])
        assert step.action == "rejected"
        assert isinstance(step.error, UnsafePathError)

    def test_a_folder_is_no_artifact(self) -> None:
        (step,) = plan_steps(fill(InMemoryArtifactStore(), {"a/b": b""}), InMemoryArtifactStore(), ["a"])
        assert step.action == "missing"

    def test_one_key_alone_is_a_slip(self) -> None:
        """Guards against a key taken for the list of its letters."""
        with pytest.raises(TypeError, match=r"\['out.log'\]"):
            plan_steps(InMemoryArtifactStore(), InMemoryArtifactStore(), "out.log")

    def test_a_key_that_cannot_be_looked_up_stops_no_other(self) -> None:
        held = fill(InMemoryArtifactStore(), {"a": b"", "b": b"", "c": b""})
        fault = Fault(verbs={"info", "exists"}, keys={"b"}, error=StoreAccessError)
        source = FourMethods(FaultyStore(held, fault))
        steps = list(plan_steps(source, InMemoryArtifactStore(), ["a", "b", "c"]))
        assert [step.action for step in steps] == ["copy", "failed", "copy"]
        assert isinstance(steps[1].error, StoreAccessError)

    @pytest.mark.parametrize("count", [2, 1500])
    def test_many_in_one_folder_are_looked_up_by_a_listing(self, count: int) -> None:
        """Guards against a request for each key, at tens of milliseconds each."""
        given_keys = [f"a/b/{number:04}" for number in range(count)]
        source, dest = (
            fill(InMemoryArtifactStore(), dict.fromkeys(given_keys, b"")),
            RecordingStore(InMemoryArtifactStore()),
        )
        fill(dest, {given_keys[0]: b"other", "a/c": b"", "b": b""})
        recorded = RecordingStore(source)
        before = len(dest.calls)
        steps = list(plan_steps(recorded, dest, given_keys))
        assert [step.action for step in steps] == ["copy"] * count
        assert len(recorded.calls) == len(dest.calls) - before == -(-count // 1000)

    def test_few_among_many_others_are_looked_up_one_by_one(self) -> None:
        """Guards against the listing of a whole store for the sake of two of its keys."""
        others = {f"m/{number:05}": b"" for number in range(5000)}
        source = RecordingStore(fill(InMemoryArtifactStore(), {"a": b"", "z": b"", **others}))
        assert [step.action for step in plan_steps(source, InMemoryArtifactStore(), ["z", "a"])] == ["copy", "copy"]
        assert {call.verb for call in source.calls} == {"iter_info", "info"}


def test_a_rule_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'sometimes'"):
        plan_steps(InMemoryArtifactStore(), InMemoryArtifactStore(), unchanged="sometimes")  # type: ignore[arg-type]
