"""A store in one SQLite file: ``sqlar:///data/results.sqlar``."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from emdstore import ArtifactNotFoundError, StoreError, StoreURLError
from emdstore.keys import validate_key, validate_prefix

_TABLE = "CREATE TABLE IF NOT EXISTS artifact (key BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID"
_PAGE = 1_000
_SECONDS = 60


def open_sqlar(url: str, **_: object) -> SQLArchiveStore:
    """Open a store by its URL. What a server needs (timeouts, retries) means nothing to a file."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise StoreURLError(f"{url!r} names no file: write sqlar:///folder/file")
    return SQLArchiveStore(unquote(parts.path))


class SQLArchiveStore:
    """Artifacts in one SQLite file.

    A write is a transaction, so readers see the old bytes or the new. Keys are stored as their UTF-8 bytes, which is
    also how they are to be listed. A connection belongs to one thread of one process; this makes it fork-safe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._here = threading.local()

    def __repr__(self) -> str:
        return f"SQLArchiveStore({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SQLArchiveStore) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __reduce__(self) -> tuple[object, ...]:
        return SQLArchiveStore, (str(self.path),)

    def exists(self, key: str, /) -> bool:
        return self._one("SELECT 1 FROM artifact WHERE key = ?", key) is not None

    def read_bytes(self, key: str, /) -> bytes:
        found = self._one("SELECT data FROM artifact WHERE key = ?", key)
        if found is None:
            raise ArtifactNotFoundError(f"no artifact {key!r} in {self!r}", key=key, store=repr(self))
        return bytes(found[0])

    def write_bytes(self, key: str, data: bytes, /) -> None:
        name = validate_key(key).encode()
        try:
            with self._connection() as connection:
                connection.execute("INSERT OR REPLACE INTO artifact VALUES (?, ?)", (name, bytes(data)))
        except sqlite3.Error as error:
            raise self._failed(key, error) from error

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        folder = validate_prefix(prefix)
        # What begins with "folder/" comes before "folder0", which follows it in the order of bytes.
        first, last = (f"{folder}/".encode(), f"{folder}0".encode()) if folder else (b"", b"\xff")
        return self._pages(first, last)

    def _pages(self, after: bytes, last: bytes) -> Iterator[str]:
        query = "SELECT key FROM artifact WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        while True:
            try:
                page = self._connection().execute(query, (after, last, _PAGE)).fetchall()
            except sqlite3.Error as error:
                raise self._failed(None, error) from error
            yield from (key.decode() for (key,) in page)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _one(self, query: str, key: str) -> tuple[bytes] | None:
        name = validate_key(key).encode()
        try:
            found: tuple[bytes] | None = self._connection().execute(query, (name,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(key, error) from error
        return found

    def _connection(self) -> sqlite3.Connection:
        held = getattr(self._here, "connection", None)
        if held is None or self._here.process != os.getpid():  # a fork must not use its parent's
            self.path.parent.mkdir(parents=True, exist_ok=True)
            held = sqlite3.connect(self.path, timeout=_SECONDS)
            with held:
                held.execute(_TABLE)
            self._here.connection, self._here.process = held, os.getpid()
        return held

    def _failed(self, key: str | None, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self!r} cannot be used: {error}", key=key, store=repr(self))
