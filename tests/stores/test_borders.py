"""Nothing but errors of the family comes out of a store, whatever the system, an engine or a server does."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import fsspec
import pytest
from hypothesis import example, given, settings, strategies as st
from tests.servers.s3 import FaultProxy, S3Server

from emdstore import system
from emdstore.errors import EmdstoreError, StoreAccessError, StoreError, StoreUnavailableError
from emdstore.per_process import PerProcess
from emdstore.stores import open_store
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.objects import bucket
from emdstore.stores.s3 import S3ArtifactStore


def calls_of(store: Any, source: Any = None) -> dict[str, Callable[[], object]]:
    """Return every verb of a store, called with a key that is there."""

    def read() -> None:
        with store.open_reader("a/b") as reader:
            list(iter(reader.read, b""))

    def write() -> None:
        with store.open_writer("a/new") as writer:
            writer.write(b"x" * 10)

    def copy() -> None:
        with store.copy_from(source) as session:
            session.copy("a/b")

    calls: dict[str, Callable[[], object]] = {
        "exists": lambda: store.exists("a/b"),
        "read_bytes": lambda: store.read_bytes("a/b"),
        "write_bytes": lambda: store.write_bytes("a/b", b"new"),
        "iter_keys": lambda: list(store.iter_keys()),
        "iter_info": lambda: list(store.iter_info()),
        "iter_found": lambda: list(store.iter_found("a")),
        "info": lambda: store.info("a/b"),
        "open_reader": read,
        "open_writer": write,
        "delete": lambda: store.delete("a/c"),
    }
    if hasattr(store, "create_bytes"):
        calls["create_bytes"] = lambda: store.create_bytes("a/created", b"x")
    if source is not None:
        calls["copy"] = copy
    return calls


VERBS = list(calls_of(LocalArtifactStore("/"), object()))
TROUBLES = [errno.EIO, errno.EMFILE, errno.ENOSPC, errno.EACCES]
SYSTEM_CALLS = [
    "open", "stat", "fstat", "read", "readv", "write", "rename", "link", "unlink", "mkdir", "rmdir", "scandir", "close",
    "fchmod", "ftruncate", "lseek", "readlink",
]  # fmt: skip


class Trouble:
    """Lets the nth of the system's calls fail, and counts them."""

    def __init__(self, nth: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen, self.nth, self.code = 0, nth, code
        for name in SYSTEM_CALLS:
            monkeypatch.setattr(os, name, self.failing(name, getattr(os, name)))

    def failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*args: Any, **options: Any) -> Any:
            self.seen += 1
            if self.seen != self.nth:
                return call(*args, **options)
            if name == "close":
                call(*args)  # the descriptor is gone all the same
            raise OSError(self.code, os.strerror(self.code))

        return fail


@pytest.mark.parametrize("durability", ["system", "object"])
@pytest.mark.parametrize("verb", VERBS)
def test_whatever_the_system_refuses_is_an_error_of_the_family(verb: str, durability: Any, tmp_path: Path) -> None:
    for nth in range(1, 60):
        for code in TROUBLES if durability == "system" else TROUBLES[:1]:
            root = tmp_path / f"{nth}-{code}"
            source = LocalArtifactStore(root / "source")
            source.write_bytes("a/b", b"value")
            (root / "source/a/b").chmod(0o755)
            store = LocalArtifactStore(root / "dest", durability=durability)
            for key in ("a/b", "a/c", "d/e"):
                store.write_bytes(key, b"old")
            (root / "dest/link").symlink_to("d/e")
            with pytest.MonkeyPatch.context() as monkeypatch:
                trouble = Trouble(nth, code, monkeypatch)
                try:
                    calls_of(store, source)[verb]()
                except EmdstoreError:
                    pass
            assert store.read_bytes("a/b") in (b"old", b"new", b"value")
        if trouble.seen < nth:
            return
    raise AssertionError("so many calls of the system for one verb?")


# -- fsspec's file systems ---------------------------------------------------------------------------------------------

