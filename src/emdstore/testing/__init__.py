"""Test tools for code that uses emdstore: the store contract as a pytest suite, and stores that fail on demand.

`StoreContract` tests the contract of stores, clause by clause; a few lines run it on your own adapter (see
`StoreHarness`). `run_store_state_machine` compares a store with a dict over random sequences of calls. Both need
``pip install 'emdstore[testing]'``. `RecordingStore` and `FaultyStore` wrap any store and need no extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from emdstore.errors import MissingExtraError
from emdstore.testing.doubles import Call, Fault, FaultyStore, RecordingStore

if TYPE_CHECKING:
    from emdstore.testing.contract import StoreContract, StoreHarness
    from emdstore.testing.machine import run_store_state_machine, store_state_machine

__all__ = [
    "Call",
    "Fault",
    "FaultyStore",
    "RecordingStore",
    "StoreContract",
    "StoreHarness",
    "run_store_state_machine",
    "store_state_machine",
]

# Only these need pytest and hypothesis; the wrappers above work with any test runner.
_SUITE = {
    "StoreContract": "emdstore.testing.contract",
    "StoreHarness": "emdstore.testing.contract",
    "run_store_state_machine": "emdstore.testing.machine",
    "store_state_machine": "emdstore.testing.machine",
}


def __getattr__(name: str) -> object:
    if name not in _SUITE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import hypothesis  # noqa: F401
        import pytest
    except ImportError as error:
        raise MissingExtraError.of(f"{__name__}.{name}", "testing") from error
    # Makes failing clauses show the compared values.
    pytest.register_assert_rewrite("emdstore.testing.contract", "emdstore.testing.machine")
    return getattr(import_module(_SUITE[name]), name)
