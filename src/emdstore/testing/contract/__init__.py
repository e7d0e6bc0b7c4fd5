"""The store contract as a pytest suite: one class per group of clauses, and `StoreContract` that holds them all."""

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
    """Every clause of the port's contract; inherit it and give it a ``harness`` fixture.

    Each test starts on an empty place, so the fixture has the scope of a function. Clauses about an optional capability
    are skipped where the store does not claim it, those that need a hook where the harness has none.

    Examples
    --------
    >>> class TestMyStore(StoreContract):
    ...     @pytest.fixture
    ...     def harness(self, tmp_path):
    ...         return StoreHarness(lambda: MyStore(tmp_path))
    """
