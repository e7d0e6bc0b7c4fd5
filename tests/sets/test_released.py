"""What a release names: it is moved and verified as exactly these sets, and nobody changes or removes it by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sets.examples import FRAGMENT, SUCCESS, put, small_run
from tests.sets.published import OTHER, publish, publish_later_version

from emdstore import Catalog, replay, retract, transfer, verify
from emdstore.errors import ReleaseChangedError, ReleasedSetError, ReleaseNotFoundError
from emdstore.executions.workspace import Workspace
from emdstore.keys import join_key
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.mirroring import find_leftovers
from emdstore.sets.record import read_record
from emdstore.sets.release import point_alias, read_release
from emdstore.sets.releasing import check_release, create_release, expect_release
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import FaultyStore

RECORD = join_key(FRAGMENT, "execution.json")


@pytest.fixture
def two() -> InMemoryArtifactStore:
    """A store with two published sets, and a release of one of them."""
    results = InMemoryArtifactStore()
    publish(results)
    publish(results, OTHER, map=b"another")
    create_release(results, "2026.1", [FRAGMENT])
    point_alias(results, "production", "2026.1")
    return results


@pytest.mark.parametrize("name", ["2026.1", "production"])
def test_exactly_the_sets_of_a_release_are_moved_with_what_verifies_them(two: InMemoryArtifactStore, name: str) -> None:
    copy = InMemoryArtifactStore()
    transfer(two, copy, release=name).raise_for_failures()
    assert check_release(copy, read_release(copy, name)).ok
    assert not any(key.startswith(OTHER) for key in copy.iter_keys())
    assert transfer(two, copy, release=name).counts["copied"] == 0
    with pytest.raises(TypeError, match="keys or a release"):
        transfer(two, copy, [FRAGMENT], release=name)
    with pytest.raises(ReleaseNotFoundError):
        transfer(two, copy, release="2026.2")


def test_nothing_is_moved_or_verified_by_a_release_of_which_something_changed(two: InMemoryArtifactStore) -> None:
    publish_later_version(two)
    copy = InMemoryArtifactStore()
    for call in (lambda: transfer(two, copy, release="2026.1"), lambda: verify(two, release="2026.1")):
        with pytest.raises(ReleaseChangedError, match="1 of 1 sets"):
            call()
    assert list(copy.iter_keys()) == []
    assert verify(two).ok
    two.delete(RECORD)
    with pytest.raises(ReleaseChangedError, match=r"23 \(missing\)"):
        expect_release(two, "2026.1")


def test_a_set_that_changes_while_its_release_is_moved_is_refused(two: InMemoryArtifactStore) -> None:
    class Changing(FaultyStore):
        asked = 0

        def read_bytes(self, key: str, /) -> bytes:
            if key == RECORD:
                self.asked += 1
                if self.asked == 2:
                    publish_later_version(two)
            return two.read_bytes(key)

    copy = InMemoryArtifactStore()
    report = transfer(Changing(two), copy, release="2026.1")
    assert [(each.folder, type(each.error)) for each in report.sets] == [(FRAGMENT, ReleaseChangedError)]
    assert not any(key.startswith(FRAGMENT) for key in copy.iter_keys())


def test_only_the_sets_of_a_release_are_verified(two: InMemoryArtifactStore) -> None:
    damaged = join_key(OTHER, "plots/map (°C).png")
    two.write_bytes(damaged, b"ANOTHER")
    assert not verify(two).ok
    report = verify(two, release="production")
    assert (report.ok, report.sets) == (True, 1)


@pytest.mark.parametrize("told", ["by its folder", "by the store"])
def test_bytes_that_a_release_names_are_not_replaced_without_a_record_either(tmp_path: Path, told: str) -> None:
    store = LocalArtifactStore(tmp_path / "results")
    publish(store)
    made = create_release(store, "2026.1")
    later = put(InMemoryArtifactStore(), small_run(map=b"\x89PNG PLOT"))
    folder = tmp_path / "results" / FRAGMENT
    where = {"dest": folder} if told == "by its folder" else {"dest": scoped(store, FRAGMENT), "results": store}
    with pytest.raises(ReleasedSetError, match=r"part of the release 2026\.1"):
        materialize_outputs(SUCCESS, source=later, fragment=FRAGMENT, **where)  # type: ignore[arg-type]
    assert check_release(store, made).ok
    materialize_outputs(SUCCESS, source=later, fragment=FRAGMENT, replace=True, **where)  # type: ignore[arg-type]
    assert not check_release(store, made).ok


def test_gc_leaves_the_record_of_a_released_set_as_it_is() -> None:
    workspace = Workspace.in_memory()
    execution = workspace.start_execution(provider="pmp", diagnostic="enso", group="g")
    with execution:
        execution.add_scalar(1.0, metric="m")
    folder = scoped(workspace.results, execution.fragment)
    folder.write_bytes("old.png", b"of a foreign hand")
    execution.commit_output_assets()
    record = read_record(folder)
    assert record is not None
    assert record.stale == ("old.png",)
    made = create_release(workspace.results, "2026.1")
    for dry_run in (True, False):
        report = workspace.gc_executions(stale=True, force=True, dry_run=dry_run)
        assert [each.what for each in report.removed] == ["scratch"]
    assert check_release(workspace.results, made).ok


def test_prune_keeps_the_rows_that_a_release_names(two: InMemoryArtifactStore) -> None:
    with Catalog("sqlite://") as catalog:
        replay(two, catalog)
        for key in list(two.iter_keys("pmp")):
            two.delete(key)
        report = replay(two, catalog, prune="any")
        assert (report.counts["pruned"], report.counts["vanished"]) == (1, 1)
        assert [row.fragment for row in catalog.executions(release="2026.1")] == [FRAGMENT]


def test_what_is_removed_from_a_mirror_is_no_set_and_no_release(two: InMemoryArtifactStore) -> None:
    source = InMemoryArtifactStore()
    publish(source, OTHER, map=b"another")
    found = find_leftovers(source, two)
    assert found.removable == ()
    assert list(found.kept) == [FRAGMENT]


def test_a_retraction_leaves_what_was_released_as_it_is(two: InMemoryArtifactStore) -> None:
    retract(two, FRAGMENT, reason="wrong sign")
    assert expect_release(two, "2026.1").name == "2026.1"
    copy = InMemoryArtifactStore()
    transfer(two, copy, release="2026.1").raise_for_failures()
    assert check_release(copy, read_release(copy, "2026.1")).retracted == (FRAGMENT,)
