"""`SSHArtifactStore` by its far-end program: as a child of the test, and over a real OpenSSH server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.servers.sshd import NO_SSH
from tests.stores.test_contract_local import files_in, plant_strangers

from emdstore.stores.port import SupportsPath, SupportsScope, SupportsSession
from emdstore.stores.ssh import SSHArtifactStore
from emdstore.testing import StoreContract, StoreHarness
from emdstore.testing.contract.capabilities import CAPABILITIES

CLAIMS = set(CAPABILITIES) - {SupportsPath, SupportsSession, SupportsScope}


def harness_of(root: Path, url: str, **options: object) -> StoreHarness:
    keeps_the_connection = SSHArtifactStore(url, **options)
    return StoreHarness(
        lambda: SSHArtifactStore(url, **options),
        **files_in(root),
        claims=CLAIMS if keeps_the_connection else set(),
        plant_strangers=lambda: plant_strangers(root),
        rounds=5,
        many=50,
        unreachable=lambda: SSHArtifactStore(url, rsh="false", retries=0),
    )


@pytest.mark.slow
class TestFarEnd(StoreContract):
    """Without SSH in between: the client's command runs here."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "not made yet" / "store (°C)"
        return harness_of(root, f"ssh://here{root}", rsh=NO_SSH)
