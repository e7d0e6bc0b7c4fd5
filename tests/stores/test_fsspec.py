"""What FsspecArtifactStore promises beyond the contract, on each kind of file system."""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import multiprocessing
import os
import pickle
import tarfile
import weakref
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import google_crc32c
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.servers.renaming import RenamingStore
from tests.servers.s3 import FaultProxy, S3Server, flipped

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    IntegrityError,
    InvalidKeyError,
    KeyConflictError,
    MissingExtraError,
    SourceChangedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    StoreURLError,
    UnsafePathError,
    UnsupportedError,
)
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.urls import open_store

MIB = 1024 * 1024


def options_of(server: S3Server, **more: Any) -> dict[str, Any]:
    who = {"endpoint_url": server.endpoint_url, "key": server.access_key, "secret": server.secret_key}
    return {**who, "retries": 1, **more}


@pytest.fixture(params=["memory", "renaming", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FsspecArtifactStore:
    if request.param == "memory":
        return FsspecArtifactStore(f"memory://{tmp_path}")
    if request.param == "renaming":
        return RenamingStore(f"renaming://{tmp_path}")
    server: S3Server = request.getfixturevalue("seaweed_server")
    return FsspecArtifactStore(f"s3://{server.make_bucket()}/p", **options_of(server))


# -- every kind --------------------------------------------------------------------------------------------------------


def test_large_objects_stream_in_and_out(store: FsspecArtifactStore) -> None:
    data = os.urandom(MIB) * 20
    with store.open_writer("d/large") as writer:
        for start in range(0, len(data), MIB):
            writer.write(data[start : start + MIB])
            assert not store.exists("d/large")
            assert list(store.iter_keys()) == []
    with store.open_reader("d/large") as reader:
        assert reader.info.size == len(data)
        read = bytearray()
        while chunk := reader.read():
            assert len(chunk) <= 256 * 1024
            read += chunk
    assert read == data


def test_a_large_write_that_is_left_by_an_error_leaves_the_old_object(store: FsspecArtifactStore) -> None:
    store.write_bytes("k", b"old")

    def write_and_fail() -> None:
        with store.open_writer("k") as writer:
            writer.write(b"x" * (20 * MIB))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert store.read_bytes("k") == b"old"
    assert list(store.iter_keys()) == ["k"]


def test_a_stream_of_an_artifact_that_is_replaced_is_one_version_or_an_error(store: FsspecArtifactStore) -> None:
    old, new = b"o" * (12 * MIB), b"n" * (12 * MIB)
    store.write_bytes("k", old)
    read = bytearray()
    try:
        with store.open_reader("k") as reader:
            read += reader.read()
            store.write_bytes("k", new)
            while chunk := reader.read():
                read += chunk
    except SourceChangedError:
        return
    assert read == old


def test_what_was_written_outside_shows_at_once(store: FsspecArtifactStore) -> None:
    other = pickle.loads(pickle.dumps(store))
    for n in range(5):
        assert not store.exists(f"d/k{n}")
        other.write_bytes(f"d/k{n}", b"v")
        assert list(store.iter_keys("d")) == [f"d/k{m}" for m in range(n + 1)]
        assert store.exists(f"d/k{n}")
    other.write_bytes("d/k0", b"longer")
    assert store.info("d/k0").size == 6
    other.delete("d/k0")
    assert next(store.iter_keys()) == "d/k1"


def test_it_pickles_as_url_and_options(store: FsspecArtifactStore) -> None:
    store.exists("k")
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert hash(again) == hash(store)
    assert again.exists("k") is False
    assert repr(again) == repr(store)


# -- local and other disks ---------------------------------------------------------------------------------------------


def test_a_file_url_has_the_guards_of_the_local_store(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    store = FsspecArtifactStore(f"file://{root}")
    assert isinstance(store, LocalArtifactStore)
    with pytest.raises(UnsafePathError):
        store.read_bytes("link/secret")


def test_a_file_that_is_changed_in_place_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    store = RenamingStore(f"renaming://{tmp_path}")
    store.write_bytes("k", b"o" * MIB)

    def read_while_it_changes() -> None:
        with store.open_reader("k") as reader:
            reader.read()
            with (tmp_path / "k").open("r+b") as file:
                file.write(b"n" * MIB)
            while reader.read():
                pass

    with pytest.raises(SourceChangedError):
        read_while_it_changes()


def test_a_staging_file_is_never_listed_and_goes_when_the_write_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = RenamingStore(f"renaming://{tmp_path}")
    (tmp_path / ".emdstore-left").write_bytes(b"by a writer that was killed")
    assert list(store.iter_keys()) == []
    assert caplog.text == ""  # it is nothing to warn of
    store.write_bytes("a/b", b"v")
    for key in ("a", "a/b/c"):
        with pytest.raises(KeyConflictError):
            store.write_bytes(key, b"v")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".emdstore-left", "a", "b"]


def test_a_file_system_that_can_only_be_read_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("run/out.log", "log")
    store = FsspecArtifactStore("zip://", fo=str(tmp_path / "set.zip"))
    assert list(store.iter_keys()) == ["run/out.log"]
    with store.open_reader("run/out.log") as reader:
        assert reader.read() == b"log"
    for write in (
        lambda: store.write_bytes("k", b"v"),
        lambda: store.open_writer("k").__enter__().__exit__(*[None] * 3),
    ):
        with pytest.raises(StoreError, match="neither put whole objects nor rename"):
            write()


def test_a_tar_of_a_folder_is_listed_by_plain_names_and_read_by_many_threads(tmp_path: Path) -> None:
    files = {f"run/{number}.dat": bytes([number]) * 100_000 for number in range(20)}
    for name, data in files.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    (tmp_path / "set/same").hardlink_to(tmp_path / "set/run/1.dat")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "set", arcname=".")
    store = open_store(f"tar::{tmp_path}/set.tar")
    assert list(store.iter_keys()) == sorted([*files, "same"])
    with ThreadPoolExecutor(8) as pool:
        assert dict(zip(files, pool.map(store.read_bytes, files), strict=True)) == files
    assert store.read_bytes("same") == files["run/1.dat"]


# -- S3 by s3fs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(seaweed_server: S3Server) -> str:
    return seaweed_server.make_bucket()


def test_caches_are_off_whatever_was_asked_for(seaweed_server: S3Server, bucket: str) -> None:
    options = options_of(seaweed_server, use_listings_cache=True, skip_instance_cache=False)
    store = FsspecArtifactStore(f"s3://{bucket}", **options)
    fs = store.ground.open().fs
    assert fs.dircache.use_listings_cache is False
    assert fs is not fsspec.filesystem("s3", **options)


def test_stores_of_one_configuration_share_a_file_system_and_no_end_of_them_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[weakref.ref[Any]] = []

    class Counted(MemoryFileSystem):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            opened.append(weakref.ref(self))

    fsspec.register_implementation("counted", Counted, clobber=True)

    def use(**options: Any) -> None:
        FsspecArtifactStore("counted://a", **options).exists("x")

    use()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another")
    use()
    assert len(opened) == 1
    monkeypatch.setenv("A_TOKEN_OF_SOMEBODY", "another")
    use()
    assert len(opened) == 2
    for number in range(40):
        use(number=number)
    gc.collect()
    assert len(opened) == 42
    assert sum(of() is not None for of in opened) <= 16


# -- damaged on the way ------------------------------------------------------------------------------------------------

DATA = bytes(range(251)) * 4000


@pytest.fixture(params=["in one part", "in parts"])
def held(request: pytest.FixtureRequest, seaweed_server: S3Server, bucket: str) -> bytes:
    """What lies at the key `k`, which another program has put there."""
    if request.param == "in one part":
        seaweed_server.client().put_object(Bucket=bucket, Key="k", Body=DATA)
        return DATA
    data = DATA * 17
    with FsspecArtifactStore(f"s3://{bucket}", **options_of(seaweed_server)).open_writer("k") as writer:
        writer.write(data)
    return data


def read_of(store: FsspecArtifactStore) -> bytes:
    with store.open_reader("k") as reader:
        return b"".join(iter(reader.read, b""))


def test_bytes_that_s3fs_gets_damaged_are_never_given_out_as_a_whole(
    s3_faults: FaultProxy, bucket: str, held: bytes
) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}", **options_of(s3_faults.server))
    assert store.read_bytes("k") == read_of(store) == held
    s3_faults.fail("flip-response", "^GET .*/k$")
    for read in (lambda: store.read_bytes("k"), lambda: read_of(store)):
        with pytest.raises(
            IntegrityError, match=r"md5:.*md5:|Expected checksum \S+ did not match calculated checksum: \S+;"
        ) as caught:
            read()
        assert (caught.value.key, isinstance(caught.value, StoreUnavailableError)) == ("k", True)
    believing = FsspecArtifactStore(f"s3://{bucket}", check_etag=False, **options_of(s3_faults.server))
    assert believing.info("k").checksum is None
    s3_faults.faults.clear()
    s3_faults.fail("flip-response", "^GET .*/k$", times=1)
    assert store.read_bytes("k") == held


