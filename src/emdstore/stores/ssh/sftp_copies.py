"""Files that go from this machine to an SFTP server, or come from there.

A small file takes several round trips, one after the other. So of a batch the next ones are under way before the first
has arrived. A copy has the time at which it was made, not that of its source: SFTP tells whole seconds only, by which a
later transfer could not tell whether the source was written again within the second.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import attrs

from emdstore.errors import EmdstoreError
from emdstore.keys import validate_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local.files import check_unchanged, is_program, let_run, read_whole
from emdstore.stores.port import CHUNK_SIZE, Copied
from emdstore.stores.ssh.sessions import Session
from emdstore.stores.ssh.sftp import Pending, Sftp

_SMALL = 1024 * 1024

_Moved = Callable[[int], object] | None


@attrs.frozen
class _Sent:
    """A small file that is under way."""

    pending: Pending[None]
    size: int
    sha256: str


@attrs.frozen
class _Asked:
    """A small file that was requested, and the number of bytes that it counts for."""

    key: str
    pending: Pending[tuple[bytes, bool]]
    taken: int


class SendFiles(Session[Sftp]):
    """See `CopiesMany`: from a folder of this machine to an SFTP server."""

    kind = Sftp

    def copy_over(self, side: Sftp, key: str, moved: _Moved) -> Copied:
        """See `Session.copy_over`."""
        with self.files.root.translating("read", key):
            fd, before = self.files.open(key)
            try:
                if 0 < before.st_size <= _SMALL:
                    data = read_whole(fd, before, key)
                    side.begin_write(key, data, is_program=is_program(before)).result()
                    if moved is not None:
                        moved(len(data))
                    return Copied(len(data), sha256_of(data))
                digest, size = hashlib.sha256(), 0
                with side.open_writer(key, is_program=is_program(before)) as writer:
                    while data := os.read(fd, CHUNK_SIZE):
                        digest.update(data)
                        size += len(data)
                        writer.write(data)
                        if moved is not None:
                            moved(len(data))
                    check_unchanged(before, os.fstat(fd), size, key)
                return Copied(size, digest.hexdigest())
            finally:
                os.close(fd)

    def copy_many(self, keys: Sequence[str], moved: _Moved = None, /) -> Iterator[Copied | EmdstoreError]:
        """See `CopiesMany.copy_many`."""
        waiting: deque[_Sent | EmdstoreError] = deque()
        with self.connected() as side:
            try:
                for key in keys:
                    while waiting and (not side.sent_ahead.has_room or _is_settled(waiting[0])):
                        yield _settled(side, waiting.popleft(), moved)
                    try:
                        waiting.append(self._send(side, validate_key(key)))
                    except EmdstoreError as error:
                        waiting.append(error)
                while waiting:
                    yield _settled(side, waiting.popleft(), moved)
            finally:
                for each in waiting:
                    if isinstance(each, _Sent):
                        each.pending.give_up()
                        side.sent_ahead.end(each.size)

    def _send(self, side: Sftp, key: str) -> _Sent:
        with self.files.root.translating("read", key):
            fd, before = self.files.open(key)
            try:
                data = read_whole(fd, before, key)
            finally:
                os.close(fd)
        pending = side.begin_write(key, data, is_program=is_program(before))
        side.sent_ahead.begin(len(data))
        return _Sent(pending, len(data), sha256_of(data))


def _is_settled(first: _Sent | EmdstoreError) -> bool:
    return not isinstance(first, _Sent) or first.pending.is_done


def _settled(side: Sftp, first: _Sent | EmdstoreError, moved: _Moved) -> Copied | EmdstoreError:
    """Wait for the end of a copy."""
    if not isinstance(first, _Sent):
        return first
    try:
        first.pending.result()
    except EmdstoreError as error:
        return error
    finally:
        side.sent_ahead.end(first.size)
    if moved is not None:
        moved(first.size)
    return Copied(first.size, first.sha256)


class FetchFiles(Session[Sftp]):
    """See `CopiesMany`: from an SFTP server to a folder of this machine."""

    kind = Sftp

    def copy_over(self, side: Sftp, key: str, moved: _Moved) -> Copied:
        """See `Session.copy_over`."""
        with side.open_reader(key) as reader:
            return self._write(key, iter(reader.read, b""), reader.is_program, moved)

    def copy_many(self, keys: Sequence[str], moved: _Moved = None, /) -> Iterator[Copied | EmdstoreError]:
        """See `CopiesMany.copy_many`."""
        asked: deque[_Asked | EmdstoreError] = deque()
        left = deque(keys)
        with self.connected() as side:
            try:
                while asked or left:
                    while left and (not asked or side.asked_ahead.has_room):
                        key = left.popleft()
                        try:
                            pending = side.begin_read(validate_key(key))
                        except EmdstoreError as error:
                            asked.append(error)
                        else:
                            asked.append(_Asked(key, pending, side.asked_ahead.begin()))
                    yield self._settled(side, asked.popleft(), moved)
            finally:
                for each in asked:
                    if isinstance(each, _Asked):
                        each.pending.give_up()
                        side.asked_ahead.end(each.taken)

    def _settled(self, side: Sftp, first: _Asked | EmdstoreError, moved: _Moved) -> Copied | EmdstoreError:
        if not isinstance(first, _Asked):
            return first
        size = None
        try:
            data, runs = first.pending.result()
            size = len(data)
            return self._write(first.key, iter((data,)), runs, moved)
        except EmdstoreError as error:
            return error
        finally:
            side.asked_ahead.end(first.taken, size)

    def _write(self, key: str, parts: Iterator[bytes], runs: bool, moved: _Moved) -> Copied:
        digest, size = hashlib.sha256(), 0
        with self.put(key) as out:
            for data in parts:
                digest.update(data)
                size += len(data)
                self.files.write(out, data, key)
                if moved is not None:
                    moved(len(data))
            if runs:
                let_run(out)
        return Copied(size, digest.hexdigest())
