"""No pickle holds credentials that somebody passed, and copies work where they can have them."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.servers.s3 import S3Server

from emdstore import LocalArtifactStore, open_store, transfer
from emdstore.errors import StoreAccessError
from emdstore.stores import ArtifactStore

ELSEWHERE = """
import pickle, sys
store = pickle.load(sys.stdin.buffer)
try:
    print(store.read_bytes("a"))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(params=["obstore", "s3fs"])
def make(request: pytest.FixtureRequest, moto_server: S3Server) -> Callable[..., ArtifactStore]:
    """Make a store with credentials that only this process was told of; an artifact lies in it."""
    place = f"s3://{moto_server.make_bucket()}/x"
    options = moto_server.options
    open_store(place, **options).write_bytes("a", b"here")
    return lambda **more: open_store(place, engine=request.param, retries=0, **options | more)


def read_elsewhere(pickled: bytes, **env: str) -> str:
    """Have a fresh interpreter, as on another machine, read the artifact by a pickled store."""
    given = {"PYTHONPATH": ":".join(sys.path), "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere", **env}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=pickled, capture_output=True, env=given)
    return done.stdout.decode() + done.stderr.decode()


def test_a_pickle_holds_no_credentials_and_a_copy_elsewhere_looks_for_its_own(
    make: Callable[..., ArtifactStore], moto_server: S3Server
) -> None:
    store = make()
    pickled = pickle.dumps(store)
    for secret in (moto_server.secret_key, moto_server.access_key):
        assert secret.encode() not in pickled
    assert pickle.loads(pickled).read_bytes("a") == b"here"
    env = {"AWS_ACCESS_KEY_ID": moto_server.access_key, "AWS_SECRET_ACCESS_KEY": moto_server.secret_key}
    assert read_elsewhere(pickled, **env) == "b'here'\n"
    assert read_elsewhere(pickle.dumps(make(send_credentials=True))) == "b'here'\n"


def test_a_copy_that_finds_none_says_what_to_do(moto_server: S3Server) -> None:
    store = open_store(f"s3://{moto_server.make_bucket()}", engine="obstore", **moto_server.options)
    said = read_elsewhere(pickle.dumps(store))
    assert said.startswith("StoreAccessError")
    assert "access_key_id, secret_access_key" in said
    assert "send_credentials=True" in said


@pytest.mark.parametrize("method", ["fork", "spawn", "threads"])
def test_workers_of_this_machine_have_them_all_the_same(moto_server: S3Server, tmp_path: Path, method: str) -> None:
    store = open_store(f"s3://{moto_server.make_bucket()}", engine="obstore", **moto_server.options)
    store.write_bytes("a", b"here")
    pool: Executor = ThreadPoolExecutor(2)
    if method != "threads":
        pool = ProcessPoolExecutor(1, multiprocessing.get_context(method))
    with pool:
        report = transfer(store, tmp_path, executor=pool)
    report.raise_for_failures()
    assert LocalArtifactStore(tmp_path).read_bytes("a") == b"here"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://me:PW-SECRET@127.0.0.1:1/x", {}),
        ("ftp://127.0.0.1/x", {"username": "me", "password": "PW-SECRET"}),
        ("s3://bucket", {"engine": "s3fs", "client_kwargs": {"aws_secret_access_key": "PW-SECRET"}}),
        ("s3://bucket", {"engine": "obstore", "config": {"sse_customer_key": "PW-SECRET"}}),
        ("s3://bucket", {"engine": "obstore", "client_options": {"proxy_url": "http://me:PW-SECRET@proxy"}}),
    ],
)
def test_a_copy_that_lacks_more_than_it_can_find_again_is_not_used_without(url: str, options: dict[str, Any]) -> None:
    pickled = pickle.dumps(open_store(url, **options))
    assert b"PW-SECRET" not in pickled
    assert b"PW-SECRET" not in pickle.dumps(pickle.loads(pickled))
    env = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}
    assert read_elsewhere(pickled, **env).startswith(StoreAccessError.__name__)


def test_a_copy_of_a_copy_lacks_the_same() -> None:
    pickled = pickle.dumps(open_store("ftp://me:PW-SECRET@127.0.0.1:1/x"))
    twice = ELSEWHERE.replace("stdin.buffer)", "stdin.buffer); store = pickle.loads(pickle.dumps(store))")
    done = subprocess.run([sys.executable, "-c", twice], input=pickled, capture_output=True)
    assert done.stdout.startswith(b"StoreAccessError")