class Kept(fsspec.AbstractFileSystem):
    """A file system with one file, of which its server says what a test wants."""

    cachable = False
    data: ClassVar[bytes] = b""
    arrives: ClassVar[bytes] = b""
    said: ClassVar[dict[str, Any]] = {}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": len(self.data), "mtime": 1.0, **type(self).said}

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        return type(self).arrives

    def _open(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(type(self).arrives)


class KeptByGoogle(Kept):
    protocol = ("kept-google", "gs")


class KeptByMicrosoft(Kept):
    protocol = ("kept-microsoft", "abfs")


def test_bytes_that_differ_from_the_checksum_that_a_cloud_keeps_are_damaged() -> None:
    md5 = hashlib.md5(DATA).digest()
    crc = base64.b64encode(google_crc32c.Checksum(DATA).digest()).decode()
    says: list[tuple[type[Kept], dict[str, Any], str | None]] = [
        (KeptByGoogle, {"md5Hash": base64.b64encode(md5).decode(), "crc32c": crc}, "md5:"),
        (KeptByGoogle, {"crc32c": crc}, "crc32c:"),
        (KeptByGoogle, {"crc32c": crc, "contentEncoding": "gzip"}, None),
        (KeptByGoogle, {"md5Hash": "no base 64", "crc32c": None}, None),
        (KeptByMicrosoft, {"content_settings": {"content_md5": bytearray(md5)}}, "md5:"),
        (KeptByMicrosoft, {"content_settings": {"content_md5": None}}, None),
        (KeptByMicrosoft, {}, None),
    ]
    for kind, said, expected in says:
        fsspec.register_implementation(kind.protocol[0], kind, clobber=True)
        kind.data, kind.said = DATA, said
        store = FsspecArtifactStore(f"{kind.protocol[0]}://place", retries=0)
        kind.arrives = DATA
        assert store.read_bytes("k") == read_of(store) == DATA
        kind.arrives = flipped(DATA)
        if expected is None:
            assert store.read_bytes("k") == read_of(store) == flipped(DATA)
            continue
        for read in (partial(store.read_bytes, "k"), partial(read_of, store)):
            with pytest.raises(IntegrityError, match=f"{expected}.*{expected}"):
                read()


def test_a_key_that_s3fs_would_cut_is_refused(seaweed_server: S3Server, bucket: str) -> None:
    with pytest.raises(InvalidKeyError, match="versionId"):
        FsspecArtifactStore(f"s3://{bucket}", **options_of(seaweed_server)).write_bytes("a?versionId=b", b"v")


@pytest.mark.slow
def test_uploads_that_fail_leave_no_parts(seaweed_server: S3Server, s3_faults: FaultProxy, bucket: str) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}", **options_of(s3_faults.server))
    store.write_bytes("k", b"old")

    def write_in_parts() -> None:
        with store.open_writer("k") as writer:
            for _ in range(20):
                writer.write(b"x" * MIB)

    for step in ("partNumber=2", "POST .*uploadId"):
        s3_faults.fail("status", step)
        with pytest.raises(StoreUnavailableError):
            write_in_parts()
        s3_faults.faults.clear()
    client = seaweed_server.client()
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert store.read_bytes("k") == b"old"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["status", "cut-request", "cut-response"])
def test_faults_on_the_way_are_unavailability(s3_faults: FaultProxy, bucket: str, kind: Any) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}", **options_of(s3_faults.server))
    store.write_bytes("k", b"old" * 1000)
    s3_faults.fail(kind, "" if kind != "cut-response" else "GET")
    with pytest.raises(StoreUnavailableError):
        store.read_bytes("k")
    with pytest.raises(StoreUnavailableError):
        list(store.iter_keys())
    if kind != "cut-response":
        with pytest.raises(StoreUnavailableError):
            store.write_bytes("k", b"new")
        with pytest.raises(StoreUnavailableError):
            store.exists("k")
    s3_faults.faults.clear()
    assert store.read_bytes("k") == b"old" * 1000


