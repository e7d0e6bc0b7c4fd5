"""Reading, writing and removing one artifact by SFTP, whole or not at all."""

from __future__ import annotations

import collections
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeAlias

import attrs

from emdstore import system
from emdstore.errors import (
    SourceChangedError,
    StoreUnavailableError,
    UnsupportedError,
)
from emdstore.keys import STAGING_PREFIX
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo
from emdstore.stores.races import races
from emdstore.stores.ssh import side
from emdstore.stores.ssh.sftp import wire
from emdstore.stores.ssh.sftp.client import GivenUpError, Lost, Steps, Task
from emdstore.stores.ssh.sftp.ground import Ground, handle_of, is_absent, is_ok
from emdstore.stores.ssh.sftp.wire import Answer, Attributes, Data, Request, Status, WireError

StepsOf: TypeAlias = Callable[[Ground, str], Steps[None]]
"""What is done with one artifact or folder."""

_BLOCK = 128 * 1024
_AHEAD = 32
"""How many blocks of a large artifact are asked for, or sent, before the first is answered: 4 MiB where the server
takes blocks of that size, and 1 MiB elsewhere."""


def describe(key: str, found: Attributes) -> ArtifactInfo:
    """Return what a server says of an artifact.

    There is no version. All that SFTP tells is the size and a whole second, so that one content cannot be told from
    another one of its size that was written within the second: a tag made of them would promise more than it knows.
    """
    modified = float("nan") if found.modified is None else float(found.modified)
    return ArtifactInfo(key, found.size or 0, modified)


# -- reading -------------------------------------------------------------------------------------------------------


def read_whole(ground: Ground, key: str) -> Steps[tuple[bytes, Attributes]]:
    """Return the bytes of an artifact, and what is told of it; `SourceChangedError` if it changes meanwhile.

    Size and time are the same before and after. But the time is a whole second: what was written within the last one
    can be written again without a sign. So what is as young as that is read twice, unless one request has read all of
    it.
    """
    before, handle = yield from _open(ground, key)
    try:
        most = ground.client.most_read
        for _ in races():
            first, after = yield [wire.read(handle, 0, most), wire.fstat(handle)]
            if not isinstance(after, Attributes):
                raise ground.error_of(after, "look at", key)
            if (before.size, before.modified) == (after.size, after.modified):
                break
            before = after  # it was replaced between the look at it and its opening, or is written to
        else:
            raise _changed(key, " again and again")
        data = first.data if isinstance(first, Data) and len(first.data) <= most else _end_of(ground, first, key)
        # What says that it has no bytes may have some all the same, as in /proc: then its end is believed.
        if not data or len(data) == before.size:
            _check_unchanged(before, after, len(data), key)
            return data, before
        parts = [data]
        done = yield from _read_on(ground, handle, key, parts.append, len(data), before.size or 0)
        data = b"".join(parts)
        del parts, first  # of many artifacts at once
        is_young, again = before.size and ground.is_young(before), hashlib.sha256()
        if is_young:
            yield from _read_on(ground, handle, key, again.update, 0, before.size or 0)
        _check_unchanged(before, (yield wire.fstat(handle)), done, key)
        if is_young and again.digest() != hashlib.sha256(data).digest():
            raise _changed(key)
        return data, before
    finally:
        ground.client.post(wire.close(handle))


def _open(ground: Ground, key: str) -> Steps[tuple[Attributes, bytes]]:
    """Open an artifact to read it, and return what was told of it before, and the handle.

    Only a regular file is opened: a pipe would keep the server waiting for ever.
    """
    found = yield from ground.look(key)
    try:
        opened = yield wire.open_file(ground.path(key), wire.READ)
    except GivenUpError as given_up:
        if (handle := handle_of(given_up.answers[0])) is not None:
            ground.client.post(wire.close(handle))
        raise
    handle = handle_of(opened)
    if handle is None:
        yield from ground.refuse(opened, "open", key)
    assert handle is not None
    return found, handle


