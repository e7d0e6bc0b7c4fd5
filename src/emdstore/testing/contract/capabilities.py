"""The optional capabilities that are one or two verbs: info, delete, create, replace, path, flush, place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Barrier

import attrs
import pytest

from emdstore.errors import ArtifactChangedError, ArtifactExistsError, ArtifactNotFoundError, InvalidKeyError
from emdstore.keys import in_folder, join_key
from emdstore.stores import port
from emdstore.stores.port import (
    ArtifactStore,
    SupportsCopyFrom,
    SupportsCreate,
    SupportsDelete,
    SupportsDigest,
    SupportsFlush,
    SupportsInfo,
    SupportsLeftOut,
    SupportsPath,
    SupportsPlace,
    SupportsReplaceIf,
    SupportsScope,
    SupportsSession,
    SupportsStreaming,
)
from emdstore.stores.views import scoped
from emdstore.testing.contract.harness import Clauses, StoreHarness
from emdstore.testing.contract.listing import TRICKY_ORDER

CAPABILITIES: dict[type, tuple[str, ...]] = {
    SupportsInfo: ("info", "iter_info"),
    SupportsStreaming: ("open_reader", "open_writer"),
    SupportsDigest: ("digest",),
    SupportsDelete: ("delete",),
    SupportsCreate: ("create_bytes",),
    SupportsReplaceIf: ("replace_bytes",),
    SupportsPath: ("local_path",),
    SupportsCopyFrom: ("copy_from",),
    SupportsSession: ("session",),
    SupportsScope: ("scope",),
    SupportsFlush: ("flush",),
    SupportsPlace: ("place",),
    SupportsLeftOut: ("iter_found",),
}
"""What each capability protocol consists of."""

# Clocks of a server and of this machine may differ by so much, and some stores keep whole seconds.
CLOCK_TOLERANCE = 120.0


def claims(store: ArtifactStore) -> set[type]:
    """Return the capability protocols that the store claims."""
    return {capability for capability in CAPABILITIES if isinstance(store, capability)}


class CapabilityClauses(Clauses):
    """What a store claims by `isinstance`, it does."""

    def test_is_an_artifact_store(self, store: ArtifactStore) -> None:
        """All four methods are there.

        Guards against an adapter that was never a store to begin with.
        """
        assert isinstance(store, ArtifactStore)

    def test_claims_no_half_of_a_capability(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Both of its methods, or none; and just those capabilities that the harness says.

        Guards against a misspelt or forgotten method: `isinstance` then says no, and the store is only slow.
        """
        for capability, verbs in CAPABILITIES.items():
            there = [verb for verb in verbs if callable(getattr(store, verb, None))]
            assert there in ([], list(verbs)), f"{capability.__name__} needs {verbs}, the store has {there}"
        if harness.claims is not None:
            assert claims(store) == set(harness.claims)

    # -- info ----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def infos(self, store: ArtifactStore) -> SupportsInfo:
        """Return the store, if it supports info."""
        return store if isinstance(store, SupportsInfo) else pytest.skip("no SupportsInfo")

    @pytest.mark.parametrize("data", [b"", b"value", b"x" * 100_000])
    def test_info_tells_size_and_time(self, harness: StoreHarness, infos: SupportsInfo, data: bytes) -> None:
        """The size of the bytes and the time of their writing, in seconds since 1970.

        Guards against sizes of what is compressed or encrypted, and against milliseconds or local time.
        """
        harness.raw_put("a/value", data)
        info = infos.info("a/value")
        assert isinstance(info, port.ArtifactInfo)
        assert (info.key, info.size) == ("a/value", len(data))
        assert abs(info.modified - time.time()) < CLOCK_TOLERANCE

    def test_info_is_of_now(self, harness: StoreHarness, infos: SupportsInfo) -> None:
        """After another write: the new size, no earlier time, and, where there are versions, another one.

        Guards against cached infos: ``unchanged="stat"`` then skips what changed.
        """
        harness.raw_put("a/value", b"one")
        old = infos.info("a/value")
        assert infos.info("a/value") == old
        harness.raw_put("a/value", b"another")
        new = infos.info("a/value")
        assert new.size == len(b"another")
        assert new.modified >= old.modified
        assert old.version is None or new.version != old.version

    @pytest.mark.parametrize("key", ["absent", "a", "a/value/below"])
    def test_info_of_nothing_is_not_found(self, harness: StoreHarness, infos: SupportsInfo, key: str) -> None:
        """Absent keys and mere folders have no info.

        Guards against the size of a directory.
        """
        harness.raw_put("a/value", b"value")
        with pytest.raises(ArtifactNotFoundError, match=key):
            infos.info(key)

    @pytest.mark.parametrize("prefix", ["", "a", "run1", "absent"])
    def test_infos_follow_the_listing(
        self, harness: StoreHarness, store: ArtifactStore, infos: SupportsInfo, prefix: str
    ) -> None:
        """Of the same keys, in the same order, each equal to the info of that key.

        Guards against two listings that drift apart, and against an ETag that is quoted in one of them.
        """
        for key in TRICKY_ORDER:
            harness.raw_put(key, key.encode())
        listing = infos.iter_info(prefix)
        assert isinstance(listing, Iterator)
        listed = list(listing)
        assert [info.key for info in listed] == [key for key in TRICKY_ORDER if in_folder(key, prefix)]
        for found in listed:
            alone = infos.info(found.key)
            assert (alone.size, alone.version) == (found.size, found.version)
            # An object store may give whole seconds in one answer and fractions in the other.
            assert abs(alone.modified - found.modified) <= 1.0

    # -- delete --------------------------------------------------------------------------------------------------

    @pytest.fixture
    def deletes(self, store: ArtifactStore) -> SupportsDelete:
        """Return the store, if it supports delete."""
        return store if isinstance(store, SupportsDelete) else pytest.skip("no SupportsDelete")

    def test_a_deleted_artifact_is_gone(
        self, harness: StoreHarness, store: ArtifactStore, deletes: SupportsDelete
    ) -> None:
        """That one, by every verb, and for everyone; a second time is no error.

        Guards against a delete that also takes what starts with the same name.
        """
        kept = ["run1/a.txt", "run1/a/b", "run10/a"]
        harness.put_all([*kept, "run1/a.nc"])
        deletes.delete("run1/a.nc")
        assert not store.exists("run1/a.nc")
        assert list(store.iter_keys()) == kept
        assert set(harness.raw_keys()) == set(kept)
        with pytest.raises(ArtifactNotFoundError):
            store.read_bytes("run1/a.nc")
        deletes.delete("run1/a.nc")
        store.write_bytes("run1/a.nc", b"again")
        assert harness.raw_get("run1/a.nc") == b"again"

    @pytest.mark.parametrize("key", ["absent", "run1", "run1/plots", "run1/plots/a.png/below", "absent/deep"])
    def test_deleting_nothing_changes_nothing(self, harness: StoreHarness, deletes: SupportsDelete, key: str) -> None:
        """An absent key, a mere folder, or a key below an artifact: no error, and all artifacts stay.

        Guards against a recursive delete.
        """
        harness.raw_put("run1/plots/a.png", b"value")
        deletes.delete(key)
        assert set(harness.raw_keys()) == {"run1/plots/a.png"}

    def test_a_folder_emptied_is_no_obstacle(
        self, harness: StoreHarness, store: ArtifactStore, deletes: SupportsDelete
    ) -> None:
        """After its last artifact is deleted, a folder's name is free for an artifact, and the other way round.

        Guards against empty directories that stay and conflict with keys that nobody sees.
        """
        store.write_bytes("a/b/c", b"value")
        deletes.delete("a/b/c")
        store.write_bytes("a", b"value")
        assert list(store.iter_keys()) == ["a"]
        deletes.delete("a")
        store.write_bytes("a/b", b"value")
        assert set(harness.raw_keys()) == {"a/b"}

    # -- create --------------------------------------------------------------------------------------------------

    @pytest.fixture
    def creates(self, store: ArtifactStore) -> SupportsCreate:
        """Return the store, if it supports put-if-absent."""
        return store if isinstance(store, SupportsCreate) else pytest.skip("no SupportsCreate")

    @pytest.mark.parametrize("held", [b"", b"value"])
    def test_creates_only_what_is_not_there(self, harness: StoreHarness, creates: SupportsCreate, held: bytes) -> None:
        """`ArtifactExistsError`, also as `FileExistsError`, and what lay there stays, empty or not.

        Guards against an existence test by truth value, and against an error after the fact.
        """
        creates.create_bytes("a/value", held)
        assert harness.raw_get("a/value") == held
        with pytest.raises(ArtifactExistsError, match="a/value"):
            creates.create_bytes("a/value", b"another")
        assert harness.raw_get("a/value") == held
        assert set(harness.raw_keys()) == {"a/value"}

    def test_one_creator_wins(self, harness: StoreHarness, creates: SupportsCreate) -> None:
        """Of several that create one key at once, exactly one succeeds, and its bytes are there.

        Guards against "look, then write": two processes then both hold the same lease.
        """
        racers = 6
        with ThreadPoolExecutor(racers) as pool:
            for turn in range(harness.rounds):
                start = Barrier(racers)

                def race(racer: int, key: str = f"lease-{turn}", start: Barrier = start) -> int | None:
                    store = harness.make()
                    assert isinstance(store, SupportsCreate)
                    start.wait(harness.patience)
                    try:
                        store.create_bytes(key, b"racer %d" % racer)
                    except ArtifactExistsError:
                        return None
                    return racer

                winners = [racer for racer in pool.map(race, range(racers)) if racer is not None]
                assert len(winners) == 1
                assert harness.raw_get(f"lease-{turn}") == b"racer %d" % winners[0]

    # -- replace -------------------------------------------------------------------------------------------------

    @pytest.fixture
    def replaces(self, store: ArtifactStore) -> SupportsReplaceIf:
        """Return the store, if it supports compare-and-put."""
        return store if isinstance(store, SupportsReplaceIf) else pytest.skip("no SupportsReplaceIf")

    @pytest.mark.parametrize("held", [b"", b"value"])
    def test_replaces_only_what_was_seen(self, harness: StoreHarness, replaces: SupportsReplaceIf, held: bytes) -> None:
        """The new bytes take the place of those that were named, once; `ArtifactChangedError` then, and they stay.

        Guards against a writer that was halted, goes on, and puts old bytes over newer ones.
        """
        harness.raw_put("a/value", held)
        replaces.replace_bytes("a/value", b"new", sha256(held).hexdigest())
        assert harness.raw_get("a/value") == b"new"
        with pytest.raises(ArtifactChangedError, match="a/value"):
            replaces.replace_bytes("a/value", b"newer", sha256(held).hexdigest())
        assert harness.raw_get("a/value") == b"new"
        assert set(harness.raw_keys()) == {"a/value"}

    @pytest.mark.parametrize("key", ["absent", "a", "absent/deep"])
    def test_nothing_is_not_replaced(self, harness: StoreHarness, replaces: SupportsReplaceIf, key: str) -> None:
        """Where nothing lies, or a mere folder: `ArtifactChangedError`, and nothing is made.

        Guards against a set that somebody removed on purpose, and that comes back as a lone record.
        """
        harness.raw_put("a/value", b"value")
        with pytest.raises(ArtifactChangedError, match=key):
            replaces.replace_bytes(key, b"new", sha256(b"").hexdigest())
        assert set(harness.raw_keys()) == {"a/value"}

    def test_one_replacer_wins(self, harness: StoreHarness, replaces: SupportsReplaceIf) -> None:
        """Of several that replace the same bytes at once, exactly one succeeds, and its bytes are there.

        Guards against "look, then write": the record of one writer then stands on the bytes of another.
        """
        racers, before = 6, b"nobody"
        harness.raw_put("record", before)
        with ThreadPoolExecutor(racers) as pool:
            for turn in range(harness.rounds):
                start = Barrier(racers)

                def race(racer: int, turn: int = turn, seen: bytes = before, start: Barrier = start) -> bytes | None:
                    store, data = harness.make(), b"racer %d of turn %d" % (racer, turn)
                    assert isinstance(store, SupportsReplaceIf)
                    start.wait(harness.patience)
                    try:
                        store.replace_bytes("record", data, sha256(seen).hexdigest())
                    except ArtifactChangedError:
                        return None
                    return data

                winners = [data for data in pool.map(race, range(racers)) if data is not None]
                assert len(winners) == 1
                before = winners[0]
                assert harness.raw_get("record") == before

    # -- path and flush ------------------------------------------------------------------------------------------

    def test_local_paths_lead_to_the_bytes(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """The path of an artifact holds its bytes and lies under the store's own; an absent artifact has one too.

        Guards against paths relative to a working directory, which another thread may change.
        """
        if not isinstance(store, SupportsPath):
            pytest.skip("no SupportsPath")
        harness.raw_put("a/value", b"value")
        path = store.local_path("a/value")
        assert path.is_absolute()
        assert path.read_bytes() == b"value"
        assert store.local_path() == store.local_path("")
        assert path.is_relative_to(store.local_path())
        assert not store.local_path("a/absent").exists()

    def test_flush_may_be_called_at_any_time(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Before anything was written, after a write, and twice.

        Guards against a flush of a folder that is not there yet.
        """
        if not isinstance(store, SupportsFlush):
            pytest.skip("no SupportsFlush")
        store.flush()
        store.write_bytes("a/value", b"value")
        store.flush()
        store.flush()
        assert harness.raw_get("a/value") == b"value"

    @pytest.mark.parametrize("size", [0, 5, 3_000_000])
    def test_a_digest_is_of_the_bytes_as_they_are_now(
        self, harness: StoreHarness, store: ArtifactStore, size: int
    ) -> None:
        """Of what lies there, whoever wrote it, and whatever was there before; nothing has none.

        Guards against digests that were noted when the bytes were written: damage would never be found.
        """
        if not isinstance(store, SupportsDigest):
            pytest.skip("no SupportsDigest")
        with pytest.raises(ArtifactNotFoundError):
            store.digest("a/value")
        store.write_bytes("a/value", b"y" * size)
        assert store.digest("a/value") == (size, sha256(b"y" * size).hexdigest())
        harness.raw_put("a/value", b"x" * size)
        assert store.digest("a/value") == (size, sha256(b"x" * size).hexdigest())
        with pytest.raises(InvalidKeyError):
            store.digest("a/../value")

    # -- place ---------------------------------------------------------------------------------------------------

    def test_tells_where_it_is(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """The same for every store that is opened there, and a path without slashes at its ends.

        Guards against two names for one place: a transfer from a place to itself would not be refused.
        """
        if not isinstance(store, SupportsPlace):
            pytest.skip("no SupportsPlace")
        place, again = store.place(), harness.make()
        assert isinstance(again, SupportsPlace)
        assert again.place() == place
        assert hash(again.place().holder) == hash(place.holder)
        assert place.path == place.path.strip("/")
        assert place.requests >= 1

    def test_a_scope_is_inside(self, store: ArtifactStore) -> None:
        """The place of a folder is that folder of the place.

        Guards against a folder of a store that passes for another place, into which its own files are copied.
        """
        if not isinstance(store, SupportsPlace):
            pytest.skip("no SupportsPlace")
        folder = scoped(store, "a/b")
        assert isinstance(folder, SupportsPlace)
        assert folder.place() == attrs.evolve(store.place(), path=join_key(store.place().path, "a/b"))

    def test_what_it_calls_shared_is(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A store whose place other processes cannot see says so.

        Guards against forks that write into a copy of this process' memory, and are believed.
        """
        if not isinstance(store, SupportsPlace):
            pytest.skip("no SupportsPlace")
        assert harness.shared or not store.place().shared
