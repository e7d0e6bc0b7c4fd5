"""The store keeps emdstore's contract, and opens by its scheme: pytest test_contract.py"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from emdstore_sqlar import SQLArchiveStore

from emdstore import StoreURLError, open_store, transfer
from emdstore.testing import MadeSet, StoreContract, StoreHarness


class TestSQLArchiveStore(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        path = tmp_path / "results.sqlar"
        return StoreHarness(lambda: SQLArchiveStore(path), claims=(), many=1_100, rounds=3)


def test_it_opens_by_its_scheme(tmp_path: Path) -> None:
    store = open_store(f"sqlar://{tmp_path}/results.sqlar", timeout=5)
    store.write_bytes("a/b", b"1")
    assert store == SQLArchiveStore(tmp_path / "results.sqlar")
    assert open_store(f"SQLAR://{tmp_path}/results.sqlar").read_bytes("a/b") == b"1"
    with pytest.raises(StoreURLError, match="names no file"):
        open_store("sqlar://")


def test_sets_move_into_it(
    tmp_path: Path, emds_set: Callable[..., MadeSet], assert_published: Callable[..., object]
) -> None:
    made = emds_set("mine/bias/historical/1", publish_in=tmp_path / "results")
    archive = f"sqlar://{tmp_path}/results.sqlar"
    transfer(tmp_path / "results", archive).raise_for_failures()
    assert_published(archive, made.fragment)