ERRORS: list[Callable[[], BaseException]] = [
    *[lambda code=code: OSError(code, os.strerror(code)) for code in TROUBLES],  # type: ignore[misc]
    lambda: ValueError("bad"), lambda: TypeError("bad"), lambda: KeyError("bad"), lambda: IndexError("bad"),
    lambda: RuntimeError("bad"), lambda: AttributeError("bad"), lambda: AssertionError("bad"), lambda: EOFError("bad"),
    lambda: NotImplementedError("bad"), lambda: TimeoutError("bad"), lambda: zipfile.BadZipFile("bad"),
    lambda: tarfile.ReadError("bad"), lambda: zlib.error("bad"), lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    lambda: OverflowError("bad"), lambda: StopIteration("bad"), lambda: OSError("no number"),
]  # fmt: skip

ODD = st.one_of(st.none(), st.integers(-2, 5), st.floats(), st.text(max_size=3), st.binary(max_size=2), st.just([]))
ENTRIES = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.dictionaries(st.sampled_from(["name", "size", "type", "mtime", "ETag", "created"]), ODD, max_size=6),
    st.fixed_dictionaries({"name": st.just("/place/a/b"), "type": st.just("file"), "size": ODD, "mtime": ODD}),
    st.fixed_dictionaries({"name": st.just("/place/a"), "type": ODD, "size": ODD}),
)


class HostileFileSystem(fsspec.AbstractFileSystem):
    """Answers what the test says."""

    protocol = "hostile"
    cachable = False
    says: ClassVar[Callable[..., Any]] = staticmethod(lambda: None)

    def _say(self, *_: Any, **__: Any) -> Any:
        return type(self).says()

    info = cat_file = pipe_file = rm_file = mv = makedirs = mkdir = rmdir = _open = open = _say

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return type(self).says()


@pytest.fixture(scope="module", autouse=True)
def hostile() -> None:
    fsspec.register_implementation("hostile", HostileFileSystem, clobber=True)


@pytest.mark.parametrize("raised", ERRORS, ids=lambda make: repr(make()))
def test_whatever_a_file_system_raises_is_an_error_of_the_family(raised: Callable[[], BaseException]) -> None:
    def fail() -> None:
        raise raised()

    HostileFileSystem.says = staticmethod(fail)
    hasty = attrs.evolve(system.current(), sleep=lambda seconds: None)  # a folder that is gone is looked for again
    for call in calls_of(FsspecArtifactStore("hostile://place")).values():
        with contextlib.suppress(EmdstoreError), system.using(hasty):
            call()


@settings(max_examples=100, derandomize=True)
@given(answer=st.one_of(ENTRIES, st.lists(ENTRIES, max_size=3), ODD))
@example(answer=[{"name": "/place/a/b", "type": "file", "size": None}])
@example(answer={"name": "/place/a/b", "type": "file", "size": "many"})
def test_whatever_a_file_system_answers_is_understood_or_an_error_of_the_family(answer: Any) -> None:
    HostileFileSystem.says = staticmethod(lambda: answer)
    for call in calls_of(FsspecArtifactStore("hostile://place")).values():
        try:
            call()
        except EmdstoreError:
            pass


# -- S3 ----------------------------------------------------------------------------------------------------------------

CODES = [
    (403, "RequestTimeTooSkewed"), (400, "ExpiredToken"), (403, "InvalidObjectState"), (400, "KMS.DisabledException"),
    (404, "NoSuchBucket"), (301, "PermanentRedirect"),
    (400, "AuthorizationHeaderMalformed"), (403, "InvalidAccessKeyId"),
    (409, "OperationAborted"), (405, "MethodNotAllowed"), (411, "MissingContentLength"), (416, "InvalidRange"),
    (418, "Teapot"), (501, "NotImplemented"), (507, "InsufficientStorage"), (304, ""), (204, ""), (302, ""),
]  # fmt: skip


