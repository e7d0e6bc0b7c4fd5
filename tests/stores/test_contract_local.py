from __future__ import annotations

from pathlib import Path

import pytest

from emdstore.stores.local import LocalArtifactStore
from emdstore.testing import StoreContract, StoreHarness
from emdstore.testing.contract.capabilities import CAPABILITIES


def files_in(root: Path) -> dict[str, object]:
    """Return the harness' hooks for a store whose artifacts are the files of a folder, by plain file operations."""

    def put(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get(key: str) -> bytes | None:
        try:
            return (root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def keys() -> set[str]:
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}

    def link(key: str, target: str) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).symlink_to(target)

    return {"raw_put": put, "raw_get": get, "raw_keys": keys, "link": link}


class TestLocalStore(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "not made yet" / "store"
        return StoreHarness(lambda: LocalArtifactStore(root), **files_in(root), claims=CAPABILITIES)


class TestDurableLocalStore(StoreContract):
    """The values and streams of ``durability="object"``; that they survive a power cut is beyond a test."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "store"
        return StoreHarness(
            lambda: LocalArtifactStore(root, durability="object"),
            **files_in(root),
            claims=CAPABILITIES,
            rounds=5,
            many=50,
        )
