"""What S3ArtifactStore promises beyond the contract, against real servers."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import socket
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.servers.s3 import FaultProxy, S3Server, free_ports

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    IntegrityError,
    InvalidKeyError,
    KeyConflictError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    StoreURLError,
    UnsupportedError,
)
from emdstore.sets.transfer import transfer
from emdstore.stores.replacing import put_over
from emdstore.stores.s3.http import ServerConnection
from emdstore.stores.s3.store import MIB, S3ArtifactStore
from emdstore.transfers import TransferProgress

NASTY = [
    "a b", "a%20b", "a+b", "a#b", "a?b", "~t", "caf\u00e9", "cafe\u0301", "st*r", ".hidden", "b/..y", "x%2Fy", "%",
    "a&b=c;d,e$!", "(°C)", "[1]", "{q}", "it's \"q\"", "<t>", "^`|", "a:b@c", "\U0001f600", "\uff5e", " lead", "trail ",
    "b/...", "%2e%2e", "b/x", "b-", "b.txt", "b0",
]  # fmt: skip


class Place:
    """A fresh bucket: as a store, and as another client sees it."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.client = server.client()
        self.bucket = server.make_bucket()

    def store(self, prefix: str = "", **options: Any) -> S3ArtifactStore:
        return S3ArtifactStore(f"s3://{self.bucket}/{prefix}", **{**self.server.options, **options})

    def names(self) -> set[str]:
        return {each["Key"] for each in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])}

    def put(self, name: str, data: bytes = b"x") -> None:
        self.client.put_object(Bucket=self.bucket, Key=name, Body=data)

    def get(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
        return body

    def uploads(self) -> list[str]:
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]


@pytest.fixture
def place(s3_server: S3Server) -> Place:
    return Place(s3_server)


@pytest.fixture
def strict(seaweed_server: S3Server) -> Place:
    """A bucket of the server that checks signatures and digests."""
    return Place(seaweed_server)


@pytest.fixture
def faulty(s3_faults: FaultProxy, strict: Place) -> tuple[FaultProxy, S3ArtifactStore]:
    """A store that sees the strict server through a proxy, and does not try again."""
    return s3_faults, S3ArtifactStore(f"s3://{strict.bucket}/p", **s3_faults.server.options, retries=0)


CROWD = [f"k{n:04}" for n in range(2_005)]


@pytest.fixture(scope="module")
def crowded(seaweed_server: S3Server) -> Place:
    """A bucket with so many objects, below `p`, that it is listed on three pages; not to be changed."""
    place = Place(seaweed_server)
    store = place.store("p")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write_bytes(key, b"x"), CROWD))
    return place


# -- keys --------------------------------------------------------------------------------------------------------------


def test_another_client_sees_exactly_the_keys_that_were_written(place: Place) -> None:
    store = place.store("pre fix%41")
    for key in NASTY:
        store.write_bytes(key, key.encode())
    assert place.names() == {f"pre fix%41/{key}" for key in NASTY}
    assert list(store.iter_keys()) == sorted(NASTY)
    assert {key: store.read_bytes(key) for key in NASTY} == {key: key.encode() for key in NASTY}
    assert list(store.scope("b").iter_keys()) == ["...", "..y", "x"]


def test_a_key_that_is_too_long_with_the_prefix_is_refused_before_any_request(place: Place) -> None:
    folder = "f" * 200
    key = "/".join(["k" * 200] * 5)[: 1024 - 150]
    with pytest.raises(InvalidKeyError, match="shorter prefix"):
        place.store(folder).write_bytes(key, b"")
    assert place.names() == set()


@pytest.mark.parametrize("between", ["folders", "buckets"])
def test_copies_on_the_server_keep_every_key_exact(place: Place, between: str) -> None:
    source = place if between == "folders" else Place(place.server)
    for key in NASTY:
        source.put(f"one/{key}", key.encode())
    session = place.store("two").copy_from(source.store("one"))
    assert session is not None
    with session:
        for key in NASTY:
            copied = session.copy(key)
            assert (copied.size, copied.sha256) == (None, None)
        with pytest.raises(ArtifactNotFoundError):
            session.copy("absent")
    assert place.store("two").read_bytes("cafe\u0301") == "cafe\u0301".encode()
    assert place.names() | source.names() == {f"{folder}/{key}" for folder in ("one", "two") for key in NASTY}


