"""A release names exactly these sets, as they are, and tells when they are not that any more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event
from tests.sets.examples import FAILURE, FRAGMENT
from tests.sets.published import OTHER, amend, publish, publish_later_version

from emdstore import Catalog, replay, retract, transfer, unretract
from emdstore.errors import ReleaseChangedError, ReleasedSetError, ReleaseError, ReleaseNotFoundError
from emdstore.executions.workspace import Workspace
from emdstore.keys import join_key
from emdstore.sets.finding import find_sets
from emdstore.sets.release import (
    ALIASES,
    RELEASES,
    Release,
    ReleaseDiff,
    ReleasedSet,
    list_aliases,
    list_releases,
    point_alias,
    read_release,
)
from emdstore.sets.releasing import check_release, create_release
from emdstore.stores import ArtifactStore, InMemoryArtifactStore
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import SupportsDelete
from emdstore.testing import FaultyStore

MAP = join_key(FRAGMENT, "plots/map (°C).png")
RECORD = join_key(FRAGMENT, "execution.json")
FAILED = "pmp/enso_tel/historical_g58_v1_d905ddf2/25"


@pytest.fixture
def two(results: ArtifactStore) -> ArtifactStore:
    """A store with two published sets and a failed one."""
    publish(results)
    publish(results, OTHER, map=b"another")
    publish(results, FAILED, result=FAILURE)
    return results


def test_a_release_is_what_was_published_and_whole_when_it_was_made(two: ArtifactStore) -> None:
    made = create_release(two, "2026.1", note="for the report", by="ann")
    assert [each.fragment for each in made.sets] == [FRAGMENT, OTHER]
    assert made.records[FRAGMENT] == sha256_of(two.read_bytes(RECORD))
    assert read_release(two, "2026.1") == made
    assert (made.by, made.note) == ("ann", "for the report")
    assert abs((datetime.now(UTC) - made.at).total_seconds()) < 60
    assert list_releases(two) == [made]
    check = check_release(two, made)
    assert check.ok
    assert check.whole == 2
    check.raise_for_findings()
    assert [found.location for found in find_sets(two)] == sorted([FRAGMENT, OTHER, FAILED])


def test_sets_are_chosen_by_name_or_by_folder(two: ArtifactStore) -> None:
    assert [each.fragment for each in create_release(two, "one", [OTHER, OTHER]).sets] == [OTHER]
    assert [each.fragment for each in create_release(two, "folder", prefix=FRAGMENT).sets] == [FRAGMENT]
    with pytest.raises(ReleaseError, match="no published set below 'elsewhere'"):
        create_release(two, "none", prefix="elsewhere")
    with pytest.raises(ReleaseError, match="25 is failed"):
        create_release(two, "failed", [FRAGMENT, FAILED])
    with pytest.raises(ReleaseError, match="elsewhere is no set"):
        create_release(two, "nowhere", ["elsewhere"])
    assert [each.name for each in list_releases(two)] == ["folder", "one"]


@pytest.mark.parametrize("damage", ["bytes", "open", "record"])
def test_nothing_is_released_beside_what_is_damaged_or_in_flux(two: ArtifactStore, damage: str) -> None:
    if damage == "bytes":
        two.write_bytes(MAP, two.read_bytes(MAP)[::-1])  # of equal size: only its bytes tell
    elif damage == "open":
        amend(two, state="publishing")
    else:
        two.write_bytes(RECORD, b"{")
    with pytest.raises(ReleaseError, match=r"23 is (changed|publishing|unreadable)"):
        create_release(two, "2026.1")
    assert list_releases(two) == []
    assert len(create_release(two, "2026.1", [OTHER]).sets) == 1


def test_a_retracted_set_is_left_out_and_refused_by_name(two: ArtifactStore) -> None:
    retract(two, FRAGMENT, reason="wrong sign")
    assert [each.fragment for each in create_release(two, "rest").sets] == [OTHER]
    with pytest.raises(ReleaseError, match="23 is retracted"):
        create_release(two, "named", [FRAGMENT])


def test_a_release_never_changes(two: ArtifactStore) -> None:
    made = create_release(two, "2026.1")
    with pytest.raises(ReleaseError, match="never change"):
        create_release(two, "2026.1", [OTHER])
    assert read_release(two, "2026.1") == made


def test_what_a_power_cut_left_empty_is_no_release_and_no_alias(two: ArtifactStore) -> None:
    for key in (".emdstore/releases/2026.1.json", ".emdstore/aliases/production.json"):
        two.write_bytes(key, b"")
    assert list_releases(two) == []
    assert list_aliases(two) == []
    with pytest.raises(ReleaseNotFoundError):
        read_release(two, "production")
    made = create_release(two, "2026.1")
    point_alias(two, "production", "2026.1", why="reviewed")
    assert read_release(two, "production") == made
    copy = InMemoryArtifactStore()
    for key in (".emdstore/releases/2026.1.json", ".emdstore/aliases/production.json"):
        copy.write_bytes(key, b"")
    assert transfer(two, copy).ok
    assert read_release(copy, "production") == made


def test_of_two_who_make_it_at_once_one_does(two: ArtifactStore) -> None:
    class Late(FaultyStore):
        def exists(self, key: str, /) -> bool:
            return False  # looked before the other one wrote

    made = create_release(two, "2026.1")
    with pytest.raises(ReleaseError, match="never change"):
        create_release(Late(two), "2026.1", [OTHER])
    assert read_release(two, "2026.1") == made


def test_a_set_that_is_published_again_while_it_is_released_is_not_released(two: ArtifactStore) -> None:
    class Meanwhile:
        def strike(self, verb: str, key: str) -> None:
            if verb in ("create_bytes", "write_bytes") and key.startswith(RELEASES):
                publish_later_version(two)

    meanwhile: Any = Meanwhile()
    with pytest.raises(ReleaseError, match="was published again"):
        create_release(FaultyStore(two, meanwhile), "2026.1")
    assert len(list_releases(two)) == (0 if isinstance(two, SupportsDelete) else 1)
    assert create_release(two, "2026.2").records[FRAGMENT] == sha256_of(two.read_bytes(RECORD))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "é", "x" * 101, "a\n"])
def test_a_name_is_plain(two: ArtifactStore, name: str) -> None:
    for call in (create_release, read_release):
        with pytest.raises(ReleaseError, match="cannot be the name"):
            call(two, name)
    with pytest.raises(ReleaseError, match="cannot be the name"):
        point_alias(two, name, "2026.1")


def test_whatever_becomes_of_a_set_is_found(two: ArtifactStore) -> None:
    made = create_release(two, "2026.1")
    two.write_bytes(MAP, two.read_bytes(MAP)[::-1])
    assert check_release(two, made).findings == {FRAGMENT: "damaged"}
    publish_later_version(two)
    assert check_release(two, made).findings == {FRAGMENT: "changed"}
    amend(two, state="publishing")
    assert check_release(two, made).findings == {FRAGMENT: "publishing"}
    check = check_release(InMemoryArtifactStore(), made)
    assert (check.whole, check.findings) == (0, {FRAGMENT: "missing", OTHER: "missing"})
    with pytest.raises(ReleaseChangedError, match=r"2 of 2 sets .*'2026.1'.*23 \(missing\); .*24 \(missing\)"):
        check.raise_for_findings()
    assert check.as_dict()["findings"][0] == {"fragment": FRAGMENT, "finding": "missing"}
    two.write_bytes(RECORD, b"{")
    assert check_release(two, made).findings == {FRAGMENT: "unreadable"}


def test_a_set_that_was_retracted_since_is_told_and_still_part_of_it(two: ArtifactStore) -> None:
    made = create_release(two, "2026.1")
    retract(two, FRAGMENT, reason="wrong sign")
    check = check_release(two, made)
    assert (check.ok, check.retracted) == (True, (FRAGMENT,))


def test_an_alias_points_at_a_release_and_remembers_where_it_did(two: ArtifactStore) -> None:
    first, second = create_release(two, "2026.1"), create_release(two, "2026.2", [OTHER])
    point_alias(two, "production", "2026.1", by="ann", why="first")
    assert read_release(two, "production") == first
    moved = point_alias(two, "production", "2026.2", by="bob", why="new")
    assert point_alias(two, "production", "2026.2", by="eve", why="nothing new") == moved
    assert read_release(two, "production") == second
    assert [(move.release, move.by, move.why) for move in moved.moves] == [
        ("2026.1", "ann", "first"),
        ("2026.2", "bob", "new"),
    ]
    point_alias(two, "latest", "production")  # the release, not the alias: it stays when the other one moves
    assert [(alias.name, alias.release) for alias in list_aliases(two)] == [
        ("latest", "2026.2"),
        ("production", "2026.2"),
    ]
    with pytest.raises(ReleaseError, match="is a release"):
        point_alias(two, "2026.1", "2026.2")
    with pytest.raises(ReleaseError, match="is an alias"):
        create_release(two, "production")
    with pytest.raises(ReleaseNotFoundError, match=r"no release 'x' .* there are 2026.1, 2026.2, latest, production"):
        read_release(two, "x")
    with pytest.raises(ReleaseNotFoundError):
        point_alias(two, "new", "x")


def test_what_is_no_release_is_an_error_that_names_it(two: ArtifactStore) -> None:
    key = f"{RELEASES}/2026.1.json"
    for data, message in {b"{": "cannot be read", b'{"release_version": 2}': "newer emdstore"}.items():
        two.write_bytes(key, data)
        with pytest.raises(ReleaseError, match=message) as caught:
            read_release(two, "2026.1")
        assert caught.value.key == key
    with Catalog("sqlite://") as catalog:  # the sets are taken all the same
        report = replay(two, catalog)
        assert (report.counts["ingested"], report.counts["invalid"]) == (3, 1)
        assert [each.fragment for each in report.failures] == [key]


def test_two_releases_are_compared() -> None:
    def release(**sets: str) -> Release:
        return Release(name="r", at=datetime.now(UTC), by="me", sets=tuple(map(ReleasedSet, sets, sets.values())))

    assert ReleaseDiff.between(release(a="1", b="2", c="3"), release(b="2", c="4", d="5")) == ReleaseDiff(
        added=("d",), removed=("a",), changed=("c",)
    )


def test_queries_are_narrowed_to_exactly_the_sets_of_a_release(two: ArtifactStore) -> None:
    create_release(two, "one", [OTHER])
    create_release(two, "both", by="ann", note="for all")
    point_alias(two, "production", "one")
    with Catalog("sqlite://") as catalog:
        replay(two, catalog)
        assert [row.fragment for row in catalog.executions(release="one")] == [OTHER]
        assert {row.fragment for row in catalog.scalars(release="production")} == {OTHER}
        assert {row.fragment for row in catalog.artifacts(release="both", fragment=FRAGMENT)} == {FRAGMENT}
        both, one = catalog.releases.list()
        assert (both.name, both.sets, both.by, both.note, both.aliases) == ("both", 2, "ann", "for all", ())
        assert (one.sets, one.aliases) == (1, ("production",))
        with pytest.raises(ReleaseNotFoundError, match="knows no release 'none'"):
            catalog.executions(release="none")
        publish_later_version(two)
        replay(two, catalog)
        assert [row.fragment for row in catalog.executions(release="one")] == [OTHER]
        with pytest.raises(ReleaseChangedError, match=f"both.*{FRAGMENT}"):
            catalog.executions(release="both")
        retract(two, OTHER, reason="wrong")
        replay(two, catalog)
        assert list(catalog.executions(release="one")) == []
        assert catalog.executions(release="one", retracted=None).count() == 1
        unretract(two, OTHER)


def test_a_release_travels_with_the_sets(two: ArtifactStore) -> None:
    made = create_release(two, "2026.1")
    point_alias(two, "production", "2026.1")
    copy = InMemoryArtifactStore()
    transfer(two, copy).raise_for_failures()
    assert read_release(copy, "production") == made
    assert check_release(copy, made).ok
    with Catalog("sqlite://") as catalog:
        replay(copy, catalog)
        assert catalog.executions(release="production").count() == 2


def test_an_alias_that_is_moved_by_two_at_once_keeps_both_moves(two: ArtifactStore) -> None:
    for name in ("1", "2", "3"):
        create_release(two, name)
    point_alias(two, "production", "1")

    class Overtaken(FaultyStore):
        def read_bytes(self, key: str, /) -> bytes:
            data = two.read_bytes(key)
            if key == f"{ALIASES}/production.json" and len(list_aliases(two)[0].moves) == 1:
                point_alias(two, "production", "2")
            return data

    moved = point_alias(Overtaken(two), "production", "3")
    assert [move.release for move in moved.moves] == ["1", "2", "3"]


def test_a_commit_does_not_change_what_a_release_names_unless_it_is_told_to() -> None:
    workspace = Workspace.in_memory()
    execution = workspace.start_execution(provider="pmp", diagnostic="enso", group="g")
    with execution:
        execution.add_scalar(1.0, metric="m")
    execution.commit_output_assets()
    made = create_release(workspace.results, "2026.1")
    assert execution.commit_output_assets().ok  # nothing is new
    (execution.output_directory / "out.log").write_text("another log")
    with pytest.raises(ReleasedSetError, match=r"part of the release 2026\.1"):
        execution.commit_output_assets()
    assert (execution.status, check_release(workspace.results, made).ok) == ("uploaded", True)
    create_release(workspace.results, "2026.2")
    execution.commit_output_assets(replace=True)
    assert check_release(workspace.results, made).findings == {execution.fragment: "changed"}
    (execution.output_directory / "out.log").write_text("a third log")
    execution.commit_output_assets()  # the release is of another record


def test_a_transfer_does_not_change_what_a_release_of_its_destination_names(two: ArtifactStore) -> None:
    copy = InMemoryArtifactStore()
    transfer(two, copy).raise_for_failures()
    made = create_release(copy, "2026.1", [FRAGMENT])
    publish_later_version(two)
    publish(two, OTHER, map=b"changed")
    report = transfer(two, copy)
    refused = [each for each in report.sets if each.error is not None]
    assert [(each.folder, type(each.error)) for each in refused] == [(FRAGMENT, ReleasedSetError)]
    assert check_release(copy, made).ok
    assert copy.read_bytes(join_key(OTHER, "plots/map (°C).png")) == b"changed"
    copy.write_bytes(MAP, copy.read_bytes(MAP)[::-1])  # damage
    assert check_release(copy, made).findings == {FRAGMENT: "damaged"}
    transfer(two, copy, replace=True).raise_for_failures()
    assert check_release(copy, made).findings == {FRAGMENT: "changed"}


def test_a_transfer_changes_no_release_and_moves_an_alias_only_on(two: ArtifactStore) -> None:
    create_release(two, "2026.1")
    point_alias(two, "production", "2026.1", by="ann")
    copy = InMemoryArtifactStore()
    transfer(two, copy).raise_for_failures()
    create_release(two, "2026.2")
    point_alias(two, "production", "2026.2", by="ann")
    transfer(two, copy).raise_for_failures()
    assert read_release(copy, "production").name == "2026.2"
    point_alias(copy, "production", "2026.1", by="bob")
    transfer(two, copy).raise_for_failures()  # what was pointed further there stays
    assert read_release(copy, "production").name == "2026.1"

    own = create_release(copy, "own", [OTHER])
    create_release(two, "own", [FRAGMENT])
    point_alias(two, "production", "own", by="ann")
    report = transfer(two, copy, replace=True)
    left = {each.key: each for each in report.failures}
    assert list(left) == [f"{ALIASES}/production.json", f"{RELEASES}/own.json"]
    assert all(isinstance(each.error, ReleaseError) and each.outcome == "left" for each in left.values())
    assert read_release(copy, "own") == own
    assert read_release(copy, "production").name == "2026.1"


def test_a_replay_writes_no_release_that_the_catalog_knows(two: ArtifactStore) -> None:
    create_release(two, "2026.1")
    point_alias(two, "production", "2026.1")
    with Catalog("sqlite://") as catalog:
        replay(two, catalog)
        known, written = catalog.releases.list(), list[str]()
        event.listen(catalog._database._open(), "before_cursor_execute", lambda *args: written.append(args[2]))
        replay(two, catalog)
        assert not [each for each in written if each.startswith(("INSERT", "DELETE", "UPDATE")) and "release" in each]
        create_release(two, "2026.2")
        point_alias(two, "production", "2026.2")
        replay(two, catalog)
        assert [(row.name, row.aliases) for row in catalog.releases.list()] == [
            ("2026.1", ()),
            ("2026.2", ("production",)),
        ]
        assert known != catalog.releases.list()
        assert [each for each in written if each.startswith("INSERT") and "release" in each]
