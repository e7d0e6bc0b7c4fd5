"""Cut connections, lost, slow and wrong answers, at each request, on every kind of server that speaks HTTP."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest
from tests.servers.s3 import FaultProxy

from emdstore.errors import StoreUnavailableError
from emdstore.stores import ArtifactStore, SupportsCreate, SupportsReplaceIf, open_store

PAGE = b"<html><head><title>Sign in</title></head><body><form action='/login'></form></body></html>"
FAULTS: dict[str, dict[str, Any]] = {
    "cut while it is sent": {"kind": "cut-request"},
    "answer lost": {"kind": "drop-response"},
    "cut while it is answered": {"kind": "cut-response"},
    "busy": {"kind": "status", "status": 503},
    "another server answers": {"kind": "status", "status": 200, "body": PAGE},
    "silent": {"kind": "stall", "seconds": 0.6},
}
_folders = itertools.count()


@pytest.fixture(
    params=["moto", *(pytest.param(name, marks=pytest.mark.needs(name)) for name in ("google", "azure", "webdav"))]
)
def proxy(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    with FaultProxy(request.getfixturevalue(f"{request.param}_server")) as proxy:
        yield proxy


def behind(proxy: FaultProxy, **options: Any) -> Any:
    """Open a store of its own behind the proxy."""
    server: Any = proxy.server
    if hasattr(server, "root"):
        place = server.url(f"faults-{os.getpid()}-{next(_folders)}")
        return open_store(place, **server.options, **options)
    return open_store(f"{getattr(server, 'scheme', 's3')}://{server.make_bucket()}/p", **server.options, **options)


def insist(call: Callable[[], Any]) -> Any:
    """Do what a transfer does after an error that another attempt may mend."""
    for _ in range(20):
        try:
            return call()
        except StoreUnavailableError:
            time.sleep(0.02)
    return call()


def work(store: ArtifactStore) -> Iterator[Callable[[], object]]:
    """Everything that is asked of a server, one after the other; what returns something returns None or True."""
    any_store: Any = store
    yield lambda: store.write_bytes("a/one", b"first")
    yield lambda: store.write_bytes("a/one", b"value")
    yield lambda: store.write_bytes("gone", b"value")
    if isinstance(store, SupportsCreate):
        yield lambda: store.create_bytes("b", b"created")
    if isinstance(store, SupportsReplaceIf):
        yield lambda: store.replace_bytes("b", b"replaced", sha256(b"created").hexdigest())
    yield lambda: any_store.info("a/one").size == len(b"value")
    yield lambda: {"a/one", "gone"} <= set(store.iter_keys())
    yield lambda: store.read_bytes("a/one") == b"value"
    yield lambda: any_store.delete("gone")
    yield lambda: not store.exists("gone")


@pytest.mark.once
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_to_each_request_once_all_is_done_and_nothing_else(proxy: FaultProxy, fault: str) -> None:
    store = behind(proxy, timeout=0.4 if fault == "silent" else 20)
    insist(lambda: store.exists("connected"))
    struck = 0
    for nth, call in enumerate(work(store)):
        proxy.faults.clear()
        proxy.requests.clear()
        if fault != "silent" or nth % 4 == 0:  # which takes long
            proxy.fail(once_each=True, **FAULTS[fault])
        assert insist(call) in (None, True)
        struck += len(proxy.requests) > 1
    proxy.faults.clear()
    replaces: bool = isinstance(store, SupportsReplaceIf)
    wanted = {"a/one": b"value"} | ({"b": b"replaced"} if replaces else {})
    assert insist(lambda: {key: store.read_bytes(key) for key in store.iter_keys()}) == wanted
    assert struck >= (1 if fault == "silent" else 4)


@pytest.mark.once
def test_a_server_that_is_restarted_in_between_is_found_again(proxy: FaultProxy) -> None:
    store = behind(proxy)
    store.write_bytes("a", b"before")
    calls: list[Callable[[], object]] = [
        lambda: store.write_bytes("a", b"after"),
        lambda: list(store.iter_keys()),
        lambda: store.read_bytes("a"),
    ]
    for call in calls:
        proxy.go_away(0.1)
        insist(call)
    assert {key: store.read_bytes(key) for key in store.iter_keys()} == {"a": b"after"}
