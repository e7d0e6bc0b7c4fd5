"""Signatures of releases: made and checked by OpenSSH, of the release's file byte by byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.sets.published import publish

from emdstore import transfer
from emdstore.errors import ReleaseError
from emdstore.sets.release import RELEASES, list_releases, point_alias
from emdstore.sets.releasing import create_release
from emdstore.sets.signing import NAMESPACE, check_signature, is_signed, sign_release
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifactStore:
    results = LocalArtifactStore(tmp_path / "results")
    publish(results)
    return results


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Keys of two people, and a file of who may sign: only one of them."""
    for who in ("ann", "eve"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / who], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"ann@example.org {(tmp_path / 'ann.pub').read_text()}")
    return {"ann": tmp_path / "ann", "eve": tmp_path / "eve", "signers": signers}


def test_a_signature_tells_who_stands_behind_a_release_also_in_a_copy(
    store: LocalArtifactStore, keys: dict[str, Path]
) -> None:
    create_release(store, "2026.1", key=keys["ann"])
    point_alias(store, "production", "2026.1")
    assert check_signature(store, "production", keys["signers"]) == "ann@example.org"
    copy = InMemoryArtifactStore()
    transfer(store, copy, release="2026.1").raise_for_failures()
    assert check_signature(copy, "2026.1", keys["signers"]) == "ann@example.org"
    folder = store.local_path(RELEASES)
    by_hand = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", "ann@example.org", "-f", keys["signers"]]
    with (folder / "2026.1.json").open("rb") as signed:
        subprocess.run([*by_hand, "-s", folder / "2026.1.json.sig"], stdin=signed, check=True)


def test_a_signature_of_another_key_or_of_other_bytes_is_none(store: LocalArtifactStore, keys: dict[str, Path]) -> None:
    create_release(store, "2026.1")
    assert not is_signed(store, "2026.1")
    with pytest.raises(ReleaseError, match="is not signed"):
        check_signature(store, "2026.1", keys["signers"])
    sign_release(store, "2026.1", keys["eve"])
    with pytest.raises(ReleaseError, match="No principal matched"):
        check_signature(store, "2026.1", keys["signers"])
    with pytest.raises(ReleaseError, match="has another signature already"):
        sign_release(store, "2026.1", keys["ann"])
    create_release(store, "2026.2", note="signed", key=keys["ann"])
    changed = store.read_bytes(f"{RELEASES}/2026.2.json").replace(b"signed", b"forged")
    store.write_bytes(f"{RELEASES}/2026.2.json", changed)
    with pytest.raises(ReleaseError, match="failed"):
        check_signature(store, "2026.2", keys["signers"])


def test_what_cannot_be_signed_is_not_released(store: LocalArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"signing with '{tmp_path}/nothing' failed"):
        create_release(store, "2026.1", key=tmp_path / "nothing")
    assert list_releases(store) == []
