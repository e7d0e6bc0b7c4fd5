"""Buckets whose credentials may do less than all: what a refusal proves, and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.executions.runs import committed
from tests.servers.s3 import FaultProxy, Request, S3Server
from tests.sets.examples import FRAGMENT, SUCCESS, held, put, small_run

from emdstore.emds import RECORD_NAME
from emdstore.errors import LookRefusedError, ReleasedSetError, StoreAccessError, TransferError
from emdstore.executions.workspace import Workspace
from emdstore.sets.publish import Publication, publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.state import look_at_set
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore, scoped
from emdstore.stores.checkup import try_store

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
CANNOT = b"<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"
Refusal = tuple[int, bytes] | None


def not_listed(request: Request, status: int | None) -> Refusal:
    """Answer as S3 does without s3:ListBucket: of what is not there nobody hears that it is not."""
    looks = request.method in ("GET", "HEAD")
    return (403, DENIED) if looks and (status == 404 or "list-type" in request.path) else None


def not_read(request: Request, status: int | None) -> Refusal:
    """Answer as S3 does with s3:PutObject alone."""
    return (403, DENIED) if request.method in ("GET", "HEAD") else None


def not_listed_and_without_conditions(request: Request, status: int | None) -> Refusal:
    conditional = {"if-none-match", "if-match"}.intersection(request.headers)
    return (501, CANNOT) if conditional else not_listed(request, status)


@attrs.frozen
class Site:
    """A folder of a bucket: with all rights, and as a station sees it."""

    all_rights: S3ArtifactStore
    station: S3ArtifactStore
    proxy: FaultProxy

    def refuse(self, rule: Callable[[Request, int | None], Refusal]) -> None:
        self.proxy.refuses = rule

    @property
    def puts(self) -> list[str]:
        return [each.path.rpartition("/")[2] for each in self.proxy.seen("^PUT")]


@pytest.fixture
def site(moto_server: S3Server) -> Iterator[Site]:
    with FaultProxy(moto_server) as proxy:
        bucket = moto_server.make_bucket()
        station = S3ArtifactStore(f"s3://{bucket}/archive", **proxy.server.options, retries=0)
        proxy.refuses = not_listed
        yield Site(S3ArtifactStore(f"s3://{bucket}/archive", **moto_server.options), station, proxy)


def publish(dest: S3ArtifactStore | InMemoryArtifactStore, number: int) -> Publication:
    source = put(InMemoryArtifactStore(), small_run(map=b"plot %d" % number))
    return publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=source, dest=scoped(dest, FRAGMENT))


@pytest.fixture
def published() -> InMemoryArtifactStore:
    publish(store := InMemoryArtifactStore(), 1)
    return store


def test_what_may_not_be_looked_at_is_neither_there_nor_absent(site: Site) -> None:
    for look in (site.station.exists, site.station.read_bytes, site.station.info):
        with pytest.raises(LookRefusedError, match="s3:ListBucket"):
            look("day.dat")
    with pytest.raises(LookRefusedError):
        list(site.station.iter_keys())


@pytest.mark.parametrize("unchanged", ["stat", "never"])
def test_named_artifacts_go_up_and_down(site: Site, tmp_path: Path, unchanged: str) -> None:
    source = put(InMemoryArtifactStore(), {"2026/a.dat": b"a" * 10, "2026/b.dat": b"b" * 20, "log.txt": b"up"})
    names = list(source.iter_keys())
    assert transfer(source, site.station, names, unchanged=unchanged).counts["copied"] == 3  # type: ignore[arg-type]
    assert held(site.all_rights) == held(source)
    assert transfer(source, site.station, names).ok  # what is there may be looked at
    assert transfer(site.station, tmp_path / "back", names).ok
    assert held(LocalArtifactStore(tmp_path / "back")) == held(source)
    with pytest.raises(LookRefusedError):
        transfer(site.station, tmp_path / "all")


def test_a_named_set_arrives_and_is_opened_before_its_first_byte(site: Site, published: InMemoryArtifactStore) -> None:
    names = list(published.iter_keys())
    transfer(published, site.station, names).raise_for_failures()
    assert (site.puts[0], site.puts[-1]) == (RECORD_NAME, RECORD_NAME)
    assert site.proxy.seen("^PUT")[0].headers["if-none-match"] == "*"
    assert held(site.all_rights) == held(published)
    assert look_at_set(site.station, FRAGMENT, every_digest=True).state == "published"
    assert transfer(published, site.station, names).counts["unchanged"] == len(names)


def test_a_run_is_published_again_and_again(site: Site) -> None:
    for number, written in ((1, True), (2, True), (2, False)):
        assert publish(site.station, number).record_written == written
        assert look_at_set(site.all_rights, FRAGMENT, every_digest=True).state == "published"
    assert site.all_rights.read_bytes(f"{FRAGMENT}/plots/map (°C).png") == b"plot 2"


def test_an_execution_is_committed_and_its_values_are_in_the_catalog(site: Site, tmp_path: Path) -> None:
    with Workspace(scratch=tmp_path / "scratch", results=site.station, catalog=tmp_path / "catalog.db") as workspace:
        execution = committed(workspace)
        assert execution.row.status == "uploaded"
        assert workspace.catalog.scalars().count() == 2
        assert execution.commit_output_assets().uploaded == 0
    assert look_at_set(site.all_rights, execution.fragment, every_digest=True).state == "published"


def test_where_nobody_may_look_for_releases_a_publication_is_replaced_only_on_demand(
    site: Site, tmp_path: Path
) -> None:
    site.refuse(not_listed)
    with Workspace(scratch=tmp_path / "scratch", results=site.station, catalog=tmp_path / "catalog.db") as workspace:
        execution = committed(workspace)
        (execution.output_directory / "out.log").write_text("another")
        with pytest.raises(ReleasedSetError, match="nobody may look whether a release names it"):
            execution.commit_output_assets()
        log = f"{execution.fragment}/out.log"
        assert (execution.status, site.all_rights.read_bytes(log) == b"another") == ("uploaded", False)
        execution.commit_output_assets(replace=True)
        assert site.all_rights.read_bytes(log) == b"another"


@pytest.mark.parametrize("verb", ["publish", "transfer"])
def test_a_record_that_may_not_be_read_is_not_replaced_nor_any_byte_beside_it(
    site: Site, published: InMemoryArtifactStore, verb: str
) -> None:
    publish(site.all_rights, 0)
    before = held(site.all_rights)
    site.refuse(not_read)
    names = list(published.iter_keys())
    ship = {
        "publish": lambda: publish(site.station, 1),
        "transfer": lambda: transfer(published, site.station, names).raise_for_failures(),
    }
    with pytest.raises((LookRefusedError, TransferError), match="may not be read, so it is not replaced"):
        ship[verb]()
    assert held(site.all_rights) == before


def test_who_may_only_write_puts_new_artifacts_by_name_and_each_carries_what_proves_it(site: Site) -> None:
    site.refuse(not_read)
    source = put(InMemoryArtifactStore(), {"2026/a.dat": b"a" * 10, "log.txt": b"up"})
    names = list(source.iter_keys())
    transfer(source, site.station, names).raise_for_failures()
    assert held(site.all_rights) == held(source)
    for sent in site.proxy.seen("^PUT"):  # else the server would keep what was there, or what arrived damaged
        assert sent.headers["if-none-match"] == "*"
        assert "x-amz-checksum-sha256" in sent.headers
    again = transfer(source, site.station, names)
    assert again.counts["failed"] == 2  # whether it is the same nobody can see
    with pytest.raises(LookRefusedError):
        transfer(source, site.station)


@pytest.mark.parametrize(("rule", "outcome"), [(not_listed, "ok"), (not_read, "note")])
def test_what_can_be_done_without_listing_is_tried(site: Site, rule: Any, outcome: str) -> None:
    site.refuse(rule)
    found = {each.name: each for each in try_store(site.station)}
    assert {name: each.outcome for name, each in found.items()} == {
        "reading": "note",
        "writing": outcome,
        "removal": "note",
    }
    assert not held(site.all_rights)


def test_an_artifact_that_may_not_be_looked_at_is_replaced_only_on_demand(site: Site) -> None:
    key = f"{FRAGMENT}/diagnostic.json"
    publish(site.all_rights, 0)
    before = held(site.all_rights)
    site.refuse(not_read)
    source = put(InMemoryArtifactStore(), {key: b"{}"})
    with pytest.raises(TransferError, match="something else is there already; use credentials with s3:ListBucket"):
        transfer(source, site.station, [key]).raise_for_failures()
    assert held(site.all_rights) == before
    assert transfer(source, site.station, [key], replace=True).ok
    assert site.all_rights.read_bytes(key) == b"{}"


def test_a_server_without_conditional_puts_is_told_what_the_command_needs(
    site: Site, published: InMemoryArtifactStore
) -> None:
    site.refuse(not_listed_and_without_conditions)
    source = put(InMemoryArtifactStore(), {"log.txt": b"up"})
    with pytest.raises(TransferError, match="no conditional puts; use credentials with s3:ListBucket"):
        transfer(source, site.station, ["log.txt"]).raise_for_failures()
    with pytest.raises(TransferError, match=r"no conditional puts, .* s3:ListBucket to be told that it is not there"):
        transfer(published, site.station, list(published.iter_keys())).raise_for_failures()
    assert held(site.all_rights) == {}
    assert transfer(source, site.station, ["log.txt"], replace=True).ok


def test_what_is_too_large_for_one_request_is_not_put_blindly(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emdstore.transfers.batch._ONCE_BYTES", 1)
    source = put(InMemoryArtifactStore(), {"log.txt": b"up"})
    (outcome,) = transfer(source, site.station, ["log.txt"]).outcomes
    assert isinstance(outcome.error, StoreAccessError)
    assert held(site.all_rights) == {}
