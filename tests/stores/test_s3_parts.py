"""How S3ArtifactStore reads large objects: in parts, some of them ahead, all of one version."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.s3 import FaultProxy, Kind, Request, S3Server

from emdstore.errors import (
    ArtifactNotFoundError,
    DamagedOnTheWayError,
    SourceChangedError,
    StoreError,
    StoreUnavailableError,
)
from emdstore.per_process import PerProcess
from emdstore.stores.local.store import LocalArtifactStore
from emdstore.stores.objects import streams
from emdstore.stores.port import Copied
from emdstore.stores.s3.store import MIB, S3ArtifactStore
from emdstore.transfers.routes import Route, Stores

LARGE = bytes(range(251)) * (19 * MIB // 251)
PARTS = r"^GET /[^/]*/large$"
READERS = 12
"""More than may all read ahead at once."""


@attrs.frozen
class Bucket:
    """A bucket with a large object in it, seen through a proxy."""

    proxy: FaultProxy
    behind: S3Server
    name: str

    @property
    def store(self) -> S3ArtifactStore:
        return S3ArtifactStore(f"s3://{self.name}", **self.proxy.server.options, retries=0)

    def put(self, key: str, data: bytes) -> None:
        """Write behind the proxy's back."""
        self.behind.client().put_object(Bucket=self.name, Key=key, Body=data)

    def chunks(self, key: str) -> Iterator[bytes]:
        with self.store.open_reader(key) as reader:
            while chunk := reader.read():
                yield chunk

    def read(self, key: str) -> bytes:
        return b"".join(self.chunks(key))


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every server for a distant one, however quick it is."""
    monkeypatch.setattr(streams, "_NEAR_SECONDS", 0)


@pytest.fixture
def near(far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_NEAR_SECONDS", 60)


@pytest.fixture
def bucket(s3_faults: FaultProxy, seaweed_server: S3Server) -> Bucket:
    bucket = Bucket(s3_faults, seaweed_server, seaweed_server.make_bucket())
    bucket.put("large", LARGE)
    return bucket


def counted(bucket: Bucket) -> list[int]:
    """Note from now on, at each request, how many are on their way at once."""
    under_way: list[Request] = []
    counts = [0]

    def count(request: Request) -> None:
        under_way.append(request)
        counts.append(len(under_way))
        time.sleep(0.1)
        under_way.remove(request)

    bucket.proxy.before = count
    return counts


def read_all(bucket: Bucket) -> None:
    assert bucket.read("large") == LARGE


def spans(bucket: Bucket) -> list[tuple[int, int]]:
    """Return the ranges that were asked for; they cover the object, each byte once."""
    ranges = [request.headers["range"].removeprefix("bytes=") for request in bucket.proxy.seen(PARTS)]
    spans = sorted((int(start), int(last) + 1) for start, last in (each.split("-") for each in ranges))
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(LARGE)
    return spans


def test_of_a_distant_object_several_parts_are_on_their_way_at_once(bucket: Bucket) -> None:
    under_way = counted(bucket)
    read_all(bucket)
    assert 2 < max(under_way) <= streams._MOST_AHEAD
    assert {end - start for start, end in spans(bucket)[1:-1]} == {MIB}


def test_of_a_near_object_all_after_the_first_part_is_one_request(bucket: Bucket, near: None) -> None:
    read_all(bucket)
    assert spans(bucket) == [(0, 4 * MIB), (4 * MIB, len(LARGE))]


def test_what_is_no_larger_than_a_part_is_one_request(bucket: Bucket) -> None:
    for size in (1, 4 * MIB):
        bucket.put("one", LARGE[:size])
        bucket.proxy.requests.clear()
        assert bucket.read("one") == LARGE[:size]
        assert len(bucket.proxy.requests) == 1


def test_of_many_readers_the_later_ones_begin_with_less(
    bucket: Bucket, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_firsts", PerProcess(lambda: threading.Semaphore(2)))
    with contextlib.suppress(ArtifactNotFoundError), bucket.store.open_reader("none"):  # keeps no place
        pass
    with contextlib.ExitStack() as opened:
        for _ in range(2):
            opened.enter_context(bucket.store.open_reader("large"))
        bucket.proxy.requests.clear()
        read_all(bucket)
        assert spans(bucket) == [(0, MIB), (MIB, len(LARGE))]
    bucket.proxy.requests.clear()
    read_all(bucket)
    assert spans(bucket) == [(0, 4 * MIB), (4 * MIB, len(LARGE))]


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_part_of_another_version_is_an_error(bucket: Bucket, where: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(where)
    number = 2 if where == "near" else 3

    def replace(_: Request) -> None:
        if len(bucket.proxy.seen(PARTS)) == number:
            bucket.put("large", bytes(len(LARGE)))

    bucket.proxy.before = replace
    with pytest.raises(SourceChangedError, match=r"'large' .* changed while it was read; run it again"):
        bucket.read("large")


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_server_that_stops_to_heed_ranges_leads_to_no_wrong_bytes(
    bucket: Bucket, where: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(where)
    with bucket.store.open_reader("large") as reader:
        bucket.proxy.withheld.add("range")
        with pytest.raises(StoreError, match="'large'"):
            b"".join(iter(reader.read, b""))


@pytest.mark.parametrize(("where", "said"), [("near", "did not have"), ("far", "1048575 bytes where 1048576 were")])
def test_a_part_that_is_shorter_than_its_range_is_an_error(
    bucket: Bucket, where: str, said: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(where)
    with pytest.raises(SourceChangedError, match=f"'large' .* {said}"):
        read_while_parts_fail(bucket, "shorten-response", times=1)


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_flipped_bit_in_a_later_part_is_found(bucket: Bucket, where: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(where)
    with pytest.raises(DamagedOnTheWayError, match="'large'"):
        read_while_parts_fail(bucket, "flip-response", times=1)


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_part_whose_connection_breaks_is_asked_for_again(
    bucket: Bucket, where: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(where)
    with attrs.evolve(bucket.store, retries=2).open_reader("large") as reader:
        bucket.proxy.fail("cut-response", PARTS, times=1)
        assert b"".join(iter(reader.read, b"")) == LARGE


def test_bytes_whose_digest_is_known_are_not_compared_with_another_checksum(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, digest = LocalArtifactStore(tmp_path), hashlib.sha256(LARGE).hexdigest()
    bucket.proxy.fail("flip-response", PARTS, times=1)  # then the whole is read again, with the checksum
    with Route(Stores(bucket.store, dest)) as route:
        assert route.copy("large", len(LARGE), digest) == Copied(len(LARGE), digest)
        assert dest.read_bytes("large") == LARGE
        monkeypatch.setattr(hashlib, "md5", None)
        assert route.copy("large", len(LARGE), digest) == Copied(len(LARGE), digest)


def test_bytes_that_are_not_what_is_known_are_compared_with_the_stores_checksum(bucket: Bucket, tmp_path: Path) -> None:
    bucket.proxy.fail("flip-response", PARTS)
    with Route(Stores(bucket.store, LocalArtifactStore(tmp_path))) as route, pytest.raises(DamagedOnTheWayError):
        route.copy("large", len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert not list(tmp_path.iterdir())


def read_while_parts_fail(bucket: Bucket, kind: Kind, times: int | None = None) -> None:
    with bucket.store.open_reader("large") as reader:
        bucket.proxy.fail(kind, PARTS, times=times)  # none but the first has been asked for
        while reader.read():
            pass


@pytest.mark.parametrize("kind", ["cut-response", "status"])
def test_a_part_that_does_not_come_is_an_error(bucket: Bucket, kind: Kind) -> None:
    with pytest.raises(StoreUnavailableError, match="'large'"):
        read_while_parts_fail(bucket, kind)


def test_readers_that_are_read_in_turns_all_come_to_their_end(bucket: Bucket) -> None:
    readers = [bucket.chunks("large") for _ in range(READERS)]
    begun = [next(reader) for reader in readers]
    for reader, start in zip(reversed(readers), reversed(begun), strict=True):
        assert start + b"".join(reader) == LARGE


@pytest.mark.slow
def test_readers_that_are_left_or_fail_take_nothing_from_the_next(bucket: Bucket) -> None:
    for _ in range(READERS):
        with bucket.store.open_reader("large") as reader:
            reader.read()
    for _ in range(READERS):
        with pytest.raises(StoreUnavailableError):
            read_while_parts_fail(bucket, "status")
        bucket.proxy.faults.clear()
    under_way = counted(bucket)
    read_all(bucket)
    assert max(under_way) > 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_reads_ahead_whatever_its_parent_was_reading(bucket: Bucket) -> None:
    readers = [bucket.chunks("large") for _ in range(READERS)]
    for reader in readers:
        next(reader)
    child = multiprocessing.get_context("fork").Process(target=read_all, args=(bucket,))
    under_way = counted(bucket)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert max(under_way) > 2


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("withheld", [set[str](), {"range"}], ids=["ranges", "no ranges"])
def test_what_has_no_parts_is_read_as_one(moto_server: S3Server, data: bytes, withheld: set[str]) -> None:
    with FaultProxy(moto_server) as proxy:  # before a server that checks no signature
        proxy.withheld = withheld
        bucket = Bucket(proxy, moto_server, moto_server.make_bucket())
        bucket.put("k", data)
        assert bucket.read("k") == data