def _read_on(
    ground: Ground, handle: bytes, key: str, take: Callable[[bytes], object], done: int, size: int
) -> Steps[int]:
    """Read on, up to a size, or to the end if it is 0; return how many bytes there are, from the beginning."""
    most = ground.client.most_read
    while done < size or not size:
        end = min(done + _AHEAD * most, size) if size else done + most
        starts = range(done, end, most)
        asked = [min(most, end - start) for start in starts]
        answers = yield [wire.read(handle, start, count) for start, count in zip(starts, asked, strict=True)]
        for count, answer in zip(asked, answers, strict=True):
            data = _data_of(ground, answer, key, count)
            if not data:
                return done
            take(data)
            done += len(data)
            if len(data) < count:  # what comes after it was asked for at the wrong place
                break
    return done


def _data_of(ground: Ground, answer: Answer, key: str, asked: int) -> bytes:
    """Return the bytes of an answer, none at the end of a file."""
    if isinstance(answer, Data) and 0 < len(answer.data) <= asked:
        return answer.data
    return _end_of(ground, answer, key)


def _end_of(ground: Ground, answer: Answer, key: str) -> bytes:
    if isinstance(answer, Status) and answer.code == wire.EOF:
        return b""
    raise ground.error_of(answer, "read", key)


def _check_unchanged(before: Attributes, after: Answer, size: int, key: str) -> None:
    if not isinstance(after, Attributes):
        raise WireError("nothing is told of an open file")
    if (before.size and size != before.size) or (before.size, before.modified) != (after.size, after.modified):
        raise _changed(key, f" ({before.size} bytes before, {after.size} after, {size} read)")


def _changed(key: str, how: str = "") -> SourceChangedError:
    return SourceChangedError(f"{key!r} changed while it was read{how}; run it again when its writer is done", key=key)


