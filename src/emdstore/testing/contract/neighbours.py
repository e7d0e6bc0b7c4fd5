"""The capabilities that involve a second store: sub-stores and copies."""

from __future__ import annotations

import hashlib

import pytest

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError, KeyConflictError
from emdstore.stores.port import ArtifactStore, CopySession, SupportsCopyFrom
from emdstore.stores.views import scoped
from emdstore.testing.contract.capabilities import claims
from emdstore.testing.contract.harness import Clauses, StoreHarness
from emdstore.testing.contract.values import VALUES


class NeighbourClauses(Clauses):
    """`SupportsScope`, or the generic view in its place, and `SupportsCopyFrom`."""

    # -- scope ---------------------------------------------------------------------------------------------------

    def test_a_scope_is_its_folder(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """It sees what lies in the folder, under keys relative to it, and nothing else; so do its writes.

        Guards against ``run1`` that takes in ``run10``, and against keys that keep or lose a part of the prefix.
        """
        harness.put_all(["run1/a", "run1/b/c", "run10/a", "run1.txt", "a"])
        scope = scoped(store, "run1")
        assert list(scope.iter_keys()) == ["a", "b/c"]
        assert list(scope.iter_keys("b")) == ["b/c"]
        assert scope.exists("a")
        assert not scope.exists("run1/a")
        scope.write_bytes("new (°C)", b"value")
        assert scope.read_bytes("new (°C)") == b"value"
        assert harness.raw_get("run1/new (°C)") == b"value"
        with pytest.raises(ArtifactNotFoundError, match="absent"):
            scope.read_bytes("absent")

    def test_scopes_nest(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A scope of a scope is the scope of the joined folders, and of ``""`` the store itself.

        Guards against a second prefix that replaces the first.
        """
        harness.raw_put("x/y/z/a", b"value")
        assert list(scoped(scoped(store, "x"), "y/z").iter_keys()) == ["a"]
        assert list(scoped(scoped(scoped(store, ""), "x/y"), "z").iter_keys()) == ["a"]
        scoped(scoped(store, "x"), "w").write_bytes("b", b"new")
        assert harness.raw_get("x/w/b") == b"new"

    def test_a_scope_claims_what_the_store_claims(self, store: ArtifactStore) -> None:
        """A native sub-store has the store's own capabilities.

        Guards against transfers that are slow for one folder and fast for all.
        """
        if not hasattr(store, "scope"):
            pytest.skip("no SupportsScope")
        assert claims(scoped(store, "run1")) == claims(store)

    @pytest.mark.parametrize("prefix", ["..", "a/../..", "/a", "a/", "a//b", "a\\b"])
    def test_a_scope_is_never_outside(self, store: ArtifactStore, prefix: str) -> None:
        """Its folder is checked like a key, and so are its keys.

        Guards against ``scope("run1").read_bytes("../run2/secret")``.
        """
        with pytest.raises(InvalidKeyError):
            scoped(store, prefix)
        with pytest.raises(InvalidKeyError):
            scoped(store, "run1").read_bytes(prefix)

    # -- copies --------------------------------------------------------------------------------------------------

    @pytest.fixture
    def source(self, store: ArtifactStore) -> ArtifactStore:
        """Return one folder of the store, to copy from."""
        return scoped(store, "source")

    @pytest.fixture
    def dest(self, store: ArtifactStore) -> ArtifactStore:
        """Return another folder of the store, to copy to."""
        return scoped(store, "dest")

    @pytest.fixture
    def session(self, source: ArtifactStore, dest: ArtifactStore) -> CopySession:
        """Return the store's own way from one folder of it to another, if it has one."""
        if not isinstance(dest, SupportsCopyFrom):
            pytest.skip("no SupportsCopyFrom")
        session = dest.copy_from(source)
        return pytest.skip("the store has no way to copy from itself") if session is None else session

    @pytest.mark.parametrize("data", VALUES.values(), ids=VALUES.keys())
    def test_copies_whole(self, harness: StoreHarness, session: CopySession, data: bytes) -> None:
        """The same bytes at the same key, and a true account of them.

        Guards against a digest of what was meant to be copied.
        """
        harness.raw_put("source/a (°C)/b", data)
        with session:
            copied = session.copy("a (°C)/b")
        assert copied.size in (None, len(data))
        assert copied.sha256 in (None, hashlib.sha256(data).hexdigest())
        same = harness.raw_get("dest/a (°C)/b") == data
        assert same
        assert set(harness.raw_keys()) == {"source/a (°C)/b", "dest/a (°C)/b"}

    def test_a_copy_replaces(self, harness: StoreHarness, session: CopySession) -> None:
        """What lay at the key before is gone; the source and other keys are as they were.

        Guards against a copy that is a link to its source.
        """
        harness.raw_put("source/a", b"new")
        harness.raw_put("dest/a", b"longer and old")
        harness.raw_put("dest/b", b"kept")
        with session:
            session.copy("a")
        harness.raw_put("source/a", b"newer")
        assert harness.raw_get("dest/a") == b"new"
        assert harness.raw_get("dest/b") == b"kept"

    def test_a_copy_of_nothing_is_not_found(self, harness: StoreHarness, session: CopySession) -> None:
        """And leaves what lay at the key; the session goes on.

        Guards against an empty artifact in place of an absent one.
        """
        harness.raw_put("source/b", b"value")
        harness.raw_put("dest/a", b"kept")
        with session:
            with pytest.raises(ArtifactNotFoundError, match="a"):
                session.copy("a")
            session.copy("b")
        assert harness.raw_get("dest/a") == b"kept"
        assert harness.raw_get("dest/b") == b"value"

    def test_a_copy_checks_its_key(self, harness: StoreHarness, session: CopySession) -> None:
        """As every other verb does.

        Guards against the one way into the store that goes around the check.
        """
        with session:
            for key in ("../a", "/a", "a/", ""):
                with pytest.raises(InvalidKeyError):
                    session.copy(key)
        assert set(harness.raw_keys()) == set()

    def test_a_copy_beside_a_folder_is_held_or_refused(self, harness: StoreHarness, session: CopySession) -> None:
        """`KeyConflictError`, as a write would, or both are held.

        Guards against the kernel's own error, and against a folder replaced by a file.
        """
        harness.raw_put("source/a", b"value")
        harness.raw_put("dest/a/b", b"kept")
        with session:
            try:
                session.copy("a")
            except KeyConflictError:
                expected = None
            else:
                expected = b"value"
        assert harness.raw_get("dest/a/b") == b"kept"
        try:
            raw = harness.raw_get("dest/a")
        except IsADirectoryError:
            raw = None
        assert raw == expected

    def test_says_where_it_cannot_copy_from(self, store: ArtifactStore) -> None:
        """None for a kind of store that it does not know, so that the caller takes another way.

        Guards against `AttributeError` in the middle of a transfer.
        """
        if not isinstance(store, SupportsCopyFrom):
            pytest.skip("no SupportsCopyFrom")

        class Stranger:
            def exists(self, key: str, /) -> bool:
                return False

            def read_bytes(self, key: str, /) -> bytes:
                raise ArtifactNotFoundError(key, key=key)

            def write_bytes(self, key: str, data: bytes, /) -> None:
                raise AssertionError("nobody asked for this")

            def iter_keys(self, prefix: str = "", /) -> object:
                return iter(())

        assert store.copy_from(Stranger()) is None  # type: ignore[arg-type]
