"""Files that go from this machine to the far end, or come from there, with their times.

A small file would take a round trip of its own. So of a batch the next ones are sent, or asked for, before the answer
to the first has come. A copy has the time of its source, by which the next transfer knows it again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import attrs

from emdstore.errors import EmdstoreError, StoreUnavailableError
from emdstore.keys import validate_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local.files import FileSession, check_unchanged, read_whole
from emdstore.stores.local.root import Root
from emdstore.stores.port import CHUNK_SIZE, Copied
from emdstore.stores.ssh import program as far
from emdstore.stores.ssh.farend import LARGE, FarEnd, FarReader, FarWriter
from emdstore.stores.ssh.lines import Lines

_AHEAD_BYTES = far.WINDOW
_AHEAD_FILES = 32

_Moved = Callable[[int], object] | None


@attrs.define
class _Sent:
    """A small file that was sent, and not yet answered for."""

    key: str
    number: int
    frames: SimpleQueue[Any]
    size: int
    sha256: str


class SendFiles:
    """See `CopiesMany`: from a folder of this machine to the far end."""

    def __init__(self, source: Root, lines: Lines) -> None:
        self._source, self._lines = FileSession(source), lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._source.close()

    def copy(self, key: str, moved: _Moved = None, /) -> Copied:
        """See `CopySession.copy`."""
        validate_key(key)
        return self._lines.call(lambda side: self._copy(_program(side), key, moved))

    def _copy(self, end: FarEnd, key: str, moved: _Moved) -> Copied:
        with self._source.root.translating("read", key):
            fd, before = self._source.open(key)
            try:
                if 0 < before.st_size <= LARGE:
                    data = read_whole(fd, before, key)
                    end.put(key, data, **_kept(before))
                    if moved is not None:
                        moved(len(data))
                    return Copied(len(data), sha256_of(data))
                with FarWriter(end, key, **_kept(before)) as writer:
                    while data := os.read(fd, CHUNK_SIZE):
                        writer.write(data)
                        if moved is not None:
                            moved(len(data))
                    check_unchanged(before, os.fstat(fd), writer.size, key)
                return Copied(writer.size, writer.sha256)
            finally:
                os.close(fd)

    def copy_many(self, keys: Sequence[str], moved: _Moved = None, /) -> Iterator[Copied | EmdstoreError]:
        """See `CopiesMany.copy_many`."""
        waiting: deque[_Sent | EmdstoreError] = deque()
        ahead = 0
        with self._lines.taken() as side:
            end = _program(side)
            try:
                for key in keys:
                    try:
                        sent = self._send(end, validate_key(key))
                        ahead += sent.size
                        waiting.append(sent)
                    except EmdstoreError as error:
                        waiting.append(error)
                    while waiting and (ahead > _AHEAD_BYTES or _is_settled(waiting[0])):
                        first = waiting.popleft()
                        ahead -= first.size if isinstance(first, _Sent) else 0
                        yield _settle(end, first, moved)
                while waiting:
                    yield _settle(end, waiting.popleft(), moved)
            finally:
                for each in waiting:
                    if isinstance(each, _Sent):
                        end.forget(each.number)

    def _send(self, end: FarEnd, key: str) -> _Sent:
        with self._source.root.translating("read", key):
            fd, before = self._source.open(key)
            try:
                data = read_whole(fd, before, key)
            finally:
                os.close(fd)
        digest = sha256_of(data)
        number, frames = end.begin()
        try:
            end.send(number, far.PUT, {"key": key, "sha256": digest, **_kept(before)}, data)
        except BaseException:
            end.forget(number)
            raise
        return _Sent(key, number, frames, len(data), digest)


def _is_settled(first: _Sent | EmdstoreError) -> bool:
    return not isinstance(first, _Sent) or not first.frames.empty()


def _settle(end: FarEnd, first: _Sent | EmdstoreError, moved: _Moved) -> Copied | EmdstoreError:
    """Wait for the answer to a file that was sent."""
    if not isinstance(first, _Sent):
        return first
    try:
        end.receive(first.frames, first.key, "write")
    except EmdstoreError as error:
        return error
    finally:
        end.forget(first.number)
    if moved is not None:
        moved(first.size)
    return Copied(first.size, first.sha256)


def _kept(status: os.stat_result) -> dict[str, Any]:
    """Return what a copy keeps of a file besides its bytes: its time, and that it is a program."""
    kept: dict[str, Any] = {"mtime": status.st_mtime_ns}
    if status.st_mode & 0o111:
        kept["program"] = True
    return kept


class FetchFiles:
    """See `CopiesMany`: from the far end to a folder of this machine."""

    def __init__(self, lines: Lines, dest: Root) -> None:
        self._lines, self._dest = lines, FileSession(dest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._dest.close()

    def copy(self, key: str, moved: _Moved = None, /) -> Copied:
        """See `CopySession.copy`."""
        validate_key(key)

        def fetch(side: object) -> Copied:
            with FarReader(_program(side), key) as reader:
                return self._take(reader, key, moved)

        return self._lines.call(fetch)

    def copy_many(self, keys: Sequence[str], moved: _Moved = None, /) -> Iterator[Copied | EmdstoreError]:
        """See `CopiesMany.copy_many`."""
        asked: deque[tuple[FarReader, EmdstoreError | None]] = deque()
        left = deque(keys)
        with self._lines.taken() as side:
            end = _program(side)
            try:
                while asked or left:
                    if left and len(asked) <= _AHEAD_FILES // 2:
                        more = [
                            FarReader(end, validate_key(left.popleft()), ask=False)
                            for _ in range(min(len(left), _AHEAD_FILES - len(asked)))
                        ]
                        failed: EmdstoreError | None = None
                        try:
                            end.send_together([reader.request for reader in more])
                        except EmdstoreError as error:
                            failed = error
                        asked += [(reader, failed) for reader in more]
                    reader, unsent = asked.popleft()
                    yield unsent or self._taken(reader, moved)
            finally:
                for reader, _ in asked:
                    with contextlib.suppress(EmdstoreError):
                        reader.__exit__(None, None, None)

    def _taken(self, reader: FarReader, moved: _Moved) -> Copied | EmdstoreError:
        try:
            with reader:
                reader.begin()
                return self._take(reader, reader.info.key, moved)
        except EmdstoreError as error:
            return error

    def _take(self, reader: FarReader, key: str, moved: _Moved) -> Copied:
        dest = self._dest
        with dest.root.translating("write", key):
            out = dest.stage(key)
            try:
                while data := reader.read(far.WINDOW):
                    dest.write(out, data, key)
                    if moved is not None:
                        moved(len(data))
                if reader.is_program:
                    mode = stat.S_IMODE(os.fstat(out).st_mode)
                    os.fchmod(out, mode | (mode & 0o444) >> 2)
                os.utime(out, ns=(reader.mtime_ns, reader.mtime_ns))
            except BaseException:
                dest.discard(out)
                raise
            dest.put_in_place(out, key)
        return Copied(reader.size, reader.sha256)


def _program(side: object) -> FarEnd:
    """Return the far side as the program that it is; a store that fell back to SFTP in between has none."""
    if not isinstance(side, FarEnd):
        raise StoreUnavailableError("the other side can only do SFTP by now; try again")
    return side
