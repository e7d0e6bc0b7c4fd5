"""The capability of telling what a listing leaves out."""

from __future__ import annotations

import pytest

from emdstore.stores.port import ArtifactStore, LeftOut, SupportsInfo, SupportsLeftOut
from emdstore.testing.contract.harness import Clauses, StoreHarness
from emdstore.testing.contract.listing import TRICKY_ORDER


class LeftOutClauses(Clauses):
    """`SupportsLeftOut`; skipped if the store does not claim it."""

    @pytest.fixture
    def telling(self, store: ArtifactStore) -> SupportsLeftOut:
        """Return the store, if it reports what its listings leave out."""
        return store if isinstance(store, SupportsLeftOut) else pytest.skip("no SupportsLeftOut")

    @pytest.mark.parametrize("prefix", ["", "a", "a/b", "run1", "absent"])
    def test_finds_what_a_listing_shows(
        self, harness: StoreHarness, store: ArtifactStore, telling: SupportsLeftOut, prefix: str
    ) -> None:
        """It yields the artifacts of `iter_info`, in the same order, and normally nothing else.

        Guards against two listings that disagree, and against reporting an empty folder as left out.
        """
        assert isinstance(store, SupportsInfo)
        harness.put_all(TRICKY_ORDER)
        assert list(telling.iter_found(prefix)) == list(store.iter_info(prefix))

    def test_tells_what_no_key_can_name(
        self, harness: StoreHarness, store: ArtifactStore, telling: SupportsLeftOut
    ) -> None:
        """It reports each once, with its name and a reason, and the artifacts around it as usual.

        Guards against removing a source after a copy with exit code 0 that left something out.
        """
        assert isinstance(store, SupportsInfo)
        if harness.plant_strangers is None:
            pytest.skip("the harness has no hook 'plant_strangers'")
        harness.put_all(["kept/a", "kept/b", "z"])
        strangers = harness.plant_strangers()
        found = list(telling.iter_found())
        left_out = [each for each in found if isinstance(each, LeftOut)]
        assert sorted(each.name for each in left_out) == sorted(strangers)
        assert all(each.reason for each in left_out)
        artifacts = [each.key for each in found if not isinstance(each, LeftOut)]
        assert artifacts == list(store.iter_keys())
        assert {"kept/a", "kept/b", "z"} <= set(artifacts)
        assert [each.key for each in telling.iter_found("kept") if not isinstance(each, LeftOut)] == [
            "kept/a",
            "kept/b",
        ]
        assert not any(isinstance(each, LeftOut) for each in telling.iter_found("kept"))