@pytest.mark.parametrize("between", ["folders", "buckets"])
def test_a_transfer_inside_a_server_moves_no_bytes_and_counts_them_all(
    s3_faults: FaultProxy, strict: Place, between: str
) -> None:
    from_bucket = strict.bucket if between == "folders" else strict.server.make_bucket()
    source, dest = (
        S3ArtifactStore(url, **s3_faults.server.options)
        for url in (f"s3://{from_bucket}/one", f"s3://{strict.bucket}/two")
    )
    data = {f"folder/{number}": b"x" * (number + 1) for number in range(20)}
    for key, value in data.items():
        source.write_bytes(key, value)
    told: list[TransferProgress] = []
    report = transfer(source, dest, on_progress=told.append)
    assert {each.key: each.size for each in report.outcomes} == {key: len(value) for key, value in data.items()}
    assert report.ok
    assert report.bytes_copied == told[-1].bytes_done == sum(map(len, data.values()))
    assert s3_faults.seen(r"GET /[^/]+/(one|two)/") == []
    assert {key: dest.read_bytes(key) for key in dest.iter_keys()} == data


def test_copies_on_the_server_are_not_offered_between_places_that_it_cannot_copy_between(place: Place) -> None:
    other = S3ArtifactStore(f"s3://{place.server.make_bucket()}", **place.server.options)
    assert place.store(storage_class="STANDARD_IA").copy_from(other) is None
    assert place.store(metadata={"project": "x"}).copy_from(other) is None
    assert place.store().copy_from(place.store(secret_access_key="another")) is None
    assert place.store().copy_from(place.store(endpoint_url="http://127.0.0.1:9")) is None


