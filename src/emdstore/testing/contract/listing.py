"""Clause 5: a listing is lazy, ordered, complete and current."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Event

import pytest

from emdstore.errors import InvalidKeyError
from emdstore.keys import in_folder
from emdstore.stores.port import ArtifactStore, SupportsDelete
from emdstore.testing.contract.harness import Clauses, StoreHarness

# By the bytes of UTF-8: '-' and '.' come before '/', so a file may come between a folder and its files; and the emoji
# comes after the full-width tilde, which is the other way round in UTF-16.
TRICKY_ORDER = [
    "A",
    "a b",
    "a!",
    "a-b",
    "a-c/d",
    "a.txt",
    "a/a",
    "a/b-c/d",
    "a/b.txt",
    "a/b/c",
    "a/b/d/e",
    "a/b0",
    "a0",
    "aa/x",
    "b",
    "run1/x",
    "run10/x",
    "run2/x",
    "z",
    "~",
    "é.txt",
    "é/x",
    "～",
    "😀/x",
]


class ListingClauses(Clauses):
    """Clause 5."""

    def test_lists_in_the_order_of_the_bytes(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Ascending by the keys' UTF-8 bytes, whatever the order of writing.

        Guards against walking folder by folder (``a/x`` before ``a.txt``), the order of a directory on disk, and the
        order of UTF-16: plans merge two listings, and one that is out of order copies everything again.
        """
        harness.put_all(reversed(TRICKY_ORDER))
        assert list(store.iter_keys()) == TRICKY_ORDER
        assert sorted(TRICKY_ORDER, key=str.encode) == TRICKY_ORDER

    @pytest.mark.parametrize("prefix", ["a", "a/b", "run1", "run10", "é", "😀", "aa", "a/b/d"])
    def test_a_prefix_means_a_folder(self, harness: StoreHarness, store: ArtifactStore, prefix: str) -> None:
        """Keys under the folder, with their full names, in order.

        Guards against string prefixes: listing ``run1`` must not bring in ``run10``, nor ``a`` bring in ``a-b``.
        """
        harness.put_all(TRICKY_ORDER)
        assert list(store.iter_keys(prefix)) == [key for key in TRICKY_ORDER if in_folder(key, prefix)]

    @pytest.mark.parametrize("prefix", ["absent", "a/absent", "run", "run1/x", "a.txt", "run1/x/y", "RUN1"])
    def test_what_is_no_folder_lists_nothing(self, harness: StoreHarness, store: ArtifactStore, prefix: str) -> None:
        """An absent folder, part of a name, or an artifact has no keys under it.

        Guards against `FileNotFoundError`, and against an artifact that is listed as if it were its own folder.
        """
        harness.put_all(TRICKY_ORDER)
        assert list(store.iter_keys(prefix)) == []

    def test_a_listing_is_an_iterator(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A listing can be abandoned and started again without any effect on the store.

        Guards against lists of a million keys in memory, and against a half-read listing that holds a lock.
        """
        harness.put_all(["a", "b", "c"])
        listing = store.iter_keys()
        assert isinstance(listing, Iterator)
        assert list(islice(listing, 2)) == ["a", "b"]
        store.write_bytes("d", b"x")
        assert list(store.iter_keys()) == ["a", "b", "c", "d"]

    def test_a_listing_is_never_stale(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Artifacts that others wrote before the call are listed, even in folders that were listed earlier.

        Guards against listing caches (s3fs has one): a replay right after a promotion then sees none of it.
        """
        harness.raw_put("run1/a", b"x")
        assert list(store.iter_keys("run1")) == ["run1/a"]
        harness.raw_put("run1/b", b"x")
        harness.raw_put("run2/a", b"x")
        assert list(store.iter_keys("run1")) == ["run1/a", "run1/b"]
        assert list(store.iter_keys()) == ["run1/a", "run1/b", "run2/a"]
        other = harness.make()
        if isinstance(other, SupportsDelete):
            other.delete("run1/a")
            assert list(store.iter_keys("run1")) == ["run1/b"]
            assert not store.exists("run1/a")

    def test_lists_more_than_one_page(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Every key, each once, however many there are.

        Guards against taking the first 1,000 keys of an object store for all of them.
        """
        keys = [f"folder/{n:05}" for n in range(harness.many)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.write_bytes(key, b""), keys))
        assert list(store.iter_keys()) == keys
        assert list(store.iter_keys("folder")) == keys

    def test_staging_files_never_show(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Unfinished files of another process, running or dead, are not artifacts.

        Guards against half a file that is listed, copied on, and published.
        """
        harness.raw_put("a/b", b"value")
        try:
            harness.put_all([".emdstore-1234", "a/.emdstore-5678.tmp", "c/.emdstore-9/d"])
        except InvalidKeyError:
            pytest.skip("the harness has no hook 'raw_put'")
        assert list(store.iter_keys()) == ["a/b"]
        assert list(store.iter_keys("a")) == ["a/b"]
        assert list(store.iter_keys("c")) == []

    def test_listing_while_others_write_is_sound(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """While others write and delete, keys come in order, once each, including all that exist throughout.

        Guards against `FileNotFoundError` from a file that disappears between listing and reading its size.
        """
        kept = [f"{folder}/kept-{n}" for folder in ("a", "b", "c") for n in range(3)]
        harness.put_all(kept)
        enough = Event()

        def disturb() -> None:
            other, turn = harness.make(), 0
            while not enough.is_set():
                key = f"{'abc'[turn % 3]}/{turn % 7}/{turn % 5}"
                other.write_bytes(key, b"x")
                if isinstance(other, SupportsDelete):
                    other.delete(key)
                turn += 1

        with ThreadPoolExecutor(1) as pool:
            disturbing = pool.submit(disturb)
            try:
                for _ in range(2 * harness.rounds):
                    listed = list(store.iter_keys())
                    assert listed == sorted(set(listed))
                    assert set(kept) <= set(listed)
            finally:
                enough.set()
            disturbing.result()
