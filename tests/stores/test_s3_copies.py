"""Copies that an S3 server makes between its buckets, and of large objects in parts."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Any
from xml.sax.saxutils import escape

import attrs
import pytest
from tests.servers.s3 import FaultProxy, Request, S3Server

from emdstore import transfer
from emdstore.errors import EmdstoreError, SourceChangedError, StoreAccessError, StoreUnavailableError
from emdstore.stores.checksums import listed
from emdstore.stores.port import Copied, CopiesMany, CopySession
from emdstore.stores.s3.store import MIB, S3ArtifactStore


@attrs.frozen
class Buckets:
    """Two buckets of a server, seen through a proxy."""

    proxy: FaultProxy
    client: Any
    source: str
    dest: str

    def session(self, retries: int = 0) -> CopySession:
        source, dest = (
            S3ArtifactStore(f"s3://{bucket}", **self.proxy.server.options, retries=retries)
            for bucket in (self.source, self.dest)
        )
        session = dest.copy_from(source)
        assert session is not None
        return session

    def inside(self) -> CopySession:
        """Return copies from a folder of the source bucket to another one of it."""
        store = S3ArtifactStore(f"s3://{self.source}", **self.proxy.server.options, retries=0)
        session = store.scope("two").copy_from(store.scope("one"))
        assert session is not None
        return session

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def copies(self) -> dict[str, bytes]:
        names = [each["Key"] for each in self.client.list_objects_v2(Bucket=self.dest).get("Contents", [])]
        return {name: self.client.get_object(Bucket=self.dest, Key=name)["Body"].read() for name in names}

    def orders(self) -> list[Request]:
        """Return the requests to copy something."""
        return [request for request in self.proxy.requests if "x-amz-copy-source" in request.headers]

    def answer_orders(self, status: int, body: bytes) -> None:
        """Answer requests to copy, without the server."""
        self.proxy.refuses = lambda request, _: (status, body) if "x-amz-copy-source" in request.headers else None

    def put_in_parts(self, key: str, data: bytes, bucket: str | None = None) -> None:
        """Upload an object in parts of 5 MiB, with metadata and a type."""
        name, client = {"Bucket": bucket or self.source, "Key": key}, self.client
        begun = client.create_multipart_upload(**name, Metadata={"mtime": "7"}, ContentType="text/x")["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(data), 5 * MIB), 1):
            part = data[start : start + 5 * MIB]
            tag = client.upload_part(**name, UploadId=begun, PartNumber=number, Body=part)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
        client.complete_multipart_upload(**name, UploadId=begun, MultipartUpload={"Parts": parts})


def between(proxy: FaultProxy, server: S3Server) -> Buckets:
    return Buckets(proxy, server.client(), server.make_bucket(), server.make_bucket())


@pytest.fixture
def buckets(s3_faults: FaultProxy, seaweed_server: S3Server) -> Buckets:
    return between(s3_faults, seaweed_server)


NO_UPLOAD = b"<Error><Code>NoSuchUpload</Code></Error>"
LARGE = bytes(range(256)) * (11 * MIB // 256)


def test_what_a_server_refuses_to_copy_between_buckets_is_streamed_and_not_asked_for_again(buckets: Buckets) -> None:
    for key in ("a", "b"):
        buckets.put(buckets.source, key, key.encode())
    buckets.answer_orders(403, b"<Error><Code>AccessDenied</Code></Error>")
    session = buckets.session()
    assert session.copy("a").sha256 == sha256(b"a").hexdigest()
    assert session.copy("b").sha256 == sha256(b"b").hexdigest()
    assert buckets.copies() == {"a": b"a", "b": b"b"}
    assert len(buckets.orders()) == 1


@pytest.mark.parametrize(
    "body", [b"<Error><Code>InternalError</Code></Error>", b"<html>Please log in</html>", b""], ids=["late", "page", ""]
)
def test_an_answer_with_a_success_status_that_tells_of_no_copy_is_an_error(buckets: Buckets, body: bytes) -> None:
    buckets.put(buckets.source, "k", b"new")
    buckets.answer_orders(200, body)
    with pytest.raises(StoreUnavailableError, match="'k'"):
        buckets.session().copy("k")
    assert buckets.copies() == {}


def test_a_copy_between_buckets_whose_tag_differs_is_made_again_from_the_bytes(buckets: Buckets) -> None:
    buckets.put(buckets.source, "k", b"right")
    buckets.put(buckets.dest, "k", b"WRONG")
    buckets.answer_orders(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
    assert buckets.session().copy("k").sha256 == sha256(b"right").hexdigest()
    assert buckets.copies() == {"k": b"right"}


def test_an_older_object_in_parts_is_not_taken_for_the_copy_because_of_its_size_and_time(
    buckets: Buckets,
) -> None:
    buckets.put_in_parts("k", LARGE)
    buckets.put_in_parts("k", LARGE[::-1], buckets.dest)  # of this size, and younger than the source
    buckets.answer_orders(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
    assert buckets.session().copy("k").sha256 == sha256(LARGE).hexdigest()
    assert buckets.copies() == {"k": LARGE}


def test_an_older_object_in_parts_is_not_taken_for_a_copy_in_the_same_bucket_either(buckets: Buckets) -> None:
    buckets.put_in_parts("one/k", LARGE)
    buckets.put_in_parts("two/k", LARGE[::-1])
    buckets.answer_orders(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
    with pytest.raises(StoreUnavailableError, match="what is there is not the copy"):
        buckets.inside().copy("k")


def test_the_copy_of_an_object_in_parts_is_known_by_the_tag_that_the_server_gave_it(buckets: Buckets) -> None:
    buckets.put_in_parts("one/k", LARGE)

    def copy_as_aws_does(request: Request, status: int | None) -> tuple[int, bytes] | None:
        if "x-amz-copy-source" not in request.headers:
            return None
        tag = buckets.client.put_object(Bucket=buckets.source, Key="two/k", Body=LARGE)["ETag"]
        return 200, f"<CopyObjectResult><ETag>{escape(tag)}</ETag></CopyObjectResult>".encode()

    buckets.proxy.refuses = copy_as_aws_does
    assert buckets.inside().copy("k") == Copied(None, None)
    here, there = (buckets.client.head_object(Bucket=buckets.source, Key=f"{each}/k") for each in ("one", "two"))
    assert here["ETag"] != there["ETag"]
    assert buckets.proxy.seen("^GET ") == []


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything above a MiB for large."""
    monkeypatch.setattr("emdstore.stores.s3.copies._PART", MIB)