@pytest.mark.parametrize("retries", [0, 2])
def test_who_puts_on_a_condition_and_does_not_hear_of_it_has_put(
    s3_faults: FaultProxy, bucket: str, retries: int
) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}/p", **options_of(s3_faults.server, retries=retries))
    s3_faults.fail("drop-response", "^PUT", times=1)
    store.create_bytes("k", b"one")
    seen = hashlib.sha256(b"one").hexdigest()
    s3_faults.fail("drop-response", "^PUT", times=1)
    store.replace_bytes("k", b"two", seen)
    s3_faults.fail("drop-response", "^PUT", times=1)
    for data in (b"two", b"three"):  # equal bytes are not enough: somebody else has won
        with pytest.raises(ArtifactExistsError):
            store.create_bytes("k", data)
        with pytest.raises(ArtifactChangedError):
            store.replace_bytes("k", data, seen)
    assert store.read_bytes("k") == b"two"


def test_a_botocore_that_knows_no_conditions_is_not_believed_to_keep_them(
    seaweed_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}/old", **options_of(seaweed_server))
    store.write_bytes("k", b"one")
    members = store.ground.open().fs.s3.meta.service_model.operation_model("PutObject").input_shape.members
    for name in ("IfMatch", "IfNoneMatch"):
        monkeypatch.delitem(members, name)
    with pytest.raises(UnsupportedError, match="upgrade"):
        store.create_bytes("k", b"two")
    with pytest.raises(UnsupportedError, match="upgrade"):
        store.replace_bytes("k", b"two", hashlib.sha256(b"one").hexdigest())
    assert store.read_bytes("k") == b"one"