BODY = "<Error><Code>{}</Code><Message>{}</Message></Error>"
CAUSES: list[tuple[int, str, str, type[StoreError], str]] = [
    (403, "InvalidObjectState", "The operation is not valid for the object's storage class", StoreError, "restored"),
    (403, "AccessDenied", "not authorized to perform: kms:Decrypt", StoreAccessError, "kms:GenerateDataKey"),
    (400, "KMS.DisabledException", "the key is disabled", StoreAccessError, "KMS"),
    (403, "RequestTimeTooSkewed", "too large", StoreAccessError, "clock"),
    (400, "ExpiredToken", "The provided token has expired.", StoreAccessError, "expired: get new ones"),
    (403, "InvalidAccessKeyId", "does not exist", StoreAccessError, "AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", "does not match", StoreAccessError, "AWS_SECRET_ACCESS_KEY"),
    (403, "AccessDenied", "Access Denied", StoreAccessError, "check the credentials"),
    (400, "AuthorizationHeaderMalformed", "'us-east-1' is wrong; expecting 'eu-west-1'", StoreError, "eu-west-1:"),
    (301, "PermanentRedirect", "must be addressed using the specified endpoint", StoreError, "another region"),
    (503, "SlowDown", "Please reduce your request rate.", StoreUnavailableError, "fewer workers"),
    (429, "TooManyRequests", "slower", StoreUnavailableError, "fewer workers"),
    (403, "QuotaExceeded", "quota", StoreError, "quota is used up"),
    (507, "XMinioStorageFull", "full", StoreError, "no room left"),
    (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten", StoreAccessError, "is retained"),
    (403, "AccessDenied", "forbidden by object lock", StoreAccessError, "is retained"),
    (404, "NoSuchBucket", "there is none", StoreError, "there is no bucket"),
]


@pytest.mark.parametrize("engine", ["obstore", "s3fs"])
def test_each_known_cause_has_its_advice(moto_server: S3Server, engine: Any) -> None:
    with FaultProxy(moto_server) as proxy:
        store = open_store("s3://bucket/p", engine=engine, retries=0, **proxy.server.options)
        calls = calls_of(store)
        for status, code, said, kind, advice in CAUSES:
            if (engine, status) == ("s3fs", 301):
                continue  # botocore asks for the bucket's region, and is answered the same
            proxy.faults.clear()
            proxy.fail("status", status=status, body=BODY.format(code, said).encode())
            for verb in ("read_bytes", "write_bytes", "iter_keys"):
                with pytest.raises(EmdstoreError, match=advice) as caught:
                    calls[verb]()
                assert isinstance(caught.value, kind), (code, verb)
                assert isinstance(caught.value, StoreAccessError | StoreUnavailableError) == (kind is not StoreError)
    assert (caught.value.errno, code) == (None, "NoSuchBucket")


def test_an_answer_that_has_no_room_for_a_reason_is_asked_for_it(moto_server: S3Server) -> None:
    with FaultProxy(moto_server) as proxy:
        proxy.fail("status", "^HEAD", status=400, body=b"")
        proxy.fail("status", "^GET", status=400, body=BODY.format("ExpiredToken", "it has expired").encode())
        with pytest.raises(StoreAccessError, match="have expired"):
            S3ArtifactStore("s3://bucket/p", **proxy.server.options, retries=0).info("a/b")


class PanicException(BaseException):
    """What pyo3 makes of a panic in Rust."""


class Panicking:
    """Stands in for the engine, and breaks down wherever it is called."""

    def __getattr__(self, name: str) -> Any:
        return Panicking() if name == "_store" else self

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise PanicException("called `Option::unwrap()` on a `None` value")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("broken", ["to open", "to ask"])
def test_an_engine_that_breaks_down_is_an_error_of_the_family(
    moto_server: S3Server, monkeypatch: pytest.MonkeyPatch, verb: str, broken: str
) -> None:
    options = moto_server.options | {"retries": 0}
    store = S3ArtifactStore(f"s3://{moto_server.make_bucket()}/{verb}", **options)
    store.scope("from").write_bytes("a/b", b"x")
    if broken == "to open":
        monkeypatch.setattr(bucket, "_clients", PerProcess(dict))
        store = attrs.evolve(store)
    monkeypatch.setattr(bucket, "extension", Panicking)
    monkeypatch.setattr(bucket, "_heard", PerProcess(bucket._Heard))
    if verb.startswith("iter") and broken == "to ask":
        return  # listings are not the engine's
    with pytest.raises(StoreError, match="broke down") as caught:
        calls_of(store, store.scope("from"))[verb]()
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


@pytest.mark.parametrize(("status", "code"), CODES)
@pytest.mark.parametrize("body", [b"<Error><Code>%s</Code><Message>m</Message></Error>", b"\xff\x00%s", b"<%s"])
def test_whatever_a_server_answers_is_an_error_of_the_family(
    moto_server: S3Server, status: int, code: str, body: bytes
) -> None:
    with FaultProxy(moto_server) as proxy:
        proxy.fail("status", status=status, body=body % code.encode())
        store = S3ArtifactStore("s3://bucket/p", **proxy.server.options, retries=0)
        for call in calls_of(store, store.scope("from")).values():
            with contextlib.suppress(EmdstoreError):
                call()
