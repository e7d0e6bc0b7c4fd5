"""The client of the far-end program: sends it over, and asks it; see `emdstore.stores.ssh.program`.

Any number of threads ask over one connection. Whoever asks writes the request itself; one thread reads the answers and
hands them out. Bytes are hashed at both ends, and what differs is refused.
"""

from __future__ import annotations

import copy
import errno
import functools
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, NoReturn, Self

import attrs

from emdstore import system
from emdstore.errors import (
    ArtifactNotFoundError,
    DamagedOnTheWayError,
    EmdstoreError,
    KeyConflictError,
    SourceChangedError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import DIGESTS_NAME, STAGING_PREFIX, why_invalid
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local.root import Durability
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo, LeftOut
from emdstore.stores.replacing import changed
from emdstore.stores.ssh import program as far
from emdstore.stores.ssh.connection import Command, Connection
from emdstore.stores.ssh.errors import SSH_FAILED, last_words
from emdstore.stores.ssh.packing import packed_program
from emdstore.stores.ssh.side import (
    exists_already,
    holds_artifacts,
    is_below_artifact,
    leads_out,
    not_found,
    round_trip_of,
)
from emdstore.stores.system_errors import error_of_errno

LARGE = 1024 * 1024
"""What is larger is written in pieces."""

_ACKNOWLEDGED = far.WINDOW // 4
_PATIENCE = 15  # times as long as for other answers, for what looks at a whole folder or file system
_BANNER_BYTES = 64 * 1024
_TOO_OLD = 86
# `exec sh` because the user's shell may be any; the words are such that csh and fish take them, too.
# The system's own Python comes first: it starts fastest, and is not on a network file system. On a Mac it may be a stub
# that would install one.
_COMMAND = (
    "exec sh -c 's=/usr/bin/python3; test -e /usr/bin/xcode-select && s=; "
    "for p in $s python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.7 python3.6 "
    "/usr/libexec/platform-python python; do command -v $p >/dev/null 2>&1 || continue; "
    '$p -I -S -c "import io,sys,zlib;sys.version_info<(3,6)and sys.exit({too_old});'
    'f=io.BufferedReader(io.FileIO(0),1);exec(zlib.decompress(f.read(int(f.read(6)))))"; '
    "r=$?; test $r = {too_old} || exit $r; done; echo no Python 3.6 or newer >&2; exit 127'"
)


class NoProgramError(Exception):
    """The machine lets the user in and does not run the program: there is no Python, or no command may be run."""


RECEIVE = Command(_COMMAND.format(too_old=_TOO_OLD))
"""The command that receives the program over there and runs it, with the first Python that is new enough."""


_Frame = tuple[int, Any, bytes]


class FarEnd:
    """One folder over there, as the far-end program keeps it; see `FarSide`.

    Parameters
    ----------
    connection
        To a machine that runs `RECEIVE`. Nothing was read from it yet.
    root, name
        The folder, and the store's name in errors.
    durability
        See `LocalArtifactStore`: what a finished write means for a power cut over there.
    timeout
        Seconds without any answer after which the connection is given up.
    patience
        Seconds until the program has to greet.

    Raises
    ------
    NoProgramError
        If something answers and it is not the program.
    StoreError
        If the machine cannot be reached, or does not let the user in.
    """

    def __init__(
        self,
        connection: Connection,
        root: str,
        name: str,
        *,
        durability: Durability = "system",
        timeout: float = 20.0,
        patience: float = 30.0,
    ) -> None:
        self._connection, self._name, self._timeout = connection, name, timeout
        self._numbers = itertools.count(1)
        self._calls: dict[int, SimpleQueue[_Frame | EmdstoreError]] = {}
        self._sending = threading.Lock()
        self._error: EmdstoreError | None = None
        self._heard = system.current().monotonic()
        token = system.current().token(8)
        # Nothing that merely sends back what it gets can say this.
        greeting = f"emdstore-far-end {sha256_of(token.encode())} "
        options = {
            "root": root,
            "durable": durability == "object",
            "staging": STAGING_PREFIX,
            "digests": DIGESTS_NAME,
            "token": token,
            "greeting": greeting,
        }
        told = json.dumps(options).encode()
        try:
            program = packed_program()
            connection.write(b"%06d" % len(program), program, len(told).to_bytes(4, "big"), told)
        except StoreUnavailableError as error:
            self._raise_no_program(b"", error)
        rest = self._greeted(greeting.encode(), patience)
        connection.forget_said()
        listener = functools.partial(self._listen, rest, system.current().monotonic)
        threading.Thread(target=listener, name="emdstore-ssh", daemon=True).start()
        self.round_trip = round_trip_of(lambda: self._ask(far.PING, {}, "", "open"))

    # -- the greeting --------------------------------------------------------------------------------------------

    def _greeted(self, greeting: bytes, patience: float) -> bytes:
        """Wait for the program's greeting, past what a shell says before it; return what came after."""
        came: SimpleQueue[tuple[bytes, bytes | None]] = SimpleQueue()

        def read() -> None:
            data = b""
            while len(data) < _BANNER_BYTES and (more := self._connection.read(4096)):
                data += more
                before, mark, after = data.partition(greeting)
                if mark and b"\n" in after:
                    return came.put((before, after))
            return came.put((data, None))

        threading.Thread(target=read, name="emdstore-ssh", daemon=True).start()
        try:
            before, after = came.get(timeout=patience)
        except Empty:
            self._connection.close()
            raise StoreUnavailableError(
                f"cannot open {self._name}: the other side has not answered for {patience:g} seconds; try again, "
                "or with a longer timeout",
                store=self._name,
            ) from None
        if after is None:
            self._raise_no_program(before, self._connection.error("open"))
        line, _, rest = after.partition(b"\n")
        told = json.loads(line)
        if told.get("protocol") != far.PROTOCOL:
            raise NoProgramError(f"the program there speaks another version: {told}")
        return rest

    def _raise_no_program(self, came: bytes, error: EmdstoreError) -> NoReturn:
        """Raise what there is to say of a connection without a program: the client's error, or that there is none."""
        code, said = self._connection.exit_code, self._connection.said
        self._connection.close()
        if code == SSH_FAILED and not came:
            raise error
        if code is not None and code < 0:
            raise error
        told = said.replace(RECEIVE.line, "...") or came[:300].decode(errors="replace")
        words = last_words(told)
        raise NoProgramError(words or f"exit code {code}")

    # -- asking and answering ------------------------------------------------------------------------------------

    @property
    def is_cut(self) -> bool:
        """See `FarSide.is_cut`."""
        return self._error is not None or self._connection.is_closed

    @property
    def busy(self) -> int:
        """How many requests are under way."""
        return len(self._calls)

    def _listen(self, rest: bytes, clock: Callable[[], float]) -> None:
        """Hand out answers, until no more come."""
        far.keep_memory()
        came = far.Input(self._connection.read_into)
        came.give(rest)
        while True:
            while (header := came.header()) is not None:
                number, kind, meta, body = header
                came.take(far.HEADER.size)
                told = json.loads(bytes(came.take(meta))) if meta else {}
                data = bytes(came.take(body))
                call = self._calls.get(number)
                if call is not None:
                    call.put((kind, told, data))
            if not came.fill():
                break
            self._heard = clock()
        if not self._connection.is_closed:
            words = last_words(self._connection.error("use").args[0])
            self._cut(StoreUnavailableError(f"the connection was cut: {words}", store=self._name))
        else:
            self._cut(StoreUnavailableError(f"the connection to {self._name} was closed", store=self._name))

    def _cut(self, error: EmdstoreError) -> None:
        """End everything that is under way with an error."""
        if self._error is None:
            self._error = error
        self._connection.close()
        for call in list(self._calls.values()):
            call.put(self._error)

    def begin(self) -> tuple[int, SimpleQueue[_Frame | EmdstoreError]]:
        """Return a number for a request, and where its answers will be: at once the error by which the line was cut."""
        number = next(self._numbers) & 0xFFFFFFFF
        frames = self._calls[number] = SimpleQueue[_Frame | EmdstoreError]()
        if self._error is not None:  # set before the calls are told of it: so this one is told, here or there
            frames.put(self._error)
        return number, frames

    def forget(self, number: int) -> None:
        """Take no more answers to a request."""
        self._calls.pop(number, None)

    def send(self, number: int, kind: int, meta: dict[str, Any], *body: bytes | memoryview) -> None:
        """Send one frame, the body of which may be in parts."""
        told = json.dumps(meta).encode() if meta else b""
        header = far.HEADER.pack(number, kind, len(told), sum(map(len, body)))
        with self._sending:
            if self._error is not None:
                raise copy.copy(self._error)
            self._connection.write(header + told, *body)

    def receive(self, frames: SimpleQueue[_Frame | EmdstoreError], key: str, verb: str, *, patience: int = 1) -> _Frame:
        """Wait for the next answer; raise the error that it is. What takes long over there is given more time."""
        timeout = self._timeout * patience
        while True:
            try:
                frame = frames.get(timeout=timeout)
                break
            except Empty:
                if system.current().monotonic() - self._heard < timeout:
                    continue
                silent = StoreUnavailableError(
                    f"{self._name} has not answered for {timeout:g} seconds; try again, or with a longer timeout",
                    store=self._name,
                )
                silent.errno = errno.ETIMEDOUT
                self._cut(silent)
        if isinstance(frame, EmdstoreError):
            raise copy.copy(frame)
        if frame[0] == far.FAILED:
            raise self.error_of(frame[1], key, verb)
        return frame

    def _ask(
        self, kind: int, meta: dict[str, Any], key: str, verb: str, body: bytes = b"", *, patience: int = 1
    ) -> _Frame:
        number, frames = self.begin()
        try:
            self.send(number, kind, meta, body)
            while (answer := self.receive(frames, key, verb, patience=patience))[0] != far.DONE:
                pass
            return answer
        finally:
            self.forget(number)

    def error_of(self, answer: dict[str, Any], key: str, verb: str) -> EmdstoreError:
        """Return the error of ours for what the program refused."""
        name, code = self._name, answer["code"]
        match code:
            case "missing":
                return not_found(key, name)
            case "unsafe":
                return leads_out(key, name)
            case "links":
                return UnsafePathError(f"too many links on the way to {key!r} in {name}", key=key, store=name)
            case "below":
                return is_below_artifact(key, answer["blocker"], name)
            case "folder":
                return holds_artifacts(key, name)
            case "exists":
                return exists_already(key, name)
            case "changed":
                return changed(_Named(name), key)
            case "damaged":
                return DamagedOnTheWayError(
                    f"cannot {verb} {key!r} in {name}: other bytes arrived there; they were discarded; try again",
                    key=key,
                    store=name,
                )
            case "changing":
                return SourceChangedError(
                    f"{key!r} changed while it was read ({answer['before']} bytes before, {answer['after']} after); "
                    "run it again when its writer is done",
                    key=key,
                )
            case "folds":
                return KeyConflictError(
                    f"cannot hold {key!r} in {name} beside an artifact whose name differs only in case, or in how "
                    "accents are written: the file system there takes the two for one; rename one of them",
                    key=key,
                    store=name,
                )
            case "root":
                found = StoreError(
                    f"the root of {name} is not a folder; choose another one, or move away what is there",
                    key=key,
                    store=name,
                )
                found.errno = errno.ENOTDIR
                return found
            case "swept":
                return StoreUnavailableError(
                    f"cannot write {key!r} in {name}: its unfinished file was removed before it was whole, as a "
                    "clean-up does after an hour; write it again",
                    key=key,
                    store=name,
                )
            case "pruned":
                return StoreUnavailableError(
                    f"the folder of {key!r} in {name} is removed again and again", key=key, store=name
                )
            case "locked":
                holder = f"process {answer['holder']} there" if answer["holder"] else "another process there"
                return StoreUnavailableError(
                    f"cannot replace {key!r} in {name}: {holder} has been about to for {answer['seconds']:.0f} seconds "
                    "and does not go on; end it or let it go on, and try again",
                    key=key,
                    store=name,
                )
            case "os":
                return error_of_errno(getattr(errno, answer["errno"], None), answer["said"], key, name, verb)
            case _:
                return StoreError(
                    f"cannot {verb} {key!r} in {name}: the program there says {code!r}", key=key, store=name
                )

    def check(self, ours: str, theirs: str, key: str) -> None:
        """Refuse bytes that are not those which the program has sent."""
        if ours != theirs:
            raise DamagedOnTheWayError(
                f"cannot read {key!r} in {self._name}: other bytes arrived here; they were discarded; try again",
                key=key,
                store=self._name,
            )

    # -- what both ways can do -----------------------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        """See `FarSide.exists`."""
        try:
            self._ask(far.STAT, {"key": key}, key, "look at")
        except ArtifactNotFoundError:
            return False
        return True

    def info(self, key: str) -> ArtifactInfo:
        """See `FarSide.info`."""
        return describe(key, *self._ask(far.STAT, {"key": key}, key, "look at")[1]["stat"])

    def read_bytes(self, key: str) -> bytes:
        """See `FarSide.read_bytes`."""
        with FarReader(self, key) as reader:
            return b"".join(iter(lambda: reader.read(far.WINDOW), b""))

    def write_bytes(self, key: str, data: bytes) -> None:
        """See `FarSide.write_bytes`."""
        if len(data) <= LARGE:
            self.put(key, data)
            return
        with FarWriter(self, key) as writer:
            writer.write(data)

    def put(self, key: str, data: bytes, **how: Any) -> None:
        """Send a whole artifact in one frame; `how` is what the program takes besides."""
        asked = {"key": key, "sha256": sha256_of(data), **how}
        self._ask(far.PUT, asked, key, "write", data)

    def create_bytes(self, key: str, data: bytes) -> None:
        """See `FarSide.create_bytes`."""
        self.put(key, data, how="create")

    def replace_bytes(self, key: str, data: bytes, seen: str) -> None:
        """See `FarSide.replace_bytes`."""
        self.put(key, data, how="over", over=seen)

    def delete(self, key: str) -> None:
        """See `FarSide.delete`."""
        self._ask(far.DELETE, {"key": key}, key, "delete")

    def digest(self, key: str) -> tuple[int, str]:
        """Return the size and the SHA-256 of an artifact, which is read and hashed over there."""
        told = self._ask(far.DIGEST, {"key": key}, key, "read")[1]
        return told["size"], told["sha256"]

    def iter_found(self, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
        """See `FarSide.iter_found`."""
        number, frames = self.begin()
        kind = far.PIECE
        try:
            self.send(number, far.LIST, {"key": prefix})
            while kind == far.PIECE:
                kind, _, body = self.receive(frames, prefix, "list", patience=_PATIENCE)
                if kind == far.PIECE:
                    self.send(number, far.TAKEN, {"room": 1})
                for found in json.loads(body):
                    yield describe(*found) if len(found) == 5 else self._left_out(*found)
        finally:
            self.forget(number)
            if kind == far.PIECE and not self.is_cut:
                self.send(number, far.CANCEL, {})

    def _left_out(self, name: str, reason: str, number: str = "", said: str = "") -> LeftOut:
        key = name.removesuffix("/")
        if not reason:
            return LeftOut(name, f"is no key: {why_invalid(key)}")
        if not number:
            return LeftOut(name, reason)
        error = error_of_errno(getattr(errno, number, None), said, key, self._name, "list")
        return LeftOut(name, f"{reason}: {said}", error)

    def open_reader(self, key: str) -> FarReader:
        """See `FarSide.open_reader`."""
        return FarReader(self, key)

    def open_writer(self, key: str) -> FarWriter:
        """See `FarSide.open_writer`."""
        return FarWriter(self, key)

    def flush(self) -> None:
        """See `FarSide.flush`."""
        self._ask(far.FLUSH, {}, "", "flush", patience=_PATIENCE)

    def remove_staging(self, older_than: float, dry_run: bool) -> tuple[str, ...]:
        """See `FarSide.remove_staging`."""
        asked = {"older_than": older_than, "dry_run": dry_run}
        answer = self._ask(far.SWEEP, asked, "", "look for unfinished files in", patience=_PATIENCE)
        return tuple(json.loads(answer[2]))

    def close(self) -> None:
        """See `FarSide.close`."""
        self._connection.close()


class _Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


def describe(key: str, size: int, mtime: int, ctime: int, inode: int) -> ArtifactInfo:
    """Return what the program says of a file, as the local store would say it."""
    return ArtifactInfo(key, size, mtime / 1e9, f"{mtime:x}-{inode:x}", changed=ctime / 1e9)


class FarReader:
    """A file that comes over; see `ArtifactReader`."""

    info: ArtifactInfo
    mtime_ns: int
    is_program: bool

    def __init__(self, end: FarEnd, key: str) -> None:
        self._end, self._key = end, key
        self._number, self._frames = end.begin()
        self._digest, self.size, self.sha256 = hashlib.sha256(), 0, ""
        self._rest = b""
        self._whole = False
        self._taken = 0
        try:
            end.send(self._number, far.GET, {"key": key})
            self._begin()
        except BaseException:
            end.forget(self._number)
            raise

    def _begin(self) -> None:
        """Wait for the first answer, which says what the file is."""
        key = self._key
        kind, told, body = self._end.receive(self._frames, key, "read")
        self.info = describe(key, *told["stat"])
        self.mtime_ns, self.is_program = told["stat"][1], told.get("program", False)
        if kind == far.DONE:
            self._whole = True
            self.size, self.sha256 = len(body), sha256_of(body)
            self._end.check(self.sha256, told["sha256"], key)
            self._rest = body
            if len(body) != self.info.size:  # a file that says it has 0 bytes
                self.info = attrs.evolve(self.info, size=len(body))

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        if not self._rest and not self._whole:
            self._receive()
        whole, self._rest = self._rest, self._rest[size:]
        return whole if len(whole) <= size else whole[:size]

    def _receive(self) -> None:
        kind, told, body = self._end.receive(self._frames, self._key, "read")
        if kind == far.PIECE:
            self._digest.update(body)
            self.size += len(body)
            self._rest = body
            self._taken += len(body)
            if self._taken >= _ACKNOWLEDGED:
                self._end.send(self._number, far.TAKEN, {"room": self._taken})
                self._taken = 0
            return
        self._whole = True
        self.sha256 = self._digest.hexdigest()
        self._end.check(self.sha256, told["sha256"], self._key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._end.forget(self._number)
        if not self._whole and not self._end.is_cut:
            self._end.send(self._number, far.CANCEL, {})


class FarWriter:
    """A file that goes over; see `ArtifactWriter`. What is small goes in one frame at the end."""

    def __init__(self, end: FarEnd, key: str, **kept: Any) -> None:
        self._end, self._key, self._kept = end, key, kept
        self._held = bytearray()
        self._digest, self.size = hashlib.sha256(), 0
        self._room = far.WINDOW
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        self._digest.update(data)
        self.size += len(data)
        if not self._number and len(self._held) + len(data) <= far.SMALL_BYTES:
            self._held += data
            return
        if not self._number:
            self._number, self._frames = self._end.begin()
            self._end.send(self._number, far.OPEN, {"key": self._key})
            held, self._held = bytes(self._held), bytearray()
            self._send(held)
        self._send(data)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written."""
        return self._digest.hexdigest()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), far.PIECE_BYTES):
            piece = view[start : start + far.PIECE_BYTES]
            while self._room <= 0 or not self._frames.empty():
                self._room += self._end.receive(self._frames, self._key, "write")[1]["bytes"]
            self._room -= len(piece)
            self._end.send(self._number, far.CHUNK, {}, piece)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if not self._number:
            if kind is None:
                self._end.put(self._key, bytes(self._held), **self._kept)
            return
        try:
            if kind is None:
                asked = {"key": self._key, "size": self.size, "sha256": self.sha256, **self._kept}
                self._end.send(self._number, far.COMMIT, asked)
            elif not self._end.is_cut:
                self._end.send(self._number, far.ABORT, {})
            else:
                return
            while self._receive_end(kind is None) != far.DONE:
                pass
        finally:
            self._end.forget(self._number)

    def _receive_end(self, wanted: bool) -> int:
        try:
            return self._end.receive(self._frames, self._key, "write")[0]
        except EmdstoreError:
            if wanted:
                raise
            return far.DONE  # the error that ends the block says more
