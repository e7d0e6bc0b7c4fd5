from __future__ import annotations

import pytest

from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import (
    SupportsCreate,
    SupportsDelete,
    SupportsInfo,
    SupportsPlace,
    SupportsReplaceIf,
    SupportsStreaming,
)
from emdstore.testing import StoreContract, StoreHarness

CLAIMS = {SupportsInfo, SupportsStreaming, SupportsDelete, SupportsCreate, SupportsReplaceIf, SupportsPlace}


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def harness(self) -> StoreHarness:
        store = InMemoryArtifactStore()
        return StoreHarness(lambda: store, shared=False, claims=CLAIMS)


class TestNamedMemoryStore(StoreContract):
    """Opened again by its name, the store is the same."""

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest) -> StoreHarness:
        name = request.node.nodeid
        return StoreHarness(lambda: InMemoryArtifactStore(name), shared=False, claims=CLAIMS, rounds=5, many=50)
