"""Views: what they pass on, what they keep back, and how they name it; the contract suite has the rest."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError, StoreAccessError, UnsafePathError
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import (
    ArtifactStore,
    SupportsCopyFrom,
    SupportsCreate,
    SupportsDelete,
    SupportsInfo,
    SupportsPath,
    SupportsSession,
    SupportsStreaming,
)
from emdstore.stores.views import ReadOnlyStore, ScopedStore, StoreView, scoped


class Shouting(StoreView):
    """A view of somebody else's making, which changes keys both ways."""

    def _enter(self, verb: str, key: str) -> str:
        return super()._enter(verb, key).upper()

    def _leave(self, key: str) -> str:
        return key.lower()


@pytest.fixture
def inner() -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    for key in ("a/b/c", "a/d", "ab/c", "e"):
        store.write_bytes(key, key.encode())
    return store


class TestScope:
    def test_the_whole_is_a_scope_of_itself(self, inner: InMemoryArtifactStore) -> None:
        assert scoped(inner, "") is inner

    def test_a_scope_of_a_scope_is_one_folder_down(self, inner: InMemoryArtifactStore) -> None:
        nested = scoped(scoped(inner, "a"), "b")
        assert list(nested.iter_keys()) == ["c"]
        assert nested.read_bytes("c") == b"a/b/c"

    def test_nothing_leads_out_of_it(self, inner: InMemoryArtifactStore) -> None:
        scope = scoped(inner, "a")
        for key in ("../e", "/e", "b/../../e", "", ".", "b//c"):
            with pytest.raises(InvalidKeyError):
                scope.read_bytes(key)
        for prefix in ("../a", "a/", "/a", "."):
            with pytest.raises(InvalidKeyError):
                scoped(inner, prefix)
        assert not scope.exists("e")

    def test_a_key_that_is_too_long_only_with_its_folder_is_refused(self, inner: InMemoryArtifactStore) -> None:
        scope = scoped(inner, "/".join(["f" * 200] * 5))
        scope.write_bytes("k" * 19, b"")
        with pytest.raises(InvalidKeyError, match="1024 are allowed"):
            scope.write_bytes("k" * 20, b"")

    def test_everything_is_named_as_it_was_asked_for(self, inner: InMemoryArtifactStore) -> None:
        """Guards against a caller who is told of a key that he never used."""
        scope = scoped(inner, "a")
        assert isinstance(scope, SupportsInfo)
        assert isinstance(scope, SupportsStreaming)
        assert scope.info("d").key == "d"
        assert [info.key for info in scope.iter_info()] == ["b/c", "d"]
        assert [info.key for info in scope.iter_info("b")] == ["b/c"]
        with scope.open_reader("d") as reader:
            assert (reader.info.key, reader.read()) == ("d", b"a/d")
        for call in (scope.read_bytes, scope.info, scope.open_reader):
            with pytest.raises(ArtifactNotFoundError) as caught:
                call("absent")
            assert caught.value.key == "absent"

    def test_a_local_one_is_a_local_store(self, tmp_path: Path) -> None:
        scope = scoped(LocalArtifactStore(tmp_path), "a/b")
        assert scope == LocalArtifactStore(tmp_path / "a/b")
        assert not (tmp_path / "a").exists()

    def test_a_local_one_through_a_link_out_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store/a").symlink_to(tmp_path)
        with pytest.raises(UnsafePathError):
            scoped(LocalArtifactStore(tmp_path / "store"), "a")

    def test_copies_are_equal_and_so_is_their_hash(self, tmp_path: Path) -> None:
        scope = ScopedStore(LocalArtifactStore(tmp_path), "a")
        again = pickle.loads(pickle.dumps(scope))
        assert again == scope
        assert hash(again) == hash(scope)
        assert scope != ScopedStore(LocalArtifactStore(tmp_path), "b")
        assert scope != LocalArtifactStore(tmp_path / "a")
        assert isinstance(again, SupportsInfo)
        assert repr(scope) == f"ScopedStore({LocalArtifactStore(tmp_path)!r}, 'a')"


class TestReadOnly:
    def test_nothing_that_writes_is_there_and_the_rest_refuses(self, tmp_path: Path) -> None:
        inner = LocalArtifactStore(tmp_path)
        inner.write_bytes("a", b"kept")
        view = ReadOnlyStore(inner)
        for capability in (SupportsDelete, SupportsCreate, SupportsCopyFrom):
            assert not isinstance(view, capability)
        assert isinstance(view, SupportsStreaming)
        for write in (lambda key: view.write_bytes(key, b""), view.open_writer):
            with pytest.raises(StoreAccessError, match="read-only; 'a' was not written"):
                write("a")
            with pytest.raises(InvalidKeyError):
                write("../a")
        assert view.read_bytes("a") == b"kept"

    def test_no_session_of_it_can_be_written_to(self, tmp_path: Path) -> None:
        inner = LocalArtifactStore(tmp_path)
        inner.write_bytes("a", b"kept")
        store = ReadOnlyStore(inner)
        assert isinstance(store, SupportsSession)
        with store.session() as session:
            with pytest.raises(StoreAccessError, match="'a'"):
                session.write_bytes("a", b"new")
            assert session.read_bytes("a") == b"kept"

    def test_no_scope_of_it_can_be_written_to(self, tmp_path: Path) -> None:
        for inner in (LocalArtifactStore(tmp_path), InMemoryArtifactStore()):
            with pytest.raises(StoreAccessError):
                scoped(scoped(ReadOnlyStore(inner), "a"), "b").write_bytes("c", b"")
            assert list(inner.iter_keys()) == []


class TestAViewOfYourOwn:
    def test_changes_keys_both_ways_for_every_verb(self) -> None:
        inner = InMemoryArtifactStore()
        view = Shouting(inner)
        view.write_bytes("a/b", b"value")
        with view.open_writer("c") as writer:  # type: ignore[attr-defined]
            writer.write(b"stream")
        assert list(inner.iter_keys()) == ["A/B", "C"]
        assert list(view.iter_keys()) == ["a/b", "c"]
        assert list(view.iter_keys("a")) == ["a/b"]
        assert view.read_bytes("a/b") == b"value"
        assert view.info("c").key == "c"  # type: ignore[attr-defined]
        view.delete("c")  # type: ignore[attr-defined]
        assert list(inner.iter_keys()) == ["A/B"]

    def test_takes_no_copies_whose_keys_it_does_not_change(self, tmp_path: Path) -> None:
        """Every key of a copy session passes through the view, too."""
        source, dest = LocalArtifactStore(tmp_path / "source"), LocalArtifactStore(tmp_path / "dest")
        source.write_bytes("A", b"value")
        view = Shouting(dest)
        assert isinstance(view, SupportsCopyFrom)
        session = view.copy_from(source)
        assert session is not None
        with session:
            session.copy("a")
        assert dest.read_bytes("A") == b"value"

    def test_has_what_the_store_inside_has_after_it_crossed_processes(self, tmp_path: Path) -> None:
        view: ArtifactStore = pickle.loads(pickle.dumps(ReadOnlyStore(LocalArtifactStore(tmp_path))))
        assert isinstance(view, SupportsPath)
        assert isinstance(view, ReadOnlyStore)

    def test_one_that_reads_in_its_own_way_has_no_session_that_goes_around_it(self, tmp_path: Path) -> None:
        class Reversed(StoreView):
            def read_bytes(self, key: str, /) -> bytes:
                return super().read_bytes(key)[::-1]

        inner = LocalArtifactStore(tmp_path)
        assert isinstance(Shouting(inner), SupportsSession)
        assert not isinstance(Reversed(inner), SupportsSession)
