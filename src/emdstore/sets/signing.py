"""Signing releases with SSH keys, by OpenSSH's own ``ssh-keygen -Y``.

A signature is of the release's file, byte by byte, and so of every byte that the release vouches for. It lies beside
that file, and OpenSSH checks it without emdstore, too.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from emdstore.errors import ArtifactChangedError, ArtifactNotFoundError, ReleaseError
from emdstore.sets.release import read_release, release_bytes, signature_key
from emdstore.stores.port import SupportsFlush
from emdstore.stores.replacing import put_over
from emdstore.stores.urls import StoreLike, as_source

NAMESPACE = "emdstore-release"
"""What signatures are made for, so that no other signature of the same key passes for one of a release."""

_PROGRAM = "ssh-keygen"


def sign_release(store: StoreLike, name: str, key: str | os.PathLike[str]) -> bytes:
    """Sign a release, and keep the signature beside it. There is one; the same key again changes nothing.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    name
        The release, or an alias.
    key
        The file of a private SSH key; or of a public one, whose private key an agent holds.

    Returns
    -------
    bytes
        The signature.

    Raises
    ------
    ReleaseError
        If it is signed already, OpenSSH is not installed, or refuses. Nothing was written.
    ReleaseNotFoundError, StoreError
        See `read_release`.
    """
    results = as_source(store)
    own = read_release(results, name).name
    signature = make_signature(release_bytes(results, own), key)
    try:
        put_over(results, signature_key(own), signature, None)
    except ArtifactChangedError:
        raise ReleaseError(f"the release {own!r} has another signature already", key=own) from None
    if isinstance(results, SupportsFlush):
        results.flush()
    return signature


def make_signature(data: bytes, key: str | os.PathLike[str]) -> bytes:
    """Sign bytes with an SSH key; see `sign_release`."""
    return _run(["-Y", "sign", "-q", "-n", NAMESPACE, "-f", os.fspath(key)], data, f"signing with {os.fspath(key)!r}")


def is_signed(store: StoreLike, name: str) -> bool:
    """Tell whether a release has a signature, whoever made it."""
    results = as_source(store)
    return results.exists(signature_key(read_release(results, name).name))


def check_signature(store: StoreLike, name: str, signers: str | os.PathLike[str]) -> str:
    """Return who signed a release, of those who may.

    Parameters
    ----------
    store
        The results store or a copy, a path or a URL.
    name
        The release, or an alias.
    signers
        A file of OpenSSH's format ``allowed_signers``: in each line who it is, and their public key.

    Raises
    ------
    ReleaseError
        If there is no signature, it is of other bytes, or of none of these.
    ReleaseNotFoundError, StoreError
        See `read_release`.
    """
    results = as_source(store)
    own = read_release(results, name).name
    try:
        signature = results.read_bytes(signature_key(own))
    except ArtifactNotFoundError:
        raise ReleaseError(f"the release {own!r} is not signed", key=own) from None
    told = f"the signature of the release {own!r}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "signature"
        file.write_bytes(signature)
        by = ["-s", str(file), "-f", os.fspath(signers)]
        found = _run(["-Y", "find-principals", *by], b"", told).decode().split("\n")[0]
        who = found.split(",")[0].strip()
        _run(["-Y", "verify", "-q", "-n", NAMESPACE, "-I", who, *by], release_bytes(results, own), told)
    return who


def _run(arguments: Sequence[str], data: bytes, what: str) -> bytes:
    try:
        done = subprocess.run([_PROGRAM, *arguments], input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise ReleaseError(f"{what} needs {_PROGRAM}, which comes with OpenSSH from 8.2 on") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ReleaseError(f"{what} failed: {said[-1]}")
    return done.stdout
