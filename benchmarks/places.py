"""Where bytes lie: a folder, or a folder of a bucket; read and checked here without the code that is measured."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

import attrs

Manifest: TypeAlias = "Mapping[str, tuple[int, str]]"
"""Size and SHA-256 of each file by its path."""

_CHUNK = 1024 * 1024
_AT_ONCE = 32


class DifferingBytesError(Exception):
    """A copy is not what was copied: the run has failed, whatever it measured."""


@attrs.frozen
class Folder:
    """A folder of this machine."""

    path: Path

    @property
    def url(self) -> str:
        return os.fspath(self.path)

    def manifest(self) -> dict[str, tuple[int, str]]:
        files = [Path(folder) / name for folder, _, names in os.walk(self.path) for name in names]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(_hash_file, files)
            return {file.relative_to(self.path).as_posix(): each for file, each in zip(files, found, strict=True)}

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@attrs.frozen
class Objects:
    """A folder of a bucket on a server that checks no signatures."""

    endpoint: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def manifest(self) -> dict[str, tuple[int, str]]:
        keys = list(self._keys())
        found = self._each(self._hash, keys)
        return {key.removeprefix(self.prefix + "/"): each for key, each in zip(keys, found, strict=True)}

    def make_bucket(self) -> None:
        _ask(_Connections(self.endpoint), "PUT", f"/{self.bucket}")

    def load(self, folder: Folder, keys: list[str]) -> None:
        """Put files there, to copy them from there; their ETags are MD5s, as they are with servers elsewhere."""

        def put(connections: _Connections, key: str) -> None:
            with (folder.path / key).open("rb") as file:
                headers = {"Content-MD5": b64encode(hashlib.file_digest(file, "md5").digest()).decode()}
                size = file.tell()
                file.seek(0)
                _ask(
                    connections,
                    "PUT",
                    self._path(f"{self.prefix}/{key}"),
                    file,
                    {**headers, "Content-Length": str(size)},
                )

        self._each(put, keys)

    def clear(self) -> None:
        self._each(lambda connections, key: _ask(connections, "DELETE", self._path(key)), list(self._keys()))

    def _hash(self, connections: _Connections, key: str) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        connection = connections.mine()
        connection.request("GET", self._path(key))
        answer = connection.getresponse()
        while chunk := answer.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
        return size, digest.hexdigest()

    def _keys(self) -> Iterator[str]:
        connections, after = _Connections(self.endpoint), ""
        while True:
            query = f"list-type=2&encoding-type=url&prefix={quote(self.prefix, safe='')}/&start-after={quote(after)}"
            page = ElementTree.fromstring(_ask(connections, "GET", f"/{self.bucket}?{query}"))
            keys = [unquote_plus(each.findtext("{*}Key", "")) for each in page.iterfind("{*}Contents")]
            yield from keys
            if page.findtext("{*}IsTruncated") != "true":
                return
            after = keys[-1]

    def _each(self, function: Callable[[_Connections, str], Any], keys: list[str]) -> list[Any]:
        connections = _Connections(self.endpoint)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda key: function(connections, key), keys))

    def _path(self, key: str) -> str:
        return f"/{self.bucket}/{quote(key)}"


Place: TypeAlias = "Folder | Objects"


def check(place: Place, expected: Manifest) -> None:
    """Compare what lies at a place with what should: names, sizes and SHA-256.

    Raises
    ------
    DifferingBytesError
        With the first differences.
    """
    found = place.manifest()
    if found != expected:
        differing = sorted({key for key, _ in {*found.items()} ^ {*expected.items()}})
        raise DifferingBytesError(
            f"{place.url} does not hold what was copied there: {len(differing)} of {len(expected)} files differ: "
            + ", ".join(differing[:5])
        )


def _hash_file(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return path.stat().st_size, digest.hexdigest()


class _Connections:
    """One connection to a server for each thread that asks for it."""

    def __init__(self, endpoint: str) -> None:
        self._address = urlsplit(endpoint)
        self._of_thread = threading.local()

    def mine(self) -> http.client.HTTPConnection:
        if not hasattr(self._of_thread, "connection"):
            host, port = self._address.hostname or "", self._address.port
            self._of_thread.connection = http.client.HTTPConnection(host, port, timeout=600)
        connection: http.client.HTTPConnection = self._of_thread.connection
        return connection


def _ask(
    connections: _Connections, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> bytes:
    connection = connections.mine()
    connection.request(method, path, body, headers or {"Content-Length": "0"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 300:
        raise OSError(f"{method} {path}: {answer.status} {data[:200]!r}")
    return data
