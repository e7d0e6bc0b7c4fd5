"""Uploads in parts that a killed writer leaves: no listing shows them, and the housekeeping finds them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import attrs
import pytest
from tests.servers.s3 import FaultProxy, Request, S3Server

from emdstore.errors import StoreAccessError
from emdstore.executions.housekeeping import Removal
from emdstore.executions.workspace import Workspace
from emdstore.stores import S3ArtifactStore

NAME = "a b/größe+1.nc"
DAY = 86400.0


@attrs.frozen
class Left:
    """A store, and how to leave an upload there."""

    server: S3Server
    store: S3ArtifactStore

    def behind(self, key: str) -> None:
        name = f"{self.store.prefix}/{key}" if self.store.prefix else key
        self.server.client().create_multipart_upload(Bucket=self.store.bucket, Key=name)


@pytest.fixture
def left(s3_server: S3Server) -> Left:
    return Left(s3_server, S3ArtifactStore(f"s3://{s3_server.make_bucket()}/results", **s3_server.options))


def test_unfinished_uploads_are_told_and_removed(left: Left) -> None:
    left.behind(NAME)
    left.behind(NAME)
    attrs.evolve(left, store=attrs.evolve(left.store, url=f"s3://{left.store.bucket}/results2")).behind("another store")
    left.store.write_bytes(NAME, b"whole")
    if "moto" not in left.server.secret_key:  # to which each was begun in 2010
        assert left.store.remove_uploads() == ()
    assert left.store.remove_uploads(older_than=0, dry_run=True) == (NAME, NAME)
    assert left.store.remove_uploads(older_than=0) == (NAME, NAME)
    assert left.store.remove_uploads(older_than=0) == ()
    assert left.store.read_bytes(NAME) == b"whole"
    kept = left.server.client().list_multipart_uploads(Bucket=left.store.bucket)["Uploads"]
    assert [each["Key"] for each in kept] == ["results2/another store"]


@pytest.fixture
def proxy(moto_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(moto_server) as proxy:
        yield proxy


def page(keys: list[str], after: str | None) -> bytes:
    uploads = "".join(
        f"<Upload><Key>{key}</Key><UploadId>1</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>"
        for key in keys
    )
    more = "<IsTruncated>false</IsTruncated>"
    if after is not None:
        more = f"<IsTruncated>true</IsTruncated><NextKeyMarker>{after}</NextKeyMarker>"
    return f"<ListMultipartUploadsResult>{more}{uploads}</ListMultipartUploadsResult>".encode()


def test_they_are_told_page_by_page(proxy: FaultProxy) -> None:
    def pages(request: Request, status: int | None) -> tuple[int, bytes]:
        return (
            (200, page(["x/b ø"], None))
            if f"key-marker={quote('x/a ø', '')}" in request.path
            else (200, page(["x/a ø", "y/not in here"], "x/a ø"))
        )

    proxy.refuses = pages
    store = S3ArtifactStore("s3://bucket/x", **proxy.server.options)
    assert store.remove_uploads(dry_run=True) == ("a ø", "b ø")


def test_one_of_which_nobody_knows_the_age_goes_only_with_all(proxy: FaultProxy) -> None:
    """So does SeaweedFS, up to a version."""
    undated = page(["x/a"], None).replace(b"<Initiated>2020-01-01T00:00:00.000Z</Initiated>", b"")
    proxy.refuses = lambda request, status: (200, undated)
    store = S3ArtifactStore("s3://bucket/x", **proxy.server.options)
    assert store.remove_uploads(dry_run=True) == ()
    assert store.remove_uploads(older_than=0, dry_run=True) == ("a",)


@pytest.mark.parametrize("body", [b"<html/>", b"<ListMultipartUploadsResult><Upload/></ListMultipartUploadsResult>"])
def test_what_is_no_list_of_uploads_is_none(proxy: FaultProxy, body: bytes) -> None:
    proxy.refuses = lambda request, status: (200, body)
    with pytest.raises(ConnectionError):
        S3ArtifactStore("s3://bucket/x", **proxy.server.options).remove_uploads()


def test_the_housekeeping_removes_those_of_more_than_a_day_ago(
    moto_server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    """To moto's server each upload was begun in 2010."""
    results = S3ArtifactStore(f"s3://{moto_server.make_bucket()}/results", **proxy.server.options)
    left = Left(moto_server, results)
    with Workspace(scratch=tmp_path / "scratch", results=results, catalog=tmp_path / "catalog.db") as workspace:
        left.behind(NAME)
        proxy.refuses = lambda request, status: (403, b"") if "uploads=" in request.path else None
        refused = workspace.gc_executions(uploads=True).refused
        assert "its unfinished uploads stay" in refused[repr(results)]
        proxy.refuses = lambda request, status: None
        assert workspace.gc_executions().removed == ()
        assert workspace.gc_executions(uploads=True, older_than=timedelta(days=36500)).removed == ()
        assert workspace.gc_executions(uploads=True, dry_run=True).removed == (Removal("upload", NAME),)
        assert workspace.gc_executions(uploads=True).removed == (Removal("upload", NAME),)
        assert workspace.gc_executions(uploads=True).removed == ()


def test_without_the_right_to_list_uploads_it_is_told(proxy: FaultProxy) -> None:
    proxy.refuses = lambda request, status: (403, b"<Error><Code>AccessDenied</Code></Error>")
    with pytest.raises(StoreAccessError, match="cannot list the uploads of"):
        S3ArtifactStore("s3://bucket/x", **proxy.server.options).remove_uploads()
