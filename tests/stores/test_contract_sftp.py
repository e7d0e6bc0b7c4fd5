"""SFTP over OpenSSH's own server, without SSH."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from tests.servers.sftp import Pipes
from tests.stores.test_contract_local import files_in, plant_strangers

from emdstore.keys import validate_key, validate_prefix
from emdstore.per_process import PerProcess
from emdstore.stores.left_out import only_artifacts
from emdstore.stores.port import (
    SupportsCreate,
    SupportsDelete,
    SupportsFlush,
    SupportsInfo,
    SupportsLeftOut,
    SupportsStreaming,
)
from emdstore.stores.ssh.sftp import Sftp
from emdstore.testing import StoreContract, StoreHarness


@attrs.frozen
class SftpStore:
    root: str
    _sides: PerProcess[Sftp] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self):
        object.__setattr__(self, "_sides", PerProcess(lambda: Sftp(Pipes(), self.root, repr(self))))

    def __reduce__(self):
        return SftpStore, (self.root,)

    @property
    def side(self):
        return self._sides.get()

    def exists(self, key):
        return self.side.exists(validate_key(key))

    def read_bytes(self, key):
        return self.side.read_bytes(validate_key(key))

    def write_bytes(self, key, data):
        self.side.write_bytes(validate_key(key), data)

    def create_bytes(self, key, data):
        self.side.create_bytes(validate_key(key), data)

    def delete(self, key):
        self.side.delete(validate_key(key))

    def info(self, key):
        return self.side.info(validate_key(key))

    def iter_found(self, prefix=""):
        return self.side.iter_found(validate_prefix(prefix))

    def iter_info(self, prefix=""):
        return only_artifacts(self.iter_found(prefix), repr(self))

    def iter_keys(self, prefix=""):
        return (info.key for info in self.iter_info(prefix))

    def open_reader(self, key):
        return self.side.open_reader(validate_key(key))

    def open_writer(self, key):
        return self.side.open_writer(validate_key(key))

    def flush(self):
        self.side.flush()


class TestSftp(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "not made yet" / "store"
        return StoreHarness(
            lambda: SftpStore(str(root)),
            **files_in(root),
            claims={SupportsInfo, SupportsLeftOut, SupportsStreaming, SupportsDelete, SupportsCreate, SupportsFlush},
            plant_strangers=lambda: plant_strangers(root),
            rounds=10,
        )