def test_what_is_too_large_to_copy_in_one_request_is_copied_in_parts_or_else_streamed(
    faulty: tuple[FaultProxy, S3ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, store = faulty
    source, dest = store.scope("one"), store.scope("two")
    source.write_bytes("k", b"0123456789")
    refusal = b"<Error><Code>InvalidRequest</Code><Message>The specified copy source is too large</Message></Error>"
    proxy.fail("status", "PUT .*/two/k", status=400, body=refusal, times=1)
    session = dest.copy_from(source)
    assert session is not None
    with pytest.raises(StoreError, match="too large"):
        session.copy("k")
    monkeypatch.setattr("emdstore.stores.objects.copies.LARGEST_COPY", 9)
    proxy.fail("status", "PUT .*/two/k", status=400, body=refusal, times=1)
    assert session.copy("k").size is None
    assert dest.read_bytes("k") == b"0123456789"
    dest.delete("k")
    proxy.fail("status", "PUT .*/two/k", status=400, body=refusal, times=1)
    proxy.fail("status", "POST .*/two/k.uploads", status=501, body=b"<Error><Code>NotImplemented</Code></Error>")
    copied = session.copy("k")
    assert copied.size == 10
    assert copied.sha256 is not None
    assert dest.read_bytes("k") == b"0123456789"


# -- listing -----------------------------------------------------------------------------------------------------------


def test_what_is_no_artifact_is_left_out_of_the_listing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("p/dir/", "p/", "p/sub/k", "p/ok", "p/.emdstore-left"):
        place.put(name, b"" if name.endswith("/") else b"x")
    place.put("p/empty", b"")
    store = place.store("p")
    assert list(store.iter_keys()) == ["empty", "ok", "sub/k"]
    assert [info.key for info in store.iter_info()] == ["empty", "ok", "sub/k"]
    assert not store.exists("dir")
    assert ".emdstore-left" in caplog.text


@pytest.mark.parametrize("in_order", [True, False])
def test_a_name_with_a_leading_slash_is_no_artifact(moto_server: S3Server, in_order: bool) -> None:
    place = Place(moto_server)
    for name in ("/lead", "/zlead", "//", "-", "0", "full", "mark/", "z"):
        place.put(name, b"" if name == "mark/" else b"x")
    assert list(place.store(in_order=in_order).iter_keys()) == ["-", "0", "full", "z"]


STRANGE = ["p/b//c", "p//", "p//x", "p/z//"]


@pytest.mark.parametrize("at_once", [2, 5_000])
@pytest.mark.parametrize("in_order", [True, False])
def test_names_that_the_engine_cannot_list_hide_nothing(
    moto_server: S3Server, at_once: int, in_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emdstore.stores.objects.listing.SORTED_AT_ONCE", at_once)
    place = Place(moto_server)
    keys = ["a", "a b+c", "a%20b", "b/1", "b/2", "b/3", "f", "z/1"]
    for name in (*(f"p/{key}" for key in keys), *STRANGE, "other"):
        place.put(name)
    store = place.store("p", in_order=in_order)
    assert list(store.iter_keys()) == keys
    assert list(store.iter_keys("b")) == ["b/1", "b/2", "b/3"]
    infos = list(store.iter_info())
    assert [(info.key, info.size, info.version) for info in infos] == [
        (key, 1, store.info(key).version) for key in keys
    ]
    assert all(abs(info.modified - store.info(info.key).modified) < 1 for info in infos)


def test_listings_are_signed_and_turn_pages(crowded: Place) -> None:
    assert list(crowded.store("p").iter_keys()) == CROWD
    with pytest.raises(StoreAccessError):
        list(crowded.store("p", secret_access_key="WRONG").iter_keys())
    with pytest.raises(StoreUnavailableError):
        list(crowded.store("p", endpoint_url="http://127.0.0.1:1", retries=0).iter_keys())


@pytest.mark.parametrize("at_once", [3, 5_000])
def test_the_order_is_that_of_the_keys_bytes_on_every_server(
    place: Place, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emdstore.stores.objects.listing.SORTED_AT_ONCE", at_once)
    keys = [
        "a-b",
        "a.txt",
        "a/x",
        "a/x y",
        "a/x/1",
        "a/x/2",
        "a/x/3",
        "a/x/4",
        "a0",
        "b",
        "b/c",
        "é",
        "\uff5e",
        "\U0001f600",
    ]
    store = place.store("p")
    for key in keys:
        store.write_bytes(key, b"")
    place.put("other")
    assert list(store.iter_keys()) == sorted(keys)
    assert list(store.iter_keys("a")) == [key for key in sorted(keys) if key.startswith("a/")]
    assert list(store.iter_keys("a/x")) == [f"a/x/{n}" for n in (1, 2, 3, 4)]
    assert list(store.iter_keys("nothing")) == []


def test_a_server_that_was_trusted_and_lists_out_of_order_is_found_out(strict: Place) -> None:
    for name in ("a/x", "a-b"):
        strict.put(name)
    with pytest.raises(StoreError, match="in_order=False"):
        list(strict.store(in_order=True).iter_keys())


def test_pages_join_without_gaps_or_repeats_and_come_as_they_are_asked_for(
    s3_faults: FaultProxy, crowded: Place
) -> None:
    listing = S3ArtifactStore(f"s3://{crowded.bucket}/p", **s3_faults.server.options, in_order=True).iter_keys()
    assert s3_faults.requests == []
    assert next(listing) == CROWD[0]
    assert len(s3_faults.seen("list-type=2")) <= 2
    assert [CROWD[0], *listing] == CROWD


NO_LISTINGS = {
    "an error": b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>try again</Message></Error>",
    "a login page": b"<html><body><form action='/login'/></body></html>",
    "nothing": b"",
    "a part": b"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/k",
    "no end": b"<ListBucketResult><Name>b</Name></ListBucketResult>",
    "no way on": b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
    "another folder's": b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>q/k</Key><Size>1</Size>"
    b"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>",
    "no size": b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/k</Key><Size>many</Size>"
    b"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>",
}


@pytest.mark.parametrize("page", ["first", "second"])
@pytest.mark.parametrize("body", NO_LISTINGS.values(), ids=NO_LISTINGS)
def test_what_is_no_page_of_the_listing_is_an_error_and_never_its_end(
    s3_faults: FaultProxy, crowded: Place, page: str, body: bytes
) -> None:
    store = S3ArtifactStore(f"s3://{crowded.bucket}/p", **s3_faults.server.options, retries=0)
    asked = "continuation-token" if page == "second" else "list-type=2"
    s3_faults.fail("status", asked, status=200, body=body)
    with pytest.raises(StoreUnavailableError, match="cannot list"):
        list(store.iter_keys())
    s3_faults.faults.clear()
    s3_faults.fail("status", asked, status=200, body=body, times=2)
    assert list(attrs.evolve(store, retries=3).iter_keys()) == CROWD


@pytest.mark.parametrize("prefix", ["p", "a b+c/é~ü", "x=1&y=2", "100%"])
def test_requests_beside_the_engines_are_signed_whatever_is_in_a_name(strict: Place, prefix: str) -> None:
    store = strict.store(prefix)
    store.write_bytes("k", b"x")
    assert list(store.iter_keys()) == ["k"]
    with ServerConnection(store.ground) as server:
        assert server.head(store.ground.object_name("k")).headers["content-length"] == "1"


def test_the_region_and_the_token_of_the_environment_are_in_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "AK", "SECRET_ACCESS_KEY": "SK", "SESSION_TOKEN": "T"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    url, headers = S3ArtifactStore("s3://bucket/p").ground.signed("GET", "a b", {"x": "1"})
    assert url == "https://s3.eu-north-1.amazonaws.com/bucket/a%20b?x=1"
    assert headers["x-amz-security-token"] == "T"
    assert "Credential=AK/" in headers["authorization"]
    assert "/eu-north-1/s3/" in headers["authorization"]


def test_a_listing_that_is_cut_off_is_taken_again(faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place) -> None:
    proxy, store = faulty
    strict.put("p/k")
    proxy.fail("cut-response", "list-type=2", times=1)
    with pytest.raises(StoreUnavailableError):
        list(store.iter_keys())
    proxy.fail("cut-response", "list-type=2", times=1)
    assert list(attrs.evolve(store, retries=1).iter_keys()) == ["k"]


def test_a_listing_while_another_process_writes_shows_what_was_there_before(strict: Place) -> None:
    store, other = strict.store("p"), strict.store("p")
    for n in range(20):
        other.write_bytes(f"k{n:02}", b"")
        assert list(store.iter_keys())[-1] == f"k{n:02}"
        assert store.exists(f"k{n:02}")
    other.delete("k00")
    assert next(store.iter_keys()) == "k01"
    other.write_bytes("k01", b"new")
    assert store.info("k01").size == 3


# -- large objects -----------------------------------------------------------------------------------------------------


def test_a_small_object_is_one_request_and_a_large_one_goes_up_in_parts(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place
) -> None:
    proxy, store = faulty
    with store.open_writer("small") as writer:
        writer.write(b"ab")
        writer.write(b"cd")
    assert [request.method for request in proxy.requests] == ["PUT"]
    data = bytes(range(256)) * (20 * MIB // 256)
    with store.open_writer("large") as writer:
        for start in range(0, len(data), MIB):
            writer.write(data[start : start + MIB])
            assert "p/large" not in strict.names()
    store.write_bytes("whole", data)
    assert strict.get("p/small") == b"abcd"
    assert strict.get("p/large") == strict.get("p/whole") == data
    parts = math.ceil(len(data) / store.part_size)
    assert parts > 1
    assert len(proxy.seen("PUT .*/large.partNumber=")) == len(proxy.seen("PUT .*/whole.partNumber=")) == parts
    with store.open_reader("large") as reader:
        sizes = []
        while chunk := reader.read():
            sizes.append(len(chunk))
        assert reader.info.size == sum(sizes) == len(data)
        assert max(sizes) <= 256 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 20 * MIB], ids=["small", "in parts"])
def test_a_writer_that_is_left_by_an_error_leaves_nothing(place: Place, size: int) -> None:
    store = place.store("p")
    store.write_bytes("k", b"old")

    def write_and_fail() -> None:
        with store.open_writer("k") as writer:
            writer.write(b"x" * size)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert place.names() == {"p/k"}
    assert place.get("p/k") == b"old"
    assert place.uploads() == []


@pytest.mark.parametrize("step", ["POST .*uploads", "partNumber=2", "partNumber=3", "POST .*uploadId"])
@pytest.mark.parametrize("kind", ["status", "cut-request", "stall"])
def test_an_upload_in_parts_that_fails_at_any_step_leaves_the_old_object(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, step: str, kind: Any
) -> None:
    proxy, store = faulty
    store.write_bytes("k", b"old")
    if kind == "stall":
        store = attrs.evolve(store, timeout=1.0)
    proxy.fail(kind, step, seconds=2.0)
    with pytest.raises(StoreUnavailableError):
        store.write_bytes("k", b"x" * (20 * MIB))
    assert strict.get("p/k") == b"old"
    assert strict.names() == {"p/k"}
    assert strict.uploads() == []


def test_more_parts_than_s3_allows_are_refused_with_what_to_do(strict: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emdstore.stores.objects.streams.MOST_PARTS", 2)
    with pytest.raises(StoreError, match="larger part_size"):
        strict.store(part_size=5 * MIB).write_bytes("k", b"x" * (10 * MIB + 1))
    assert strict.names() == set()
    assert strict.uploads() == []


def test_the_parts_of_an_object_that_is_known_to_be_large_are_larger(strict: Place) -> None:
    ground = strict.store(part_size=5 * MIB).ground
    assert ground.part_size_for("k", 52 * 10**9) == 5 * MIB
    for size in (53 * 10**9, 5 * 1024**4):
        part = ground.part_size_for("k", size)
        assert part % MIB == 0
        assert (part - MIB) * 10_000 < size <= part * 10_000
    with pytest.raises(StoreError, match="5 TiB at most"):
        ground.part_size_for("k", 5 * 1024**4 + 1)


def test_a_transfer_tells_the_size_of_what_comes(
    strict: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emdstore.stores.objects.bucket.MOST_PARTS", 2)
    with (tmp_path / "k").open("wb") as file:
        file.write(b"x" * (11 * MIB))
    transfer(tmp_path, strict.store(part_size=5 * MIB)).raise_for_failures()
    assert strict.client.head_object(Bucket=strict.bucket, Key="k")["ETag"].endswith('-2"')


def test_a_part_size_that_s3_would_refuse_is_refused_at_once() -> None:
    with pytest.raises(StoreURLError, match="part_size"):
        S3ArtifactStore("s3://b", part_size=MIB)


# -- put-if-absent -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_racing_creators_exactly_one_wins(strict: Place) -> None:
    wins: list[bytes] = []

    def create(data: bytes) -> None:
        try:
            strict.store().create_bytes("k", data)
        except ArtifactExistsError:
            return
        wins.append(data)

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert strict.get("k") == wins[0]


# -- faults ------------------------------------------------------------------------------------------------------------


def every_verb(store: S3ArtifactStore) -> dict[str, Any]:
    def read_all() -> None:
        with store.open_reader("k") as reader:
            while reader.read():
                pass

    def write_all() -> None:
        with store.open_writer("k") as writer:
            writer.write(b"new")

    return {
        "exists": lambda: store.exists("k"),
        "info": lambda: store.info("k"),
        "read": lambda: store.read_bytes("k"),
        "stream": read_all,
        "write": lambda: store.write_bytes("k", b"new"),
        "writer": write_all,
        "create": lambda: store.create_bytes("k2", b"new"),
        "list": lambda: list(store.iter_keys()),
        "infos": lambda: list(store.iter_info()),
        "delete": lambda: store.delete("k"),
    }


VERBS = ["exists", "info", "read", "stream", "write", "writer", "create", "list", "infos", "delete"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_bucket_is_no_missing_artifact(s3_server: S3Server, verb: str) -> None:
    store = S3ArtifactStore("s3://no-such-bucket/p", **s3_server.options)
    with pytest.raises(StoreError, match="there is no bucket 'no-such-bucket'") as caught:
        every_verb(store)[verb]()
    assert not isinstance(caught.value, ArtifactNotFoundError)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wrong", ["secret_access_key", "access_key_id"])
def test_wrong_credentials_are_refused_without_being_told(strict: Place, verb: str, wrong: str) -> None:
    store = strict.store("p", **{wrong: "WRONG-CREDENTIAL-VALUE"})
    with pytest.raises(StoreAccessError, match="check AWS_") as caught:
        every_verb(store)[verb]()
    text = str(caught.value) + repr(caught.value) + repr(store)
    for secret in ("WRONG-CREDENTIAL-VALUE", strict.server.secret_key, strict.server.access_key):
        assert secret not in text
    assert len(str(caught.value)) < 500


def test_a_server_that_quotes_a_secret_is_not_quoted(s3_faults: FaultProxy, strict: Place) -> None:
    store = S3ArtifactStore(f"s3://{strict.bucket}", **s3_faults.server.options, session_token="TOKEN-VALUE", retries=0)
    said = f"<Error><Code>Odd</Code><Message>{strict.server.secret_key} TOKEN-VALUE</Message></Error>"
    s3_faults.fail("status", status=400, body=said.encode())
    with pytest.raises(StoreError, match=r"Odd \*\*\* \*\*\*"):
        store.read_bytes("k")


@pytest.mark.parametrize("verb", VERBS)
def test_a_busy_server_is_unavailable(faulty: tuple[FaultProxy, S3ArtifactStore], verb: str) -> None:
    proxy, store = faulty
    store.write_bytes("k", b"old")
    proxy.fail("status")
    with pytest.raises(StoreUnavailableError, match="503"):
        every_verb(store)[verb]()
    proxy.faults.clear()
    assert store.read_bytes("k") == b"old"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", ["cut-request", "stall"])
def test_a_connection_that_drops_or_says_nothing_is_unavailable(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, verb: str, kind: Any
) -> None:
    proxy, store = faulty
    store.write_bytes("k", b"old")
    fault = proxy.fail(kind, seconds=1.0)
    if kind == "stall":
        store = attrs.evolve(store, timeout=0.4)
    with pytest.raises(StoreUnavailableError):
        every_verb(store)[verb]()
    proxy.faults.remove(fault)
    assert strict.get("p/k") == b"old"
    assert strict.names() == {"p/k"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_is_not_there_is_unavailable(verb: str) -> None:
    (port,) = free_ports(1)
    store = S3ArtifactStore(
        "s3://b/p",
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key_id="AK",
        secret_access_key="do-not-tell",
        retries=0,
    )
    with pytest.raises(StoreUnavailableError, match="endpoint_url"):
        every_verb(store)[verb]()


@pytest.mark.parametrize("when", ["while it was idle", "when it was asked"])
def test_a_connection_that_the_server_has_closed_is_opened_again(strict: Place, when: str) -> None:
    store = strict.store(retries=0)
    strict.put("a")
    assert list(store.iter_keys()) == ["a"]
    ((connection, _),) = store.ground.connection.idle.get()
    if when == "while it was idle":
        connection._open.sock.shutdown(socket.SHUT_RDWR)
    else:
        ours, theirs = socket.socketpair()
        connection._open.sock.close()
        connection._open.sock = ours

        def hang_up() -> None:
            theirs.recv(100_000)
            theirs.close()

        threading.Thread(target=hang_up).start()
    assert list(store.iter_keys()) == ["a"]


def test_a_listing_that_is_left_early_leaves_no_answer_to_the_next(place: Place) -> None:
    store = place.store()
    for name in ("a", "b/c", "d"):
        place.put(name)
    for _ in range(3):
        assert next(store.iter_keys()) == "a"
        assert list(store.iter_keys("b")) == ["b/c"]


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_an_answer_that_is_cut_off_is_never_taken_for_the_whole(
    faulty: tuple[FaultProxy, S3ArtifactStore], size: int
) -> None:
    proxy, store = faulty
    store.write_bytes("k", b"x" * size)
    proxy.fail("cut-response", "GET")
    with pytest.raises(StoreUnavailableError):
        store.read_bytes("k")

    def stream() -> None:
        with store.open_reader("k") as reader:
            while reader.read():
                pass

    with pytest.raises(StoreUnavailableError):
        stream()
    with pytest.raises(StoreUnavailableError):
        list(store.iter_keys())


@pytest.mark.parametrize("size", [100, 20 * MIB])
def test_a_bit_that_flips_on_the_way_up_is_noticed(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, size: int
) -> None:
    proxy, store = faulty
    store.write_bytes("k", b"old")
    proxy.fail("flip", "PUT", times=1)
    with pytest.raises(StoreError) as caught:
        store.write_bytes("k", b"x" * size)
    assert isinstance(caught.value, StoreUnavailableError), caught.value
    assert strict.get("p/k") == b"old"
    assert strict.uploads() == []
    store.write_bytes("k", b"x" * size)
    assert strict.get("p/k") == b"x" * size


def test_a_passing_fault_is_got_over_without_the_caller_noticing(s3_faults: FaultProxy, strict: Place) -> None:
    store = S3ArtifactStore(f"s3://{strict.bucket}", **s3_faults.server.options)
    for kind in ("status", "cut-request"):
        s3_faults.fail(kind, times=2)  # type: ignore[arg-type]
        store.write_bytes(kind, b"x" * 100)
        assert strict.get(kind) == b"x" * 100
    assert len(s3_faults.requests) == 6


def test_an_object_replaced_while_it_is_read_is_one_version_or_an_error(s3_faults: FaultProxy, strict: Place) -> None:
    store = S3ArtifactStore(f"s3://{strict.bucket}", **s3_faults.server.options)
    old, new = b"o" * (3 * MIB), b"n" * (3 * MIB)
    store.write_bytes("k", old)
    s3_faults.fail("cut-response", "GET", times=1)
    s3_faults.before = lambda request: strict.put("k", new) if len(s3_faults.seen("GET")) == 2 else None
    read = b""
    try:
        with store.open_reader("k") as reader:
            while chunk := reader.read():
                read += chunk
    except EmdstoreError:
        return
    assert read in (old, new)


# -- configuration -----------------------------------------------------------------------------------------------------

# -- configuration -----------------------------------------------------------------------------------------------------


def test_a_store_pickles_as_its_configuration(place: Place) -> None:
    store = place.store("p", part_size=6 * MIB, client_options={"user_agent": "me"})
    store.write_bytes("k", b"v")
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert hash(again) == hash(store)
    assert again.part_size == 6 * MIB
    assert again.read_bytes("k") == b"v"
    scoped = pickle.loads(pickle.dumps(place.store().scope("p")))
    assert scoped == store
    assert scoped.read_bytes("k") == b"v"


def test_credentials_from_the_environment_stay_there(strict: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", strict.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", strict.server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", strict.server.endpoint_url)
    store = S3ArtifactStore(f"s3://{strict.bucket}/p")
    store.write_bytes("k", b"v")
    assert strict.get("p/k") == b"v"
    assert strict.server.secret_key.encode() not in pickle.dumps(store)


def test_nothing_that_is_shown_holds_a_secret(strict: Place) -> None:
    store = strict.store("p", session_token="TOKEN-VALUE", endpoint_url="http://user:pass@127.0.0.1:9")
    for secret in (strict.server.secret_key, "TOKEN-VALUE", "pass"):
        assert secret not in repr(store)
        assert secret not in repr(store.scope("x"))
    assert store.bucket in repr(store)


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///p", "http://b/p", "s3://key:secret@bucket/p", "bucket", "s3://b//p", "s3://b/../p", None]
)
def test_a_url_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(StoreURLError) as caught:
        S3ArtifactStore(url)
    assert "secret@" not in str(caught.value)


def test_a_trailing_slash_is_no_other_place() -> None:
    assert S3ArtifactStore("s3://b/p/") == S3ArtifactStore("s3://b/p")
    assert S3ArtifactStore("s3://b/") == S3ArtifactStore("s3://b")
    assert S3ArtifactStore("s3://b/p") != S3ArtifactStore("s3://b/p", endpoint_url="http://localhost")


def test_an_option_that_obstore_does_not_know_is_named() -> None:
    with pytest.raises(StoreURLError, match="nonsense"):
        S3ArtifactStore("s3://b", anonymous=True, config={"nonsense": "1"}).exists("k")


# -- processes ---------------------------------------------------------------------------------------------------------


def _use(store: S3ArtifactStore, key: str) -> bytes:
    store.write_bytes(key, b"by child")
    assert key in list(store.iter_keys())
    with pytest.raises(ArtifactNotFoundError):
        store.read_bytes("absent")
    with store.open_reader("from-parent") as reader:
        return reader.read()


def _use_in_grandchild(store: S3ArtifactStore, key: str) -> bytes:
    store.write_bytes(key + "-child", b"")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(_use, store, key).result(30)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_store_that_was_used_works_in_child_processes(strict: Place, method: str) -> None:
    store = strict.store("p")
    store.write_bytes("from-parent", b"v")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        futures = [pool.submit(_use, store, f"k{n}") for n in range(4)]
        assert [future.result(60) for future in futures] == [b"v"] * 4
        store.write_bytes("again", b"by parent")
    assert store.read_bytes("k3") == b"by child"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_of_a_fork_works_too(strict: Place) -> None:
    store = strict.store("p")
    store.write_bytes("from-parent", b"v")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(_use_in_grandchild, store, "k").result(60) == b"v"


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


def test_a_hundred_small_objects_take_little_time_of_this_process(strict: Place) -> None:
    store = strict.store("p")
    store.write_bytes("warm", b"")
    before = time.process_time()
    for n in range(100):
        store.write_bytes(f"k{n}", b"x" * 1000)
        store.read_bytes(f"k{n}")
    assert time.process_time() - before < 0.5


def test_a_folder_that_the_server_keeps_is_not_taken_for_an_artifact(seaweed_server: S3Server) -> None:
    store = S3ArtifactStore(f"s3://{seaweed_server.make_bucket()}", **seaweed_server.options)
    store.write_bytes("a/b", b"")
    with pytest.raises(KeyConflictError, match="folder"):
        store.create_bytes("a", b"")
    assert not store.exists("a")


# -- what answers prove ------------------------------------------------------------------------------------------------

PAGE = b"<html><body>Please sign in</body></html>"
VERBS = {
    "look": ("^HEAD", lambda store: store.info("k")),
    "read": ("^GET", lambda store: store.read_bytes("k")),
    "stream": ("^GET", lambda store: store.open_reader("k")),
    "write": ("^PUT", lambda store: store.write_bytes("k", b"new")),
    "create": ("^PUT", lambda store: store.create_bytes("n", b"new")),
    "replace": ("^PUT", lambda store: store.replace_bytes("k", b"new", sha256(store.read_bytes("k")).hexdigest())),
    "write in parts": ("^POST .*uploads", lambda store: store.write_bytes("k", b"x" * 12 * MIB)),
    "complete": ("^POST .*uploadId", lambda store: store.write_bytes("k", b"x" * 12 * MIB)),
    "delete": ("^DELETE", lambda store: store.delete("k")),
    "copy": ("^PUT", lambda store: store.scope("to").copy_from(store).copy("k")),
}


@pytest.mark.parametrize("body", [PAGE, b"", NO_LISTINGS["an error"]], ids=["page", "nothing", "error"])
@pytest.mark.parametrize(("matching", "call"), VERBS.values(), ids=VERBS)
def test_a_gateways_page_is_no_answer_of_the_servers(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, matching: str, call: Any, body: bytes
) -> None:
    proxy, store = faulty
    strict.put("p/k", b"old")
    proxy.fail("status", matching, status=200, body=body)
    with pytest.raises(StoreUnavailableError):
        call(store)
    assert strict.get("p/k") == b"old"
    assert strict.names() == {"p/k"}


@pytest.mark.parametrize("data", [b"x", b"abc" * 1000, bytes(range(251)) * 30_000], ids=["byte", "small", "7 MB"])
def test_bytes_that_are_damaged_on_the_way_down_are_never_given_out_as_a_whole(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, data: bytes
) -> None:
    proxy, store = faulty
    strict.put("p/k", data)
    proxy.fail("flip-response", "^GET .*/k$")
    with pytest.raises(IntegrityError, match=r"md5:.*md5:") as caught:
        store.read_bytes("k")
    assert caught.value.key == "k"
    with pytest.raises(StoreUnavailableError), store.open_reader("k") as reader:
        list(iter(reader.read, b""))
    proxy.faults.clear()
    proxy.fail("flip-response", "^GET .*/k$", times=1)
    assert attrs.evolve(store, retries=1).read_bytes("k") == data


def test_an_upload_in_parts_is_proved_by_the_digest_of_its_parts(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place
) -> None:
    proxy, store = faulty
    data = bytes(range(251)) * (13 * MIB // 251)
    store.write_bytes("k", data)
    assert (store.info("k").checksum or "").endswith("-3")
    assert store.read_bytes("k") == data
    proxy.fail("flip-response", "^GET .*/k$")
    with pytest.raises(IntegrityError):
        store.read_bytes("k")


def test_an_upload_in_parts_of_another_size_is_not_taken_for_damaged(strict: Place) -> None:
    data = bytes(range(251)) * (13 * MIB // 251)
    strict.store("p", part_size=6 * MIB).write_bytes("k", data)
    store = strict.store("p")
    assert store.read_bytes("k") == data
    with store.open_reader("k") as reader:
        assert b"".join(iter(reader.read, b"")) == data


def test_where_etags_are_no_checksums_nothing_is_compared(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place
) -> None:
    proxy, store = faulty
    strict.put("p/k", b"abc")
    proxy.fail("flip-response", "^GET .*/k$")
    assert attrs.evolve(store, check_etag=False).read_bytes("k") != b"abc"
    assert attrs.evolve(store, check_etag=False).info("k").checksum is None


@pytest.mark.parametrize("retries", [0, 2])
def test_who_creates_and_does_not_hear_of_it_has_created_it(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, retries: int
) -> None:
    proxy, store = faulty
    store = attrs.evolve(store, retries=retries)
    proxy.fail("drop-response", "^PUT", times=1)
    store.create_bytes("k", b"one")
    proxy.fail("drop-response", "^PUT", times=1)
    for data in (b"one", b"two"):  # equal bytes are not enough: somebody else has won
        with pytest.raises(ArtifactExistsError):
            store.create_bytes("k", data)
    assert strict.get("p/k") == b"one"


@pytest.mark.parametrize("retries", [0, 2])
def test_who_replaces_and_does_not_hear_of_it_has_replaced_it(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place, retries: int
) -> None:
    proxy, store = faulty
    store = attrs.evolve(store, retries=retries)
    store.write_bytes("k", b"one")
    seen = sha256(b"one").hexdigest()
    proxy.fail("drop-response", "^PUT", times=1)
    store.replace_bytes("k", b"two", seen)
    proxy.fail("drop-response", "^PUT", times=1)
    for data in (b"two", b"three"):  # equal bytes are not enough: somebody else has won
        with pytest.raises(ArtifactChangedError):
            store.replace_bytes("k", data, seen)
    assert strict.get("p/k") == b"two"


def test_a_server_that_knows_no_conditions_is_asked_once_and_then_looked_at(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place
) -> None:
    proxy, store = faulty
    unknown = (
        b"<Error><Code>NotImplemented</Code><Message>A header you provided implies what is not here</Message></Error>"
    )
    proxy.fail("status", "^PUT", times=1, status=501, body=unknown)
    with pytest.raises(UnsupportedError):
        store.create_bytes("k", b"one")
    assert strict.names() == set()
    put_over(store, "k", b"one", None)
    put_over(store.scope("deeper"), "k", b"two", None)
    put_over(store, "k", b"three", sha256(b"one").hexdigest())
    with pytest.raises(ArtifactChangedError):
        put_over(store, "k", b"four", sha256(b"one").hexdigest())
    assert (strict.get("p/k"), strict.get("p/deeper/k")) == (b"three", b"two")
    conditional = [each for each in proxy.seen("^PUT") if {"if-match", "if-none-match"} & each.headers.keys()]
    assert len(conditional) == 1


def test_a_request_to_replace_that_never_arrives_is_an_error_and_leaves_what_was_there(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place
) -> None:
    proxy, store = faulty
    store.write_bytes("k", b"one")
    proxy.fail("cut-request", "^PUT")
    with pytest.raises(StoreUnavailableError):
        store.replace_bytes("k", b"two", sha256(b"one").hexdigest())
    assert strict.get("p/k") == b"one"


def test_a_request_to_create_that_never_arrives_is_an_error_and_leaves_nothing(
    faulty: tuple[FaultProxy, S3ArtifactStore], strict: Place
) -> None:
    proxy, store = faulty
    proxy.fail("cut-request", "^PUT")
    with pytest.raises(StoreUnavailableError):
        store.create_bytes("k", b"one")
    assert strict.names() == set()


def test_objects_are_of_the_kind_that_their_names_say(strict: Place) -> None:
    store = strict.store("p")
    kinds = {"a.svg": "image/svg+xml", "t.csv": "text/csv", "v.json": "application/json", "i.html": "text/html"}
    for key in kinds:
        store.write_bytes(key, b"x")
    with store.open_writer("large.pdf") as writer:
        writer.write(b"x" * 11 * MIB)
    store.create_bytes("new.png", b"x")
    store.scope("copies").copy_from(store).copy("a.svg")  # type: ignore[union-attr]
    kinds |= {"large.pdf": "application/pdf", "new.png": "image/png", "copies/a.svg": "image/svg+xml"}
    found = {key: strict.client.head_object(Bucket=strict.bucket, Key=f"p/{key}")["ContentType"] for key in kinds}
    assert found == kinds
