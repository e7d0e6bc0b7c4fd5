"""The least that a copy takes with the same parts and a digest of every byte: nothing staged or reported, and compared
only with an MD5 that the server has, as `rclone` does too, or over SSH with the digest of the other end.

Where a transfer is close to this, only another part could make it faster: another engine, another hash, another disk.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from benchmarks import stream
from benchmarks.costs import PROMISES, copy_files

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store

_T = TypeVar("_T")

_PART = 1024 * 1024
_RECEIVING, _SENDING, _ASKING = 4, 8, 32
"""Threads, by trial on two cores: more were slower."""


def copy(source: str, dest: str) -> None:
    """Copy what lies at one URL to another."""
    if source.startswith("ssh://"):
        return _over_ssh(source, "send", lambda given: stream.receive(given, dest))
    if dest.startswith("ssh://"):
        return _over_ssh(dest, "receive", lambda out: stream.send(out, source))
    if not source.startswith("s3://") and not dest.startswith("s3://"):
        return _copy_files(Path(source), Path(dest))
    if source.startswith("s3://") and dest.startswith("s3://"):
        return _copy_objects(source, dest)
    return _download(source, Path(dest)) if source.startswith("s3://") else _upload(Path(source), dest)


def _copy_files(source: Path, dest: Path) -> None:
    """Copy with one process a core, the largest files first, each to whoever has the least to do."""
    shares: list[tuple[int, list[str]]] = [(0, []) for _ in range(os.cpu_count() or 1)]
    for size, name in sorted(((file.stat().st_size, name) for name, file in _files(source)), reverse=True):
        least = min(range(len(shares)), key=lambda number: shares[number][0])
        shares[least] = (shares[least][0] + size, [*shares[least][1], name])
    fork = multiprocessing.get_context("fork")
    workers = [
        fork.Process(target=copy_files, args=(source, dest, sorted(names), PROMISES["+ hash"])) for _, names in shares
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def _download(source: str, dest: Path) -> None:
    store, prefix = _bucket(source)
    made: set[Path] = set()

    def fetch(key: str) -> None:
        import obstore

        file, digest = dest / key.removeprefix(prefix), hashlib.sha256()
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        found = obstore.get(store, key)
        tag = (found.meta["e_tag"] or "-").strip('"')
        check = None if "-" in tag else hashlib.md5(usedforsecurity=False)
        with file.open("wb", buffering=0) as out:
            for part in found.stream(min_chunk_size=_PART):
                digest.update(part)
                out.write(part)
                if check is not None:
                    check.update(part)
        assert check is None or check.hexdigest() == tag

    _each(_RECEIVING, fetch, [each["path"] for each in _listed(store, prefix)])


def _upload(source: Path, dest: str) -> None:
    store, prefix = _bucket(dest)

    def send(item: tuple[str, Path]) -> None:
        import obstore

        name, file = item
        if file.stat().st_size > 8 * _PART:
            with file.open("rb") as data:
                hashlib.file_digest(data, "sha256")
            obstore.put(store, prefix + name, file)
        else:
            body = file.read_bytes()
            hashlib.sha256(body)
            obstore.put(store, prefix + name, body, use_multipart=False)

    _each(_SENDING, send, list(_files(source)))


def _copy_objects(source: str, dest: str) -> None:
    """Have the server copy, inside one bucket, as the other contenders do; a listing must show what it says it did."""
    (store, prefix), (_, to) = _bucket(source), _bucket(dest)
    wanted = _tags(store, prefix)

    def order(name: str) -> None:
        import obstore

        obstore.copy(store, prefix + name, to + name)

    _each(_ASKING, order, list(wanted))
    assert _tags(store, to) == wanted


def _over_ssh(url: str, there: str, here: Callable[[IO[bytes]], None]) -> None:
    """Send all files in one stream, or receive them, with `benchmarks.stream` at the other end."""
    parts = urlsplit(url)
    start = [*shlex.split(os.environ["EMDSTORE_SSH"]), "-c", "aes128-gcm@openssh.com", "-p", str(parts.port)]
    program = ["python3", "-c", Path(stream.__file__).read_text(encoding="utf-8"), there, parts.path]
    with subprocess.Popen(
        [*start, f"{parts.username}@{parts.hostname}", shlex.join(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=256 * 1024,
    ) as ssh:
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        if there == "send":
            here(ssh.stdout)
        else:
            here(ssh.stdin)
            ssh.stdin.close()
            assert ssh.stdout.read() == b"done\n"
    assert ssh.returncode == 0


def _each(threads: int, function: Callable[[_T], None], items: list[_T]) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(function, items):
            pass


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for root, _, names in os.walk(folder):
        for file in map(Path(root).joinpath, names):
            yield file.relative_to(folder).as_posix(), file


def _bucket(url: str) -> tuple[S3Store, str]:
    from obstore.store import S3Store

    parts = urlsplit(url)
    store = S3Store(
        parts.netloc, endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True, "timeout": "600s"}
    )
    return store, parts.path.strip("/") + "/"


def _listed(store: S3Store, prefix: str) -> Iterator[ObjectMeta]:
    import obstore

    return itertools.chain.from_iterable(obstore.list(store, prefix))


def _tags(store: S3Store, prefix: str) -> dict[str, tuple[int, str | None]]:
    """Return the size and the tag of each object below a prefix."""
    return {each["path"].removeprefix(prefix): (each["size"], each["e_tag"]) for each in _listed(store, prefix)}
