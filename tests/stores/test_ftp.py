"""FTP is a source: what lies there is read, and what cannot be read is said."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.servers.ftp import FTPServer, run_ftp

from emdstore import InMemoryArtifactStore, open_store, transfer
from emdstore.errors import ArtifactNotFoundError, StoreAccessError, StoreError, StoreUnavailableError
from emdstore.stores import SupportsStreaming
from emdstore.stores.left_out import iter_known
from emdstore.stores.port import LeftOut

FILES = {f"set/{number}/map of {number}.png": bytes([number]) * 70_000 for number in range(12)} | {"set/empty": b""}


def _fill(root: Path, files: dict[str, bytes]) -> Path:
    for key, data in files.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return root


@pytest.fixture(scope="module", params=["new", "old", "terse"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FTPServer]:
    root = _fill(tmp_path_factory.mktemp("ftp"), FILES)
    (root / "closed").mkdir()
    with run_ftp(root, kind=request.param) as running:
        yield running


def test_all_is_read_by_many_threads_at_once(server: FTPServer) -> None:
    source, dest = open_store(server.url("set")), InMemoryArtifactStore()
    transfer(source, dest).raise_for_failures()
    assert {f"set/{key}": dest.read_bytes(key) for key in dest.iter_keys()} == FILES
    assert transfer(source, dest).bytes_copied == 0
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read_bytes, ["0/map of 0.png"] * 40)) == [FILES["set/0/map of 0.png"]] * 40


def test_two_files_are_read_side_by_side_and_one_is_left_in_the_middle(server: FTPServer) -> None:
    source = open_store(server.url("set"))
    assert isinstance(source, SupportsStreaming)
    with source.open_reader("1/map of 1.png") as one, source.open_reader("2/map of 2.png") as two:
        assert (one.read(10), two.read(10)) == (b"\1" * 10, b"\2" * 10)
        assert sum(len(each) for each in iter(two.read, b"")) == 70_000 - 10
    assert source.read_bytes("3/map of 3.png") == FILES["set/3/map of 3.png"]


def test_what_is_absent_is_not_what_is_refused(server: FTPServer) -> None:
    source = open_store(server.url())
    with pytest.raises(ArtifactNotFoundError):
        source.read_bytes("set/nothing")
    with pytest.raises(StoreAccessError):
        list(source.iter_keys("closed"))
    left_out: list[LeftOut] = []
    assert len(list(iter_known(source, left_out=left_out.append))) == len(FILES)
    assert [each.name for each in left_out] == ["closed/"]
    with pytest.raises(StoreAccessError) as caught:
        open_store(server.url(user="me:wr0ng-ftp@")).read_bytes("set/empty")
    assert "wr0ng-ftp" not in str(caught.value)


def test_nothing_is_written_where_it_could_not_appear_whole(server: FTPServer) -> None:
    with pytest.raises(StoreError, match="neither put whole objects nor rename"):
        open_store(server.url("set", user="me:ftp-secret@")).write_bytes("new", b"x")
    assert not (server.root / "set/new").exists()


def test_two_servers_are_two_stores(tmp_path: Path) -> None:
    with (
        run_ftp(_fill(tmp_path / "one", {"who": b"one"})) as one,
        run_ftp(_fill(tmp_path / "two", {"who": b"two"})) as two,
    ):
        assert [open_store(each.url()).read_bytes("who") for each in (one, two)] == [b"one", b"two"]


def test_a_server_that_was_away_is_connected_to_again(tmp_path: Path) -> None:
    with run_ftp(_fill(tmp_path, {"set/who": b"it"})) as before:
        source = open_store(before.url("set"))
        assert list(source.iter_keys()) == ["who"]
    with pytest.raises(StoreUnavailableError):
        list(source.iter_keys())
    with run_ftp(tmp_path, port=before.port):
        assert list(source.iter_keys()) == ["who"]
        assert source.read_bytes("who") == b"it"
