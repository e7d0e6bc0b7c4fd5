"""Test tools for code that uses emdstore: fixtures, the store contract as a suite, and stores that fail on demand.

pytest finds the fixtures by itself: ``artifact_store``, ``memory_workspace``, ``s3_server``, ``emds_set`` and
``assert_published``; see `emdstore.testing.plugin`.

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
    from emdstore.testing.published import MadeSet, assert_published, make_set
    from emdstore.testing.servers import S3Server, run_s3_server

__all__ = [
    "Call",
    "Fault",
    "FaultyStore",
    "MadeSet",
    "RecordingStore",
    "S3Server",
    "StoreContract",
    "StoreHarness",
    "assert_published",
    "make_set",
    "run_s3_server",
    "run_store_state_machine",
    "store_state_machine",
]

# Imported when they are used: pytest loads this package with its plugin, in every run.
_LATER = {
    "MadeSet": "emdstore.testing.published",
    "S3Server": "emdstore.testing.servers",
    "assert_published": "emdstore.testing.published",
    "make_set": "emdstore.testing.published",
    "run_s3_server": "emdstore.testing.servers",
}

# Only these need pytest and hypothesis; the others work with any test runner.
_SUITE = {
    "StoreContract": "emdstore.testing.contract",
    "StoreHarness": "emdstore.testing.contract",
    "run_store_state_machine": "emdstore.testing.machine",
    "store_state_machine": "emdstore.testing.machine",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
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