def test_a_large_object_is_copied_in_its_own_parts_and_gets_the_same_tag(moto_server: S3Server, in_parts: None) -> None:
    with FaultProxy(moto_server) as proxy:  # before a server whose tags are those of AWS
        buckets = between(proxy, moto_server)
        buckets.put_in_parts("k", LARGE)
        assert buckets.session().copy("k") == Copied(None, None)
    here, there = (buckets.client.head_object(Bucket=each, Key="k") for each in (buckets.source, buckets.dest))
    assert buckets.copies() == {"k": LARGE}
    told = ("ETag", "Metadata", "ContentType", "ContentLength")
    assert {each: there[each] for each in told} == {each: here[each] for each in told}
    assert buckets.proxy.seen("^GET /[^/]+/k") == []
    assert len(buckets.proxy.seen("^PUT .*partNumber")) == 3


def test_an_object_that_is_replaced_while_it_is_copied_in_parts_is_an_error(buckets: Buckets, in_parts: None) -> None:
    buckets.put_in_parts("k", LARGE)

    def replace(request: Request) -> None:
        if "partNumber=2" in request.path and request.method == "PUT":
            buckets.put_in_parts("k", LARGE[::-1])

    buckets.proxy.before = replace
    with pytest.raises(SourceChangedError, match=r"'k' .* was replaced while it was copied"):
        buckets.session().copy("k")
    assert buckets.copies() == {}
    assert not buckets.client.list_multipart_uploads(Bucket=buckets.dest).get("Uploads")


@pytest.mark.parametrize("request_", ["^PUT .*partNumber=2", "^POST .*uploadId"])
def test_a_copy_in_parts_whose_answer_is_lost_is_made_by_the_next_attempt(
    buckets: Buckets, in_parts: None, request_: str
) -> None:
    buckets.put_in_parts("k", LARGE)
    buckets.proxy.fail("drop-response", request_, times=1)
    assert buckets.session(retries=1).copy("k") == Copied(None, None)
    assert buckets.copies() == {"k": LARGE}


def test_a_copy_in_parts_that_was_completed_unheard_is_proved_by_its_tag_or_else_streamed(
    buckets: Buckets, moto_server: S3Server, in_parts: None
) -> None:
    with FaultProxy(moto_server) as proxy:
        for each in (between(proxy, moto_server), buckets):  # the tags of one are those of AWS
            each.put_in_parts("k", LARGE)
            each.proxy.fail("drop-response", "^POST .*uploadId", times=1)
            each.proxy.fail("status", "^POST .*uploadId", status=404, body=NO_UPLOAD, times=1)
            digest = sha256(LARGE).hexdigest() if each is buckets else None
            assert each.session(retries=1).copy("k").sha256 == digest
            assert each.copies() == {"k": LARGE}


