"""Copying files from one local store to another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from emdstore.keys import validate_key
from emdstore.stores.local.files import check_unchanged, is_program, let_run
from emdstore.stores.local.root import Root
from emdstore.stores.local.sessions import FileSession
from emdstore.stores.port import Copied

# Small enough for the cache of one core: with a MiB a copy takes twice the processor time.
_BUFFER = 64 * 1024


class CopyFiles:
    """Copies files between two local stores, hashing them on the way.

    It keeps one buffer, because touching fresh memory costs more than the copy. A small file costs ten system calls.
    """

    def __init__(self, source: Root, dest: Root) -> None:
        self._source, self._dest = FileSession(source), FileSession(dest)
        self._buffer = memoryview(bytearray(_BUFFER))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._source.close()
        self._dest.__exit__(kind, error, traceback)

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """See `CopySession.copy`."""
        with self._dest.root.translating("copy", key):
            return self._copy(validate_key(key), moved)

    def _copy(self, key: str, moved: Callable[[int], object] | None) -> Copied:
        fd, before = self._source.open(key)
        try:
            out = self._dest.stage(key)
            try:
                size, digest = self._pour(fd, out, before, key, moved)
                if is_program(before):
                    let_run(out)
                check_unchanged(before, os.fstat(fd), size, key)
                # The copy keeps the time of the source; a different time means different bytes: see `decide`.
                os.utime(out, ns=(before.st_atime_ns, before.st_mtime_ns))
            except BaseException:
                self._dest.discard(out)
                raise
            self._dest.put_in_place(out, key)
        finally:
            os.close(fd)
        return Copied(size, digest)

    def _pour(
        self, fd: int, out: int, before: os.stat_result, key: str, moved: Callable[[int], object] | None
    ) -> tuple[int, str]:
        """Copy the file's bytes; return their number and digest."""
        digest, done, size = hashlib.sha256(), 0, before.st_size
        is_sparse = before.st_blocks * 512 < size
        while done < size or not size:  # to the end, if it claims to have 0
            try:
                count = os.readv(fd, [self._buffer])
            except OSError as error:
                self._source.root.raise_error(error, key, "read")
            if not count:
                break
            chunk = self._buffer[:count]
            digest.update(chunk)
            if is_sparse:
                self._dest.write_sparsely(out, chunk, key)
            else:
                self._dest.write(out, chunk, key)
            done += count
            if moved is not None:
                moved(count)
        if is_sparse:
            try:
                os.ftruncate(out, done)  # a hole at the end
            except OSError as error:
                self._dest.root.raise_error(error, key, "write")
        return done, digest.hexdigest()