class Reader:
    """See `ArtifactReader`: blocks are asked for ahead of those that are read.

    What is as young as `read_whole` says is read once more at the end, before the end is told.
    """

    def __init__(self, ground: Ground, key: str) -> None:
        self._ground = ground
        with ground.telling(key):
            self._handle, self._before, self._rest = ground.client.run(self._begin(key))
        self.info = describe(key, self._before)
        self.is_program = bool((self._before.mode or 0) & 0o111)
        self._is_unknown = not self._before.size
        if self._is_unknown:
            self.info = attrs.evolve(self.info, size=len(self._rest))
        self._block = min(_BLOCK, ground.client.most_read)
        self._asked: collections.deque[tuple[int, int, Task[Answer]]] = collections.deque()
        self._next, self._done, self._ahead = len(self._rest), len(self._rest), 4
        self._has_ended = False
        self._digest = hashlib.sha256() if self._before.size and ground.is_young(self._before) else None

    def _begin(self, key: str) -> Steps[tuple[bytes, Attributes, bytes]]:
        _, handle = yield from _open(self._ground, key)
        before = yield wire.fstat(handle)
        if not isinstance(before, Attributes):
            raise self._ground.error_of(before, "look at", key)
        parts: list[bytes] = []
        if not before.size:  # `info` has to tell how many bytes come
            yield from _read_on(self._ground, handle, key, parts.append, 0, 0)
        return handle, before, b"".join(parts)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        key = self.info.key
        with self._ground.telling(key):
            if not self._rest and not self._is_unknown and self._done < self.info.size:
                self._rest = self._next_block(key)
            data, self._rest = self._rest[:size], self._rest[size:]
            if not data and size and not self._has_ended:
                self._has_ended = True
                if self._digest is not None:
                    self._read_again(self._digest.digest())
                after = self._ground.client.ask(wire.fstat(self._handle)).result()
                _check_unchanged(self._before, after, self._done, key)
        return data

    def _next_block(self, key: str) -> bytes:
        while self._next < self.info.size and len(self._asked) < self._ahead:
            count = min(self._block, self.info.size - self._next)
            task = self._ground.client.ask(wire.read(self._handle, self._next, count))
            self._asked.append((self._next, count, task))
            self._next += count
        self._ahead = min(2 * self._ahead, _AHEAD)
        start, count, task = self._asked.popleft()
        data = _data_of(self._ground, task.result(), key, count)
        if not data:
            self._raise_cut(key)
        if self._digest is not None:
            self._digest.update(data)
        if len(data) < count:
            task = self._ground.client.ask(wire.read(self._handle, start + len(data), count - len(data)))
            self._asked.appendleft((start + len(data), count - len(data), task))
        self._done += len(data)
        return data

    def _read_again(self, before: bytes) -> None:
        self._digest = hashlib.sha256()
        self._next = self._done = 0
        while self._done < self.info.size:
            self._next_block(self.info.key)
        if self._digest.digest() != before:
            raise _changed(self.info.key)

    def _raise_cut(self, key: str) -> None:
        after = self._ground.client.ask(wire.fstat(self._handle)).result()
        _check_unchanged(self._before, after, self._done, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._ground.client.post(wire.close(self._handle))


# -- writing -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Staged:
    """An unfinished file, open to be written.

    Attributes
    ----------
    path
        What the server calls it.
    handle
        Stands for it while it is open.
    is_taken
        Whether something has the name that it is to get.
    """

    path: str
    handle: bytes
    is_taken: bool


def write_whole(
    ground: Ground, key: str, data: bytes, *, create: bool = False, is_program: bool = False
) -> Steps[None]:
    """Put bytes in place of what is there, or where nothing is (`create`)."""
    staged = yield from stage(ground, key, create=create)
    most = ground.client.most_written
    view = memoryview(data)
    asked = [wire.write(staged.handle, start, view[start : start + most]) for start in range(0, len(data), most)]
    told = [wire.fstat(staged.handle)] if ground.wants_time else []
    try:
        if is_program:
            yield from make_program(staged)
        answers = yield [*asked, *told, *_last_requests(ground, staged)]
        if told:
            ground.learn_time(answers.pop(len(asked)))
        for answer in answers:
            if not is_ok(answer):
                yield from ground.refuse(answer, "write", key)
        yield from put_in_place(ground, key, staged, create=create)
    except Exception:
        yield from _discard(ground, staged.path, None)
        raise


def make_program(staged: Staged) -> Steps[None]:
    """Let whoever may read an unfinished file run it, if the server lets us; a copy is one without that, too."""
    there = yield wire.fstat(staged.handle)
    if isinstance(there, Attributes) and there.mode is not None:
        yield wire.set_mode(staged.handle, there.mode | (there.mode & 0o444) >> 2)


def _last_requests(ground: Ground, staged: Staged) -> list[Request]:
    """Return what is asked after the last byte. Network file systems tell at the close what they did not write."""
    close = wire.close(staged.handle)
    return [wire.fsync(staged.handle), close] if ground.durability == "object" else [close]


def stage(ground: Ground, key: str, *, create: bool = False) -> Steps[Staged]:
    """Open an unfinished file beside the key's place; before a byte moves, refuse what could not take its place.

    Where the folder really is, and what lies at the key, is asked with it at once, and heard before anything else is.
    """
    if ground.durability == "object" and not ground.has(wire.FSYNC):
        raise _lacks(
            ground, key, wire.FSYNC, "flush a file, so that nothing written here is certain to survive a power cut"
        )
    if create and not ground.has(wire.HARDLINK):
        raise _lacks(ground, key, wire.HARDLINK, "put a file where none is without a look before")
    folder = key.rpartition("/")[0]
    for _ in races():
        yield from ground.enter(folder, key, create=True)
        path = ground.path((f"{folder}/" if folder else "") + STAGING_PREFIX + system.current().token(8))
        asked = [
            wire.lstat(ground.path(key)),
            wire.real_path(ground.path(folder)),
            wire.open_file(path, wire.WRITE | wire.CREATE | wire.EXCLUSIVE),
        ]
        try:
            there, real, opened = yield asked
        except GivenUpError as given_up:
            if (handle := handle_of(given_up.answers[2])) is not None:
                yield from _discard(ground, path, handle)
            raise
        handle = handle_of(opened)
        if handle is None:
            ground.forget(folder)
            if not is_absent(opened):
                yield from ground.refuse(opened, "write", key)
            continue
        ground.unfinished.add(path)
        try:
            yield from ground.check(real, key)
            is_taken = yield from _make_way(ground, key, there, create=create)
        except Exception:
            yield from _discard(ground, path, handle)
            raise
        return Staged(path, handle, is_taken)
    raise StoreUnavailableError(f"{folder!r} in {ground.name} is removed again and again", key=key, store=ground.name)


def _make_way(ground: Ground, key: str, there: Answer, *, create: bool) -> Steps[bool]:
    """Refuse what a new artifact cannot replace; return whether it replaces anything."""
    if is_absent(there):
        return False
    if not isinstance(there, Attributes):
        raise ground.error_of(there, "look at", key)
    if there.is_folder:
        # A folder without artifacts is nothing in this root, so it may not stand in the way of one.
        yield from _remove_empty(ground, key, key)
        return False
    if there.is_link:
        yield from ground.follow(key, key)
    if create:
        raise side.exists_already(key, ground.name)
    if not ground.has(wire.POSIX_RENAME):
        raise _lacks(
            ground, key, wire.POSIX_RENAME, "replace a file at once; give the artifact another key, or remove it first"
        )
    return True


def _lacks(ground: Ground, key: str, extension: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"cannot write {key!r} in {ground.name}: its server lacks {extension} and cannot {what}; nothing was changed",
        key=key,
        store=ground.name,
    )


def _remove_empty(ground: Ground, folder: str, key: str) -> Steps[None]:
    """Remove a tree of folders without a file."""
    removed = yield wire.remove_folder(ground.path(folder))
    if is_ok(removed) or is_absent(removed):
        return
    opened = yield wire.open_folder(ground.path(folder))
    handle = handle_of(opened)
    if handle is None:
        raise side.holds_artifacts(key, ground.name)
    below: list[str] = []
    try:
        while isinstance(names := (yield wire.read_folder(handle)), wire.Names) and names.names:
            for name, found in names.names:
                if name in (".", ".."):
                    continue
                if not found.is_folder:
                    raise side.holds_artifacts(key, ground.name)
                below.append(f"{folder}/{name}")
    finally:
        ground.client.post(wire.close(handle))
    for each in below:
        yield from _remove_empty(ground, each, key)
    if below:
        removed = yield wire.remove_folder(ground.path(folder))
    if not is_ok(removed) and not is_absent(removed):
        raise side.holds_artifacts(key, ground.name)


def _discard(ground: Ground, path: str, handle: bytes | None) -> Steps[None]:
    """Remove an unfinished file; the handle is None once it was closed."""
    yield [*([wire.close(handle)] if handle is not None else []), wire.remove(path)]
    ground.unfinished.discard(path)


def put_in_place(ground: Ground, key: str, staged: Staged, *, create: bool = False) -> Steps[None]:
    """Give an unfinished file, which is whole and closed, its name.

    The only place where a file gets its name, so that no caller can forget a step.
    """
    path = ground.path(key)
    if create:
        answer = yield wire.hardlink(staged.path, path)
    elif ground.has(wire.POSIX_RENAME):
        answer = yield wire.posix_rename(staged.path, path)
    else:
        answer = yield wire.rename(staged.path, path)
    if not is_ok(answer):
        yield from _explain(ground, key, answer, create=create)
    if create:
        yield wire.remove(staged.path)
    ground.unfinished.discard(staged.path)
    if ground.durability == "object":
        yield from flush_folder(ground, key.rpartition("/")[0])


def _explain(ground: Ground, key: str, answer: Answer, *, create: bool) -> Steps[None]:
    """Raise the error for a file that did not get its name."""
    if is_absent(answer):
        raise StoreUnavailableError(
            f"cannot write {key!r} in {ground.name}: its unfinished file was removed before it was whole, as a "
            "clean-up does after an hour; write it again",
            key=key,
            store=ground.name,
        )
    there = yield wire.lstat(ground.path(key))
    if isinstance(there, Attributes):
        if there.is_folder:
            raise side.holds_artifacts(key, ground.name)
        if create:
            raise side.exists_already(key, ground.name)
        if not ground.has(wire.POSIX_RENAME):
            raise _lacks(ground, key, wire.POSIX_RENAME, "replace what somebody has put there meanwhile")
    elif create:
        raise _lacks(ground, key, "a file system with hard links", "put a file where none is without a look before")
    yield from ground.refuse(answer, "write", key)


def flush_folder(ground: Ground, folder: str) -> Steps[None]:
    """Flush the names in a folder, where the server opens folders like files, as OpenSSH does; others cannot."""
    handle = handle_of((yield wire.open_file(ground.path(folder), wire.READ)))
    if handle is not None:
        yield [wire.fsync(handle), wire.close(handle)]


def flush_file(ground: Ground, key: str) -> Steps[None]:
    """Flush the bytes of an artifact that was written before; nothing, if it was removed since."""
    opened = yield wire.open_file(ground.path(key), wire.READ)
    handle = handle_of(opened)
    if handle is None:
        if not is_absent(opened):
            yield from ground.refuse(opened, "flush", key)
        return
    flushed, _ = yield [wire.fsync(handle), wire.close(handle)]
    if not is_ok(flushed):
        yield from ground.refuse(flushed, "flush", key)


class Writer:
    """See `ArtifactWriter`: blocks are sent ahead of the answers to those that were sent before."""

    def __init__(self, ground: Ground, key: str, written: Callable[[str], object], *, is_program: bool = False) -> None:
        self._ground, self._key, self._written, self._is_program = ground, key, written, is_program
        self._block = min(_BLOCK, ground.client.most_written)
        self._sent: collections.deque[Task[Answer]] = collections.deque()
        self._offset = 0
        self._rest = b""

    def __enter__(self) -> Self:
        with self._ground.telling(self._key):
            self._staged = self._ground.client.run(self._begin())
        return self

    def _begin(self) -> Steps[Staged]:
        staged = yield from stage(self._ground, self._key)
        if self._is_program:
            yield from make_program(staged)
        return staged

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        whole = self._rest + data if self._rest else bytes(data)
        view = memoryview(whole)
        full = len(whole) - len(whole) % self._block
        for start in range(0, full, self._block):
            self._send(view[start : start + self._block])
        self._rest = whole[full:]

    def _send(self, data: memoryview | bytes) -> None:
        with self._ground.telling(self._key):
            while len(self._sent) >= _AHEAD:
                self._hear()
            self._sent.append(self._ground.client.ask(wire.write(self._staged.handle, self._offset, data)))
        self._offset += len(data)

    def _hear(self) -> None:
        answer = self._sent.popleft().result()
        if not is_ok(answer):
            self._ground.client.run(self._ground.refuse(answer, "write", self._key))

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if kind is None:
            try:
                if self._rest:
                    self._send(self._rest)
                with self._ground.telling(self._key):
                    while self._sent:
                        self._hear()
            except BaseException:
                self._give_up()
                raise
            with self._ground.telling(self._key):
                self._ground.client.run(self._finish())
            self._written(self._key)
        else:
            self._give_up()

    def _finish(self) -> Steps[None]:
        try:
            for answer in (yield _last_requests(self._ground, self._staged)):
                if not is_ok(answer):
                    yield from self._ground.refuse(answer, "write", self._key)
            yield from put_in_place(self._ground, self._key, self._staged)
        except Exception:
            yield from _discard(self._ground, self._staged.path, None)
            raise

    def _give_up(self) -> None:
        with contextlib.suppress(Lost):  # then it is swept one day
            self._ground.client.run(_discard(self._ground, self._staged.path, self._staged.handle))


# -- removing ------------------------------------------------------------------------------------------------------


def remove(ground: Ground, key: str) -> Steps[None]:
    """Remove an artifact, and the folders that become empty by it."""
    folder = key.rpartition("/")[0]
    yield from ground.enter(folder, key)
    there, real = yield [wire.lstat(ground.path(key)), wire.real_path(ground.path(folder))]
    if not isinstance(there, Attributes):
        raise ground.error_of(there, "look at", key)
    yield from ground.check(real, key)
    if there.is_link:
        yield from ground.follow(key, key)
    elif there.is_folder:
        return
    removed = yield wire.remove(ground.path(key))
    if not is_ok(removed):
        yield from ground.refuse(removed, "delete", key)
    if folder:
        yield from _prune(ground, folder)


def _prune(ground: Ground, folder: str) -> Steps[None]:
    """Remove a folder and those above it while they are empty; the root stays. Of a full one the server refuses it."""
    for above in _with_above(folder):
        if not is_ok((yield wire.remove_folder(ground.path(above)))):
            return
        ground.forget(above)


def _with_above(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
