"""`SSHArtifactStore` by SFTP, with OpenSSH's own server as the child of the test in place of an SSH client."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.servers.sftp import client_of_server
from tests.stores.test_contract_local import files_in, plant_strangers

from emdstore.stores.port import SupportsPath, SupportsReplaceIf, SupportsScope, SupportsSession
from emdstore.stores.ssh import SSHArtifactStore
from emdstore.testing import StoreContract, StoreHarness
from emdstore.testing.contract.capabilities import CAPABILITIES

CLAIMS = set(CAPABILITIES) - {SupportsPath, SupportsSession, SupportsScope, SupportsReplaceIf}


class TestSftp(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "not made yet" / "store (°C)"
        url, rsh = f"sftp://here{root}", client_of_server()
        return StoreHarness(
            lambda: SSHArtifactStore(url, rsh=rsh),
            **files_in(root),
            claims=CLAIMS,
            plant_strangers=lambda: plant_strangers(root),
            unreachable=lambda: SSHArtifactStore(url, rsh="false", retries=0),
            garbled=lambda: SSHArtifactStore(url, rsh="sh -c 'echo Welcome; exec cat'", retries=0),
            rounds=5,
        )