def test_a_flipped_bit_is_noticed(s3_faults: FaultProxy, bucket: str) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}", **options_of(s3_faults.server))
    store.write_bytes("k", b"old")
    s3_faults.fail("flip", "PUT")
    with pytest.raises(StoreError):
        store.write_bytes("k", b"new" * 1000)
    assert store.read_bytes("k") == b"old"


@pytest.mark.parametrize("verb", ["exists", "read_bytes", "open_reader", "delete", "write", "list"])
def test_a_missing_bucket_is_no_missing_artifact(seaweed_server: S3Server, verb: str) -> None:
    store = FsspecArtifactStore("s3://no-such-bucket/p", **options_of(seaweed_server))
    calls = {"write": lambda: store.write_bytes("k", b""), "list": lambda: list(store.iter_keys())}
    with pytest.raises(StoreError, match="there is no bucket 'no-such-bucket'") as caught:
        calls.get(verb, lambda: getattr(store, verb)("k"))()
    assert not isinstance(caught.value, ArtifactNotFoundError)


def test_wrong_credentials_are_refused_without_being_told(seaweed_server: S3Server, bucket: str) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}", **options_of(seaweed_server, secret="WRONG-SECRET", token="A-TOKEN"))
    for call in (lambda: store.read_bytes("k"), lambda: store.write_bytes("k", b""), lambda: list(store.iter_keys())):
        with pytest.raises(StoreAccessError) as caught:
            call()
        for secret in ("WRONG-SECRET", "A-TOKEN", seaweed_server.secret_key):
            assert secret not in str(caught.value) + repr(caught.value) + repr(store)


def _use(store: FsspecArtifactStore, key: str) -> bytes:
    store.write_bytes(key, b"by child")
    assert key in list(store.iter_keys())
    return store.read_bytes("from-parent")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_that_was_used_works_in_child_processes(seaweed_server: S3Server, bucket: str, method: str) -> None:
    store = FsspecArtifactStore(f"s3://{bucket}", **options_of(seaweed_server))
    store.write_bytes("from-parent", b"v")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert [f.result(60) for f in [pool.submit(_use, store, f"k{n}") for n in range(4)]] == [b"v"] * 4
    assert store.read_bytes("k3") == b"by child"


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_scheme_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(MissingExtraError, match=r"emdstore\[s3fs\]"):
        FsspecArtifactStore("s3://bucket")
    with pytest.raises(MissingExtraError, match="Install s3fs"):
        FsspecArtifactStore("sftp://host/p")


@pytest.mark.parametrize("url", ["simplecache::s3://b", "filecache::memory://x", "blockcache::file:///x"])
def test_a_cache_is_refused(url: str) -> None:
    with pytest.raises(StoreURLError, match="stale"):
        FsspecArtifactStore(url)


def test_secrets_in_urls_and_options_are_not_shown() -> None:
    options = {"password": "PASS-OPTION", "client_kwargs": {"api_key": "DEEP"}}
    store = FsspecArtifactStore("http://user:pass@x", **options)
    assert "pass@" not in repr(store)
    assert not {"PASS-OPTION", "DEEP"} & set(repr(store).split("'"))


class FoldingFileSystem(MemoryFileSystem):
    """Keeps names as they are and takes upper for lower case when it looks for one, as SMB's shares do."""

    protocol = "folding"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        found = next((each for each in self.store if each.lower() == path.lower()), path)
        return super().info(found)


def test_where_two_names_are_one_the_second_is_refused() -> None:
    fsspec.register_implementation("folding", FoldingFileSystem, clobber=True)
    store = FsspecArtifactStore("folding://place")
    store.write_bytes("TAS.png", b"first")
    with pytest.raises(KeyConflictError, match="treats the two names as one"):
        store.write_bytes("tas.png", b"second")
    with pytest.raises(KeyConflictError), store.open_writer("Tas.png") as writer:
        writer.write(b"third")
    store.write_bytes("TAS.png", b"again")
    assert store.read_bytes("TAS.png") == b"again"
    assert list(store.iter_keys()) == ["TAS.png"]