def test_what_was_listed_is_not_asked_for_again_when_the_server_copies_it(buckets: Buckets) -> None:
    store = S3ArtifactStore(f"s3://{buckets.source}", **buckets.proxy.server.options)
    source, dest = store.scope("one"), store.scope("two")
    for number in range(8):
        source.write_bytes(f"{number}.nc", b"bytes of %d" % number)
    buckets.proxy.requests.clear()
    report = transfer(source, dest)
    assert report.ok
    assert {each.size for each in report.outcomes} == {10}
    assert len(buckets.orders()) == len(buckets.proxy.seen("^HEAD .*/two/")) == 8
    assert buckets.proxy.seen("^HEAD .*/one/") == []
    assert all(dest.read_bytes(key) == source.read_bytes(key) for key in source.iter_keys())


KEYS = [f"{number}.nc" for number in range(8)]
ONE_LISTING = "^GET .*max-keys=12"


def copied_together(buckets: Buckets, *, between_them: bool, times: int = 1) -> list[Copied | EmdstoreError]:
    """Have what was listed in the source copied by one session, all at once."""
    source = S3ArtifactStore(f"s3://{buckets.source}/one", **buckets.proxy.server.options)
    dest = S3ArtifactStore(
        f"s3://{buckets.dest if between_them else buckets.source}/two", **buckets.proxy.server.options
    )
    for key in KEYS:
        source.write_bytes(key, b"bytes of " + key.encode())
    session = dest.copy_from(source)
    assert isinstance(session, CopiesMany)
    found = list(source.iter_info())
    buckets.proxy.requests.clear()
    with session:
        for _ in range(times):
            with listed((each.key, each.size, each.version) for each in found):
                copies = session.copy_many(KEYS)
            copied = list(copies)
    for key, each in zip(KEYS, copied, strict=True):
        if isinstance(each, Copied):
            there = buckets.client.get_object(Bucket=dest.bucket, Key=f"two/{key}")["Body"].read()
            assert there == b"bytes of " + key.encode()
    return copied


@pytest.mark.parametrize("between_them", [False, True])
def test_one_listing_proves_all_copies_that_it_shows(buckets: Buckets, between_them: bool) -> None:
    assert copied_together(buckets, between_them=between_them) == [Copied(None, None)] * 8
    assert len(buckets.orders()) == 8
    assert len(buckets.proxy.seen(ONE_LISTING)) == 1
    assert buckets.proxy.seen("^HEAD") == []


def test_what_a_listing_shows_differently_is_copied_again(buckets: Buckets) -> None:
    def replace(request: Request) -> None:
        if "max-keys" in request.path:
            buckets.put(buckets.source, "two/3.nc", b"another")

    buckets.proxy.before = replace
    assert copied_together(buckets, between_them=False) == [Copied(None, None)] * 8
    assert len(buckets.orders()) == 9
    assert {request.path for request in buckets.proxy.seen("^HEAD .*/two/")} == {f"/{buckets.source}/two/3.nc"}


@pytest.mark.parametrize(
    "answer", [(403, b""), (200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")]
)
def test_where_a_listing_shows_no_copies_each_is_looked_at(buckets: Buckets, answer: tuple[int, bytes]) -> None:
    buckets.proxy.refuses = lambda request, _: answer if "max-keys" in request.path else None
    assert copied_together(buckets, between_them=False, times=2) == [Copied(None, None)] * 8
    assert len(buckets.proxy.seen(ONE_LISTING)) == 1
    assert len(buckets.proxy.seen("^HEAD")) == len(buckets.proxy.seen("^HEAD .*/two/")) == 2 * 8
    assert len(buckets.orders()) == 2 * 8


def test_what_cannot_be_copied_does_not_stop_the_others(buckets: Buckets) -> None:
    buckets.proxy.refuses = lambda request, _: (
        (403, b"<Error><Code>AccessDenied</Code></Error>")
        if request.method == "PUT" and request.path.endswith("/two/2.nc")
        else None
    )
    copied = copied_together(buckets, between_them=False)
    assert [isinstance(each, StoreAccessError) for each in copied] == [key == "2.nc" for key in KEYS]


@pytest.mark.parametrize("large", [False, True], ids=["whole", "in parts"])
def test_what_was_replaced_since_it_was_listed_is_copied_as_it_is_now(buckets: Buckets, large: bool) -> None:
    put = buckets.put_in_parts if large else partial(buckets.put, buckets.source)
    put("one/k", LARGE if large else b"old")

    def replace(request: Request) -> None:
        if "x-amz-copy-source" in request.headers and len(buckets.orders()) < 2:
            put("one/k", LARGE[::-1] if large else b"new")

    buckets.proxy.before = replace
    store = S3ArtifactStore(f"s3://{buckets.source}", **buckets.proxy.server.options)
    report = transfer(store.scope("one"), store.scope("two"))
    assert [each.outcome for each in report.outcomes] == ["copied"]
    there = buckets.client.get_object(Bucket=buckets.source, Key="two/k")["Body"].read()
    assert there == (LARGE[::-1] if large else b"new")
