from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import SupportsDigest
from emdstore.testing import StoreContract, StoreHarness
from emdstore.testing.contract.capabilities import CAPABILITIES

CLAIMS = set(CAPABILITIES) - {SupportsDigest}


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


def plant_strangers(root: Path) -> list[str]:
    """Put things into a folder that no key can name, or that are no files; return what they are called."""
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(root):  # such a name has to be short
        listening.bind("socket")
    (root / "leads out").symlink_to("/etc/passwd")
    (root / "nowhere").symlink_to("not there")
    (root / "circle").symlink_to(".")
    (root / "a\\b").write_bytes(b"x")
    (root / "bell\x07").write_bytes(b"x")
    (root / os.fsdecode(b"m\xfcll")).write_bytes(b"x")
    (root / os.fsdecode(b"gew\xe4sser")).mkdir()
    (root / os.fsdecode(b"gew\xe4sser") / "depth").write_bytes(b"x")
    return ["pipe", "socket", "leads out", "nowhere", "circle", "a\\b", "bell\\x07", "m\\xfcll", "gew\\xe4sser/"]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "not made yet" / "store"
        return StoreHarness(
            lambda: LocalArtifactStore(root),
            **files_in(root),
            claims=CLAIMS,
            plant_strangers=lambda: plant_strangers(root),
        )


class TestDurableLocalStore(StoreContract):
    """The values and streams of ``durability="object"``; that they survive a power cut is beyond a test."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "store"
        return StoreHarness(
            lambda: LocalArtifactStore(root, durability="object"),
            **files_in(root),
            claims=CLAIMS,
            rounds=5,
            many=50,
        )
