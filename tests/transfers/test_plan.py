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
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactInfo
from emdstore.testing import Fault, FaultyStore, RecordingStore
from emdstore.transfers import Step, Unchanged, decide, plan_steps
from emdstore.transfers.plan import KeyPair, step_of

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
