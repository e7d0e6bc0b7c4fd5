"""Files that go from this machine to the far end, or come from there, with their times.

Small files travel together: several in a frame, and the next frames before the answer to the first has come. A copy has
the time of its source, by which the next transfer knows it again.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import attrs

from emdstore.errors import EmdstoreError
from emdstore.keys import validate_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local.files import check_unchanged, is_program, let_run, read_whole
from emdstore.stores.port import CHUNK_SIZE, Copied
from emdstore.stores.ssh import program as far
from emdstore.stores.ssh.farend import LARGE, FarEnd, FarReader, FarWriter
from emdstore.stores.ssh.sessions import Session

_AHEAD_BYTES = far.WINDOW
_TOGETHER_BYTES = far.PIECE_BYTES
_TOGETHER = 32
"""How many small files are in one frame, at most."""
_AHEAD_FRAMES = 4

_Moved = Callable[[int], object] | None


@attrs.frozen
class _Read:
    """Small files that are sent together, and the outcome of each on this side."""

    keys: list[str] = attrs.field(factory=list)
    read: list[Copied | EmdstoreError] = attrs.field(factory=list)
    told: list[dict[str, Any]] = attrs.field(factory=list)
    parts: list[bytes] = attrs.field(factory=list)

    @property
    def bytes(self) -> int:
        return sum(map(len, self.parts))


@attrs.frozen
class _Sent:
    """Small files that were sent, and not yet answered for."""

    read: _Read
    number: int
    frames: SimpleQueue[Any]


class SendFiles(Session[FarEnd]):
    """See `CopiesMany`: from a folder of this machine to the far end."""

    kind = FarEnd

    def copy_over(self, side: FarEnd, key: str, moved: _Moved) -> Copied:
        """See `Session.copy_over`."""
        with self.files.root.translating("read", key):
            fd, before = self.files.open(key)
            try:
                if 0 < before.st_size <= LARGE:
                    data = read_whole(fd, before, key)
                    side.put(key, data, **_kept(before))
                    if moved is not None:
                        moved(len(data))
                    return Copied(len(data), sha256_of(data))
                with FarWriter(side, key, **_kept(before)) as writer:
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
        waiting: deque[_Sent] = deque()
        ahead = 0
        with self.connected() as end:
            try:
                for read in self._read_together(keys):
                    number, frames = end.begin()
                    waiting.append(_Sent(read, number, frames))
                    ahead += read.bytes
                    with contextlib.suppress(EmdstoreError):  # each of them hears of it
                        end.send(number, far.PUT_MANY, {"files": read.told}, *read.parts)
                    while waiting and (ahead > _AHEAD_BYTES or end.is_cut or not waiting[0].frames.empty()):
                        ahead -= waiting[0].read.bytes
                        yield from _settled(end, waiting.popleft(), moved)
                while waiting:
                    yield from _settled(end, waiting.popleft(), moved)
            finally:
                for each in waiting:
                    end.forget(each.number)

    def _read_together(self, keys: Sequence[str]) -> Iterator[_Read]:
        """Read and hash files, and yield them in frames."""
        together, size = _Read(), 0
        for key in keys:
            together.keys.append(key)
            try:
                data, kept = self._read(validate_key(key))
            except EmdstoreError as error:
                together.read.append(error)
                continue
            digest = sha256_of(data)
            together.read.append(Copied(len(data), digest))
            together.told.append({"key": key, "size": len(data), "sha256": digest, **kept})
            together.parts.append(data)
            size += len(data)
            if size >= _TOGETHER_BYTES or len(together.keys) >= _TOGETHER:
                yield together
                together, size = _Read(), 0
        if together.keys:
            yield together

    def _read(self, key: str) -> tuple[bytes, dict[str, Any]]:
        with self.files.root.translating("read", key):
            fd, before = self.files.open(key)
            try:
                return read_whole(fd, before, key), _kept(before)
            finally:
                os.close(fd)


def _settled(end: FarEnd, sent: _Sent, moved: _Moved) -> Iterator[Copied | EmdstoreError]:
    """Wait for the answer to files that were sent, and yield what became of each."""
    read, failed = sent.read, {}
    lost: EmdstoreError | None = None
    try:
        failed = dict(end.receive(sent.frames, "", "write")[1].get("failed", ()))
    except EmdstoreError as error:
        lost = error
    finally:
        end.forget(sent.number)
    places = itertools.count()
    for key, each in zip(read.keys, read.read, strict=True):
        if isinstance(each, Copied):
            answer = failed.get(next(places))
            if lost is not None:
                each = copy.copy(lost)
            elif answer is not None:
                each = end.error_of(answer, key, "write")
            elif moved is not None:
                moved(each.size or 0)
        yield each


def _kept(status: os.stat_result) -> dict[str, Any]:
    """Return what a copy keeps of a file besides its bytes: its time, and that it is a program."""
    kept: dict[str, Any] = {"mtime": status.st_mtime_ns}
    if is_program(status):
        kept["program"] = True
    return kept


@attrs.frozen
class _Asked:
    """Small files that were asked for, and have not all come."""

    keys: list[str]
    number: int
    frames: SimpleQueue[Any]


class FetchFiles(Session[FarEnd]):
    """See `CopiesMany`: from the far end to a folder of this machine."""

    kind = FarEnd

    def copy_over(self, side: FarEnd, key: str, moved: _Moved) -> Copied:
        """See `Session.copy_over`."""
        with FarReader(side, key) as reader, self.put(key) as out:
            while data := reader.read(far.WINDOW):
                self.files.write(out, data, key)
                if moved is not None:
                    moved(len(data))
            _keep(out, reader.mtime_ns, is_program=reader.is_program)
        return Copied(reader.size, reader.sha256)

    def copy_many(self, keys: Sequence[str], moved: _Moved = None, /) -> Iterator[Copied | EmdstoreError]:
        """See `CopiesMany.copy_many`."""
        asked: deque[_Asked] = deque()
        left = deque(keys)
        with self.connected() as end:
            try:
                while asked or left:
                    while left and len(asked) < _AHEAD_FRAMES:
                        together = [left.popleft() for _ in range(min(len(left), _TOGETHER))]
                        asked.append(_Asked(together, *end.begin()))
                        with contextlib.suppress(EmdstoreError):  # each of them hears of it
                            end.send(asked[-1].number, far.GET_MANY, {"keys": together})
                    yield from self._taken(end, asked[0], moved)
                    asked.popleft()
            finally:
                for each in asked:
                    end.forget(each.number)
                    if not end.is_cut:
                        with contextlib.suppress(EmdstoreError):
                            end.send(each.number, far.CANCEL, {})

    def _taken(self, end: FarEnd, asked: _Asked, moved: _Moved) -> Iterator[Copied | EmdstoreError]:
        """Put files in place as they come, and yield what became of each."""
        left = deque(asked.keys)
        while left:
            try:
                kind, told, body = end.receive(asked.frames, "", "read")
            except EmdstoreError as error:
                yield from (copy.copy(error) for _ in left)
                break
            view, at = memoryview(body), 0
            for each in told["files"]:
                key = left.popleft()
                size = each.get("size", 0)
                try:
                    if each.get("code") == "large":
                        yield self.copy_over(end, key, moved)
                    elif "code" in each:
                        yield end.error_of(each, key, "read")
                    else:
                        yield self._put_small(end, key, each, view[at : at + size], moved)
                except EmdstoreError as error:
                    yield error
                at += size
            if kind == far.PIECE:
                with contextlib.suppress(EmdstoreError):
                    end.send(asked.number, far.TAKEN, {"room": len(body)})
        end.forget(asked.number)

    def _put_small(self, end: FarEnd, key: str, told: dict[str, Any], data: memoryview, moved: _Moved) -> Copied:
        digest = hashlib.sha256(data).hexdigest()
        end.check(digest, told["sha256"], key)
        with self.put(key) as out:
            self.files.write(out, data, key)
            if moved is not None:
                moved(len(data))
            _keep(out, told["stat"][1], is_program=told.get("program", False))
        return Copied(len(data), digest)


def _keep(fd: int, mtime_ns: int, *, is_program: bool) -> None:
    """Give a copy what it keeps of its source."""
    if is_program:
        let_run(fd)
    os.utime(fd, ns=(mtime_ns, mtime_ns))
