"""`SupportsSession`: the same store, cheaper for many artifacts in a row."""

from __future__ import annotations

import pytest

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError, KeyConflictError
from emdstore.stores.port import ArtifactStore, StoreSession, SupportsDelete, SupportsSession
from emdstore.testing.contract.harness import Clauses, StoreHarness


class SessionClauses(Clauses):
    """A session keeps things open between keys, which must make no difference except in speed."""

    @pytest.fixture
    def open_session(self, store: ArtifactStore) -> StoreSession:
        """Return a session of the store, if it supports sessions."""
        return store.session() if isinstance(store, SupportsSession) else pytest.skip("no SupportsSession")

    def test_a_session_reads_and_writes(self, harness: StoreHarness, open_session: StoreSession) -> None:
        """Folders may come in any order, and each value is there at once and whole.

        Guards against a session that delays writes, or that stays in its first folder.
        """
        values = {"a/x": b"one", "a/y": b"", "b": b"two", "a/z/x": b"three" * 1000}
        with open_session as session:
            for key, data in values.items():
                session.write_bytes(key, data)
                assert harness.raw_get(key) == data
            for key in reversed(values):
                assert session.read_bytes(key) == values[key]
            session.write_bytes("a/x", b"another")
            assert session.read_bytes("a/x") == b"another"
        assert set(harness.raw_keys()) == set(values)

    def test_a_session_sees_what_others_do(
        self, harness: StoreHarness, store: ArtifactStore, open_session: StoreSession
    ) -> None:
        """Artifacts that come and go, and folders that are taken away and made anew.

        Guards against cached bytes and folders that no longer exist.
        """
        with open_session as session:
            session.write_bytes("a/x", b"one")
            harness.raw_put("a/x", b"another")
            assert session.read_bytes("a/x") == b"another"
            if not isinstance(store, SupportsDelete):
                return
            store.delete("a/x")
            with pytest.raises(ArtifactNotFoundError):
                session.read_bytes("a/x")
            harness.raw_put("a/y", b"in a new folder")
            assert session.read_bytes("a/y") == b"in a new folder"
            store.delete("a/y")
            session.write_bytes("a/z", b"after it went again")
            assert harness.raw_get("a/z") == b"after it went again"

    def test_a_session_raises_what_the_store_raises(self, harness: StoreHarness, open_session: StoreSession) -> None:
        """For keys that are none, are not there, or do not fit; and it goes on.

        Guards against the one way into the store that goes around the checks, and against a session that one bad key
        ends.
        """
        harness.raw_put("a/b", b"kept")
        with open_session as session:
            for key in ("../a", "/a", "a/", ""):
                with pytest.raises(InvalidKeyError):
                    session.read_bytes(key)
                with pytest.raises(InvalidKeyError):
                    session.write_bytes(key, b"")
            for key in ("absent", "a/absent", "a", "absent/x"):
                with pytest.raises(ArtifactNotFoundError, match=key):
                    session.read_bytes(key)
            try:
                session.write_bytes("a", b"beside a folder")
            except KeyConflictError:
                expected = {"a/b"}
            else:
                expected = {"a", "a/b"}
            session.write_bytes("a/c", b"value")
            assert session.read_bytes("a/b") == b"kept"
        assert set(harness.raw_keys()) == {"a/c", *expected}
