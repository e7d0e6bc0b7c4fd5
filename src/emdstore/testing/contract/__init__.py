"""The store contract as a pytest suite: one class per group of clauses, and `StoreContract` with all of them."""

from __future__ import annotations

from emdstore.testing.contract.capabilities import CapabilityClauses
from emdstore.testing.contract.discretion import DiscretionClauses
from emdstore.testing.contract.harness import Clauses, StoreHarness
from emdstore.testing.contract.keys import KeyClauses
from emdstore.testing.contract.left_out import LeftOutClauses
from emdstore.testing.contract.links import LinkClauses
from emdstore.testing.contract.listing import ListingClauses
from emdstore.testing.contract.neighbours import NeighbourClauses
from emdstore.testing.contract.processes import ProcessClauses
from emdstore.testing.contract.sessions import SessionClauses
from emdstore.testing.contract.streaming import StreamingClauses
from emdstore.testing.contract.values import ValueClauses

__all__ = ["Clauses", "StoreContract", "StoreHarness"]


class StoreContract(
    KeyClauses,
    ValueClauses,
    ListingClauses,
    ProcessClauses,
    LinkClauses,
    DiscretionClauses,
    CapabilityClauses,
    StreamingClauses,
    SessionClauses,
    NeighbourClauses,
    LeftOutClauses,
):
    """Every clause of the contract; inherit from it and add a ``harness`` fixture.

    Each test needs an empty store, so the fixture has function scope. Clauses about an optional capability are skipped
    if the store does not have it, and those that need a hook if the harness lacks it.

    Examples
    --------
    >>> class TestMyStore(StoreContract):
    ...     @pytest.fixture
    ...     def harness(self, tmp_path):
    ...         return StoreHarness(lambda: MyStore(tmp_path))
    """
