"""Clause 6: a store of files never reads or writes outside its root."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

from emdstore.errors import ArtifactNotFoundError, UnsafePathError
from emdstore.stores.port import ArtifactStore, SupportsInfo
from emdstore.testing.contract.harness import Clauses, StoreHarness, outcome
from emdstore.testing.contract.keys import calls_with_key

SECRET = b"not for you"


class LinkClauses(Clauses):
    """Clause 6; skipped without the harness's hook ``link``."""

    @pytest.fixture
    def outside(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder outside all stores of the test, with one file."""
        folder = tmp_path_factory.mktemp("outside")
        (folder / "secret.txt").write_bytes(SECRET)
        return folder

    @pytest.mark.parametrize("way", ["file", "folder", "relative", "dangling"])
    def test_a_link_that_leads_out_is_refused(
        self, harness: StoreHarness, store: ArtifactStore, outside: Path, way: str
    ) -> None:
        """Every method raises `UnsafePathError`; nothing behind the link is listed, and nothing outside is touched.

        Guards against a run that links its own output, or ``/``, into what is published. A link that is only removed or
        replaced, not followed, does no harm.
        """
        if harness.link is None:
            pytest.skip("the harness has no hook 'link'")
        harness.raw_put("kept", b"value")
        key = "way/secret.txt"
        if way == "file":
            harness.link(key, str(outside / "secret.txt"))
        elif way == "folder":
            harness.link("way", str(outside))
        elif way == "relative":
            harness.link("way", "../" * 40 + str(outside).lstrip("/"))
        else:
            key = "way/new.txt"
            harness.link("way", str(outside / "new-folder"))
        for verb, call in calls_with_key(store, key).items():
            error = outcome(call)
            if error is None:
                assert verb in ("write_bytes", "open_writer", "delete"), f"{verb} followed a link out of the root"
            else:
                assert isinstance(error, UnsafePathError)
                assert key in str(error)
            assert list(outside.rglob("*")) == [outside / "secret.txt"], f"{verb} changed what lies outside"
            assert (outside / "secret.txt").read_bytes() == SECRET, f"{verb} changed what lies outside"
            if key in set(store.iter_keys()):
                # A write may have put an artifact in the link's place; then that is what is there.
                assert store.read_bytes(key) == b"new"
                break
        assert store.read_bytes("kept") == b"value"

    def test_links_out_are_not_listed(self, harness: StoreHarness, store: ArtifactStore, outside: Path) -> None:
        """Files outside are not listed, and the listing continues.

        Guards against a tree of results that becomes the home folder, or an error that hides all other artifacts.
        """
        if harness.link is None:
            pytest.skip("the harness has no hook 'link'")
        harness.put_all(["a/kept", "c/kept"])
        harness.link("a/secret.txt", str(outside / "secret.txt"))
        harness.link("b", str(outside))
        harness.link("dangling", str(outside / "absent"))
        assert list(store.iter_keys()) == ["a/kept", "c/kept"]
        if isinstance(store, SupportsInfo):
            assert [info.key for info in store.iter_info()] == ["a/kept", "c/kept"]

    def test_links_inside_are_followed(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A link to an artifact or folder of the same store reads like its target.

        Guards against refusing every link: diagnostics link ``latest`` to a run, and data to data.
        """
        if harness.link is None:
            pytest.skip("the harness has no hook 'link'")
        harness.raw_put("run1/data.nc", b"value")
        harness.link("run1/alias.nc", "data.nc")
        harness.link("latest", "run1")
        for key in ("run1/alias.nc", "latest/data.nc", "latest/alias.nc"):
            assert store.exists(key)
            assert store.read_bytes(key) == b"value"
        assert "run1/alias.nc" in list(store.iter_keys())

    def test_a_dangling_link_is_absent(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A dangling link inside the root is not an artifact, and neither is a link to itself.

        Guards against a key that is listed but cannot be read.
        """
        if harness.link is None:
            pytest.skip("the harness has no hook 'link'")
        harness.raw_put("a/kept", b"value")
        harness.link("a/dangling", "absent")
        harness.link("a/itself", "itself")
        assert list(store.iter_keys()) == ["a/kept"]
        assert not store.exists("a/dangling")
        with pytest.raises(ArtifactNotFoundError):
            store.read_bytes("a/dangling")
        with pytest.raises((ArtifactNotFoundError, UnsafePathError)):
            store.read_bytes("a/itself")

    @pytest.mark.parametrize("target", [os.curdir, os.pardir])
    def test_a_folder_that_links_to_itself_is_listed_to_an_end(
        self, harness: StoreHarness, store: ArtifactStore, target: str
    ) -> None:
        """The listing ends, and names the real artifact.

        Guards against a walk without end, or one that ends with the file system's limit and forty copies of each key.
        """
        if harness.link is None:
            pytest.skip("the harness has no hook 'link'")
        harness.raw_put("a/kept", b"value")
        harness.link("a/again", target)
        listed = list(islice(store.iter_keys(), 1000))
        assert "a/kept" in listed
        assert len(listed) < 10
