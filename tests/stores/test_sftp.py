"""SFTP over OpenSSH's own server, and over one whose answers somebody changes; what all stores promise is in the
contract.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import logging
import os
import shutil
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import psutil
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.servers.sftp import CUT, Between, Request, client_of_server, connect, find_server, status, string
from tests.servers.sshd import MISSING, SSHServer, find_sshd, run_sshd

from emdstore import transfer
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    InvalidKeyError,
    KeyConflictError,
    SourceChangedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
    UnsupportedError,
)
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactInfo, Copied, LeftOut
from emdstore.stores.replacing import put_over
from emdstore.stores.ssh import SSHArtifactStore
from emdstore.stores.ssh.sftp import Sftp, wire
from emdstore.stores.ssh.sftp.client import Task, first_of
from emdstore.stores.ssh.sftp.store import Ahead
from emdstore.stores.ssh.sftp.wire import Attributes, Data, Handle, Names, Reply, Splitter, Status, WireError

# -- packets ---------------------------------------------------------------------------------------------------------

_quietly = settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine

_texts = st.text(st.characters(codec="utf-8"), max_size=30)
_u32, _u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
_attributes = st.builds(Attributes, st.none() | _u64, st.none() | _u32, st.none() | _u32)
_answers = st.one_of(
    st.builds(Status, _u32, _texts),
    st.builds(Handle, st.binary(max_size=256)),
    st.builds(Data, st.binary(max_size=2000)),
    _attributes,
    st.builds(Names, st.lists(st.tuples(_texts, _attributes), max_size=5)),
    st.builds(Reply, st.binary(max_size=100)),
)


def encoded_attributes(found: Attributes, owners: bool, more: list[bytes]) -> bytes:
    flags = (found.size is not None) * 1 | owners * 2 | (found.mode is not None) * 4
    flags |= (found.modified is not None) * 8 | bool(more) * 0x80000000
    parts = [struct.pack(">I", flags)]
    parts += [struct.pack(">Q", found.size)] if found.size is not None else []
    parts += [struct.pack(">II", 1000, 1000)] if owners else []
    parts += [struct.pack(">I", found.mode)] if found.mode is not None else []
    parts += [struct.pack(">II", 7, found.modified)] if found.modified is not None else []
    parts += [struct.pack(">I", len(more)), *(string(each) * 2 for each in more)] if more else []
    return b"".join(parts)


def encoded(number: int, answer: wire.Answer, owners: bool = False, more: list[bytes] | None = None) -> bytes:
    """Return an answer as the protocol has it."""
    match answer:
        case Status(code, text):
            kind, body = 101, struct.pack(">I", code) + string(text.encode()) + string(b"en")
        case Handle(handle):
            kind, body = 102, string(handle)
        case Data(data):
            kind, body = 103, string(data)
        case Names(names):
            each = (
                string(name.encode()) + string(b"-rw") + encoded_attributes(a, owners, more or []) for name, a in names
            )
            kind, body = 104, struct.pack(">I", len(names)) + b"".join(each)
        case Attributes():
            kind, body = 105, encoded_attributes(answer, owners, more or [])
        case Reply(body):
            kind = 201
    return struct.pack(">BI", kind, number) + body


class TestPackets:
    @_quietly
    @given(_u32, _answers, st.booleans(), st.lists(st.binary(max_size=5), max_size=2))
    def test_an_answer_is_read_as_it_was_written(
        self, number: int, answer: wire.Answer, owners: bool, more: list[bytes]
    ) -> None:
        if isinstance(answer, Status) and answer.code == wire.OK:
            answer = Status(wire.OK, "")  # what is said of success is not read
        assert wire.decode(encoded(number, answer, owners, more)) == (number, answer)

    @_quietly
    @given(_u32, _answers, st.data())
    def test_an_answer_that_ends_too_early_is_none(self, number: int, answer: wire.Answer, data: st.DataObject) -> None:
        packet = encoded(number, answer)
        cut = packet[: data.draw(st.integers(0, len(packet) - 1))]
        with contextlib.suppress(WireError):
            _, found = wire.decode(cut)
            # Of a status the text may be missing, and a reply is whatever comes.
            assert isinstance(found, Reply) or (isinstance(found, Status) and isinstance(answer, Status))

    @_quietly
    @given(st.binary(max_size=200))
    def test_what_is_no_packet_is_an_error_and_nothing_else(self, packet: bytes) -> None:
        for decode in (wire.decode, wire.decode_version):
            with contextlib.suppress(WireError):
                decode(packet)
        for read in (wire.limits_of, wire.room_of):
            with contextlib.suppress(WireError):
                read(Reply(packet))

    @_quietly
    @given(st.lists(st.binary(min_size=1, max_size=100), max_size=10), st.data())
    def test_packets_come_in_pieces_of_any_size(self, packets: list[bytes], data: st.DataObject) -> None:
        stream = b"".join(map(string, packets))
        splitter, found, at = Splitter(), [], 0
        while at < len(stream):
            size = data.draw(st.integers(1, 50))
            found += splitter.feed(stream[at : at + size])
            at += size
        assert found == packets

    @pytest.mark.parametrize("size", [0, wire.MOST_BYTES + 1, 2**32 - 1])
    def test_a_packet_of_four_gigabytes_is_not_waited_for(self, size: int) -> None:
        with pytest.raises(WireError, match=str(size)):
            Splitter().feed(struct.pack(">I", size))

    def test_a_request_is_what_the_protocol_says(self) -> None:
        """Guards against a client and a decoder that agree with each other, and with nobody else."""
        assert wire.first_packet().hex() == "000000050100000003"
        packet = wire.framed(wire.write(b"h", 5, b"data"), 7) + b"data"
        assert packet.hex() == "0000001a" + "06" + "00000007" + "0000000168" + "0000000000000005" + "0000000464617461"
        assert wire.framed(wire.posix_rename("a", "é"), 1)[9:] == string(b"posix-rename@openssh.com") + string(b"a") + (
            string("é".encode())
        )


# -- a server ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    find_server()  # one skip for all tests, if there is none
    return tmp_path / "root"


@pytest.fixture
def opened() -> Iterator[Callable[..., Sftp]]:
    """Open far sides, and close them."""
    find_server()
    sides: list[Sftp] = []

    def open_side(pipes: Any, root: Path | str, **options: Any) -> Sftp:
        sides.append(Sftp(pipes, str(root), "SFTP", **options))
        return sides[-1]

    yield open_side
    for side in sides:
        side.close()


Open = Callable[..., Sftp]


def tampering(on_request: Any = None, on_answer: Any = None, **options: Any) -> Between:
    return Between(
        on_request or (lambda request: request.packet), on_answer or (lambda request, packet: packet), **options
    )


def without(*extensions: str) -> Callable[[Request | None, bytes], bytes]:
    """Return a hook that takes extensions out of the greeting; all, if none are named."""

    def greeting(request: Request | None, packet: bytes) -> bytes:
        if request is not None:
            return packet
        _, offered = wire.decode_version(packet)
        kept = {name: value for name, value in offered.items() if extensions and name not in extensions}
        return packet[:5] + b"".join(string(text.encode()) for pair in kept.items() for text in pair)

    return greeting


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def outcome(call: Callable[[], Any]) -> EmdstoreError | None:
    try:
        call()
    except EmdstoreError as error:
        return error
    return None


def wait_for_given_up(side: Sftp) -> None:
    """Wait until something that is under way is to clean up after itself."""
    until = time.monotonic() + 10
    while not any(task and task.given_up for task, _, _ in list(side._client._asked.values())):
        assert time.monotonic() < until
        time.sleep(0.001)


class TestWithoutExtensions:
    """A server that speaks version 3 of SFTP, and nothing more."""

    @pytest.fixture
    def side(self, opened: Open, root: Path) -> Sftp:
        return opened(tampering(on_answer=without()), root)

    def test_new_artifacts_come_and_go(self, side: Sftp, root: Path) -> None:
        large = os.urandom(3_000_000)
        side.write_bytes("a/small", b"small")
        side.write_bytes("a/large", large)
        with side.open_writer("a/stream") as writer:
            writer.write(b"one")
            writer.write(b"two")
        assert files_of(root) == {"a/small": b"small", "a/large": large, "a/stream": b"onetwo"}
        assert side.read_bytes("a/large") == large
        side.delete("a/small")
        assert [info.key for info in side.iter_found("")] == ["a/large", "a/stream"]  # type: ignore[union-attr]

    def test_nothing_is_replaced(self, side: Sftp, root: Path) -> None:
        """To remove the old artifact first would leave none at all if the connection were cut in between."""
        side.write_bytes("a", b"old")
        with pytest.raises(UnsupportedError, match=r"posix-rename@openssh\.com"):
            side.write_bytes("a", b"new")
        with pytest.raises(UnsupportedError, match=r"posix-rename@openssh\.com"), side.open_writer("a"):
            pass
        assert files_of(root) == {"a": b"old"}

    def test_what_came_meanwhile_is_not_replaced(self, opened: Open, root: Path) -> None:
        def write_first(request: Request) -> bytes:
            if request.kind == "RENAME":
                (root / "a").write_bytes(b"somebody else's")
            return request.packet

        side = opened(tampering(write_first, without()), root)
        with pytest.raises(UnsupportedError):
            side.write_bytes("a", b"ours")
        assert files_of(root) == {"a": b"somebody else's"}

    def test_says_what_it_cannot_do_before_it_does_anything(self, opened: Open, side: Sftp, root: Path) -> None:
        with pytest.raises(UnsupportedError, match=r"hardlink@openssh\.com"):
            side.create_bytes("a", b"x")
        with pytest.raises(UnsupportedError, match=r"fsync@openssh\.com"):
            opened(tampering(on_answer=without()), root, durability="object").write_bytes("a", b"x")
        with pytest.raises(UnsupportedError, match="compare"):
            side.replace_bytes("a", b"x", "0" * 64)
        assert not root.exists()

    def test_a_flush_that_cannot_be_is_told(self, side: Sftp, caplog: pytest.LogCaptureFixture) -> None:
        side.write_bytes("a", b"x")
        with caplog.at_level(logging.WARNING):
            side.flush()
            side.flush()
        assert caplog.text.count("fsync@openssh.com") == 1


class TestCreating:
    def test_a_file_system_without_links_is_told(self, opened: Open, root: Path) -> None:
        def no_links(request: Request) -> Any:
            return [status(request, wire.FAILURE)] if request.kind == wire.HARDLINK else request.packet

        side = opened(tampering(no_links), root)
        with pytest.raises(UnsupportedError, match="hard links"):
            side.create_bytes("a", b"x")
        assert files_of(root) == {}

    def test_what_came_meanwhile_stays(self, opened: Open, root: Path) -> None:
        def write_first(request: Request) -> bytes:
            if request.kind == wire.HARDLINK:
                (root / "a").write_bytes(b"somebody else's")
            return request.packet

        side = opened(tampering(write_first), root)
        with pytest.raises(ArtifactExistsError):
            side.create_bytes("a", b"ours")
        assert files_of(root) == {"a": b"somebody else's"}


class TestDurability:
    def test_an_object_is_flushed_before_its_rename_and_its_folder_after(self, opened: Open, root: Path) -> None:
        between = tampering()
        opened(between, root, durability="object").write_bytes("a/b", b"x")
        kinds = [request.kind for request in between.seen]
        at = kinds.index(wire.POSIX_RENAME)
        assert kinds[at - 3 : at] == ["FSTAT", wire.FSYNC, "CLOSE"]
        assert kinds[at + 1 : at + 4] == ["OPEN", wire.FSYNC, "CLOSE"]
        assert between.seen[at + 1].path == str(root / "a")

    def test_a_flush_may_take_long(self, opened: Open, root: Path) -> None:
        """The server does nothing else meanwhile, and says nothing."""

        def slow(request: Request) -> bytes:
            if request.kind == wire.FSYNC:
                time.sleep(0.3)
            return request.packet

        opened(tampering(slow), root, durability="object", patience=0.1).write_bytes("a", b"x")
        assert files_of(root) == {"a": b"x"}

    def test_a_flush_flushes_what_was_written_and_its_folders(self, opened: Open, root: Path) -> None:
        between = tampering()
        side = opened(between, root)
        side.write_bytes("a/b", b"x")
        with side.open_writer("c") as writer:
            writer.write(b"x")
        side.write_bytes("gone", b"x")
        side.delete("gone")
        assert not between.asked(wire.FSYNC)
        side.flush()
        assert len(between.asked(wire.FSYNC)) == 4  # two files, and their two folders
        side.flush()
        assert len(between.asked(wire.FSYNC)) == 4

    def test_a_flush_that_failed_is_made_up_for(self, opened: Open, root: Path) -> None:
        fails = [True]

        def hook(request: Request) -> Any:
            return [status(request, wire.FAILURE)] if request.kind == wire.FSYNC and fails else request.packet

        between = tampering(hook)
        side = opened(between, root)
        side.write_bytes("a", b"x")
        with pytest.raises(StoreError, match="flush 'a'"):
            side.flush()
        fails.clear()
        between.seen.clear()
        side.flush()
        assert len(between.asked(wire.FSYNC)) == 2


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def stream_up(side: Sftp, key: str = "a/old") -> None:
    with side.open_writer(key) as writer:
        writer.write(b"x" * 500_000)


def stream_down(side: Sftp, key: str = "a/old") -> None:
    with side.open_reader(key) as reader:
        while reader.read():
            pass


def flush_old(side: Sftp) -> None:
    side.write_bytes("flushed", b"x")
    side.flush()


USES: dict[str, Callable[[Sftp], Any]] = {
    "exists": lambda side: side.exists("a/old"),
    "read": lambda side: side.read_bytes("link"),
    "stream down": stream_down,
    "write": lambda side: side.write_bytes("a/old", b"new"),
    "write into a new folder": lambda side: side.write_bytes("b/c/new", b"new"),
    "stream up": stream_up,
    "create": lambda side: side.create_bytes("created", b"new"),
    "list": lambda side: list(side.iter_found("")),
    "flush": flush_old,
    "delete": lambda side: side.delete("a/old"),
    "sweep": lambda side: side.remove_staging(3600, False),
}
"""Calls that together ask for all kinds of requests, of a root as `prepared` makes it."""


@pytest.fixture
def prepared(root: Path) -> Path:
    (root / "a").mkdir(parents=True)
    (root / "a" / "old").write_bytes(b"old" * 200_000)
    (root / "link").symlink_to("a/old")
    (root / "d").mkdir()
    return root


class TestCut:
    KINDS = (
        "OPEN", "CLOSE", "READ", "WRITE", "LSTAT", "FSTAT", "OPENDIR", "READDIR", "REMOVE", "MKDIR", "RMDIR", "STAT",
        wire.FSYNC, wire.HARDLINK, wire.POSIX_RENAME,
    )  # fmt: skip

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_cut_is_an_outage_and_nothing_is_half_there(self, opened: Open, prepared: Path, kind: str) -> None:
        """Whatever is under way: `StoreUnavailableError`, at once, and the artifacts are the old ones or the new."""
        met = 0
        for name, call in USES.items():
            root = shutil.copytree(prepared, prepared.with_name(name), symlinks=True)
            side = opened(tampering(lambda request: CUT if request.kind == kind else request.packet), root)
            error = outcome(partial(call, side))
            if error is not None:
                met += 1
                assert type(error) is StoreUnavailableError, (name, error)
                assert side.is_cut
                assert isinstance(outcome(partial(side.exists, "a/old")), StoreUnavailableError)
            finished = {key: data for key, data in files_of(root).items() if ".emdstore-" not in key}
            assert finished.get("a/old", b"new") in (b"old" * 200_000, b"new", b"x" * 500_000)
            assert all(finished.get(key, b"new") == b"new" for key in ("created", "b/c/new"))
            side.close()
        assert met, f"nothing asks for {kind}"

    def test_all_who_wait_hear_of_it_each_by_an_error_of_their_own(self, opened: Open, prepared: Path) -> None:
        all_wait = threading.Barrier(9)

        def swallow(request: Request) -> Any:
            return None if request.kind == "READ" else request.packet

        between = tampering(swallow)
        side = opened(between, prepared)

        def read(turn: int) -> EmdstoreError | None:
            all_wait.wait(10)
            return outcome(lambda: side.read_bytes("a/old"))

        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(read, turn) for turn in range(8)]
            all_wait.wait(10)
            while len(between.asked("READ")) < 8:
                time.sleep(0.005)
            between.cut()
            errors = [each.result(10) for each in waiting]
        assert all(isinstance(error, StoreUnavailableError) and error.key == "a/old" for error in errors)
        assert len({id(error) for error in errors}) == 8

    def test_the_end_of_the_server_is_told_as_the_connection_tells_it(self, opened: Open, root: Path) -> None:
        connection = connect()
        side = opened(connection, root)
        side.write_bytes("a", b"x")
        connection._process.kill()
        error = outcome(lambda: side.read_bytes("a"))
        assert isinstance(error, StoreUnavailableError)
        assert (error.key, side.is_cut) == ("a", True)

    def test_a_silent_server_is_given_up(self, opened: Open, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("emdstore.stores.ssh.sftp.client._TICK", 0.25)
        hook = lambda request: None if request.kind == "READ" else request.packet  # noqa: E731
        side = opened(tampering(hook), prepared, patience=0.3)
        time.sleep(0.2)  # in which nothing is asked
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="has not answered"):
            side.read_bytes("a/old")
        assert time.monotonic() - began > 0.29
        time.sleep(0.2)
        assert opened(tampering(), prepared, patience=0.3).exists("a/old"), "nothing was asked, and it was given up"


class TestNonsense:
    """What no server should answer: a typed error, no waiting, and no memory for it."""

    ANSWERS: ClassVar[dict[str, Callable[[Request], bytes]]] = {
        "another number": lambda request: struct.pack(">BI", 101, request.number + 1000) + bytes(12),
        "cut off": lambda request: struct.pack(">BII", 103, request.number, 500),
        "nothing": lambda request: b"",
        "four gigabytes": lambda request: bytearray(b"\xff\xff\xff\xff" + b"x" * 100),
        "an unknown kind": lambda request: struct.pack(">BI", 99, request.number),
        "another kind": lambda request: encoded(request.number, Names([])),
        "all is well": lambda request: encoded(request.number, Status(wire.OK, "")),
    }

    @pytest.mark.parametrize("answer", ANSWERS)
    @pytest.mark.parametrize("kind", ["OPEN", "READ", "LSTAT", "FSTAT", "REALPATH", "READDIR", "OPENDIR"])
    def test_is_an_error(self, opened: Open, prepared: Path, kind: str, answer: str) -> None:
        is_on = []
        between = tampering(
            lambda request: [self.ANSWERS[answer](request)] if is_on and request.kind == kind else request.packet
        )
        side = opened(between, prepared)
        is_on.append(True)
        began = time.monotonic()
        error = outcome(partial(USES["list" if kind.endswith("DIR") else "stream down"], side))
        assert isinstance(error, StoreError), error
        assert time.monotonic() - began < 5
        assert (prepared / "a" / "old").read_bytes() == b"old" * 200_000

    @pytest.mark.parametrize(
        ("greeting", "said"),
        [
            (bytearray(b"Welcome to the cluster!\nQuota: 3 of 5 TB\n"), "Welcome to the cluster!"),
            (struct.pack(">BI", 2, 2), "version 2"),
            (struct.pack(">BI", 101, 3), "no greeting"),
            (b"\x02\x00", "no greeting"),
        ],
    )
    def test_what_greets_otherwise_is_no_server(self, root: Path, greeting: bytes, said: str) -> None:
        """Guards against a start-up file of a shell that prints something, and a client that waits for ever."""
        with pytest.raises(StoreError, match=said):
            Sftp(tampering(on_answer=lambda request, packet: greeting), str(root), "SFTP")

    @pytest.mark.parametrize("kind", ["INIT", wire.LIMITS, "REALPATH"])
    def test_a_connection_that_ends_at_once_is_told_as_it_tells_it(self, root: Path, kind: str) -> None:
        with pytest.raises(StoreUnavailableError, match="was cut"):
            Sftp(tampering(lambda request: CUT if request.kind == kind else request.packet), str(root), "SFTP")


class TestErrors:
    def refusing(self, kind: str, code: int, text: bytes = b"Failure") -> Callable[[Request], Any]:
        return lambda request: [status(request, code, text)] if request.kind == kind else request.packet

    @pytest.mark.parametrize(
        ("code", "text", "kind", "said"),
        [
            (wire.PERMISSION_DENIED, b"Permission denied", StoreAccessError, "permissions"),
            (wire.FAILURE, b"Failure", StoreError, "does not say why"),
            (wire.FAILURE, b"Disk quota exceeded", StoreError, "quota"),
            (wire.FAILURE, b"No space left on device", StoreError, "free some space"),
            (wire.FAILURE, b"Read-only file system", StoreAccessError, "read-only"),
            (wire.BAD_MESSAGE, b"Bad message", StoreError, "too long a name"),
            (wire.UNSUPPORTED, b"Operation unsupported", UnsupportedError, "does not know"),
            (wire.CONNECTION_LOST, b"", StoreUnavailableError, "try again"),
            (77, b"\x1b[31mred", StoreError, "does not say why"),
        ],
    )
    def test_codes_are_told_by_their_errors(
        self, opened: Open, prepared: Path, code: int, text: bytes, kind: type[StoreError], said: str
    ) -> None:
        side = opened(tampering(self.refusing("WRITE", code, text)), prepared)
        with pytest.raises(kind, match=said) as caught:
            side.write_bytes("a/old", b"new")
        assert type(caught.value) is kind
        assert caught.value.key == "a/old"
        assert "\x1b" not in str(caught.value)
        assert files_of(prepared / "a") == {"old": b"old" * 200_000}

    @pytest.mark.parametrize(("room", "said"), [((0, 5, 0), "space"), ((5, 0, 0), "space"), ((5, 5, 1), "read-only")])
    def test_a_failure_without_a_reason_is_looked_into(
        self, opened: Open, prepared: Path, room: tuple[int, int, int], said: str
    ) -> None:
        """OpenSSH says ``Failure`` of a full disk; the room that is left tells more."""
        free, names, flags = room

        def hook(request: Request) -> Any:
            if request.kind == wire.STATVFS:
                body = struct.pack(">11Q", 4096, 4096, 9, 9, free, 9, 9, names, 0, flags, 255)
                return [encoded(request.number, Reply(body))]
            return [status(request, wire.FAILURE)] if request.kind == "WRITE" else request.packet

        with pytest.raises(StoreError, match=said):
            opened(tampering(hook), prepared).write_bytes("a/old", b"new")

    @pytest.mark.parametrize("size", [300_000, 3_000_000], ids=["small", "large"])
    def test_a_full_disk_keeps_the_old_value(self, opened: Open, prepared: Path, size: int) -> None:
        """A limit of the size of files is the nearest thing: the system refuses to write on, in the midst of it."""
        side = opened(connect(before='trap "" XFSZ; ulimit -f 200; '), prepared)
        with pytest.raises(StoreError, match="cannot write 'a/old'"):
            side.write_bytes("a/old", b"x" * size)
        with pytest.raises(StoreError, match="cannot write 'a/old'"):
            stream_up(side)
        assert files_of(prepared / "a") == {"old": b"old" * 200_000}
        side.write_bytes("a/old", b"fits")

    def test_a_server_for_reading_only(self, opened: Open, prepared: Path) -> None:
        side = opened(connect("-R"), prepared)
        assert side.read_bytes("a/old") == b"old" * 200_000
        for name in ("write", "write into a new folder", "stream up", "create", "delete"):
            error = outcome(partial(USES[name], side))
            # Of what only changes things, such a server does not speak.
            assert type(error) is (UnsupportedError if name == "create" else StoreAccessError), (name, error)
        assert side.remove_staging(0, False) == ()
        assert set(files_of(prepared)) == {"a/old", "link"}

    @pytest.mark.parametrize("denied", ["write", "posix-rename", "open", "mkdir", "remove"])
    def test_requests_that_the_server_denies(self, opened: Open, prepared: Path, denied: str) -> None:
        side = opened(connect("-P", denied), prepared)
        for name in ("write", "write into a new folder", "stream up"):
            error = outcome(partial(USES[name], side))
            assert error is None or isinstance(error, StoreAccessError | UnsupportedError), (name, error)
        assert (prepared / "a" / "old").read_bytes() in (b"old" * 200_000, b"x" * 500_000)

    def test_a_root_that_is_a_file(self, opened: Open, prepared: Path) -> None:
        side = opened(connect(), prepared / "a" / "old")
        for name in ("exists", "write", "list"):
            with pytest.raises(StoreError, match="not a folder"):
                USES[name](side)

    def test_a_root_that_cannot_be_made(self, opened: Open) -> None:
        side = opened(connect(), "/proc/nothing/here")
        with pytest.raises(StoreError, match=r"cannot make|no artifact"):
            side.write_bytes("a", b"x")

    @pytest.mark.parametrize("wakes", [True, False])
    def test_ctrl_c_while_the_server_thinks_leaves_nothing(self, opened: Open, prepared: Path, wakes: bool) -> None:
        """Even one that comes right before the wait, which therefore goes on as if there had been none."""

        def interrupt(request: Request) -> bytes:
            if request.kind == "WRITE":
                woken = threading.main_thread() if wakes else threading.current_thread()
                signal.pthread_kill(woken.ident or 0, signal.SIGINT)
                wait_for_given_up(side)
            return request.packet

        side = opened(tampering(interrupt), prepared)
        with pytest.raises(KeyboardInterrupt):
            side.write_bytes("a/old", b"new")
        assert files_of(prepared / "a") == {"old": b"old" * 200_000}
        assert side.read_bytes("a/old") == b"old" * 200_000

    def test_ctrl_c_before_the_wait_leaves_nothing(
        self, opened: Open, prepared: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hold(request: Request) -> bytes:
            if request.kind == "WRITE":
                wait_for_given_up(side)
            return request.packet

        def interrupted(task: Task[Any]) -> NoReturn:
            raise KeyboardInterrupt

        side = opened(tampering(hold), prepared)
        with monkeypatch.context() as patch:
            patch.setattr(Task, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                side.write_bytes("a/old", b"new")
        assert files_of(prepared / "a") == {"old": b"old" * 200_000}
        assert side.read_bytes("a/old") == b"old" * 200_000


class TestReading:
    def changing(self, change: Callable[[], object], number: int = 1) -> Between:
        """Change something right before the server hears of a read."""
        reads = []

        def hook(request: Request) -> bytes:
            if request.kind == "READ":
                reads.append(request)
                if len(reads) == number:
                    between.settle()
                    change()
            return request.packet

        between = tampering(hook)
        return between

    CHANGES: ClassVar[dict[str, Callable[[Path], object]]] = {
        "grown": lambda path: path.open("ab").write(b"more"),
        "shorter": lambda path: os.truncate(path, 1000),
        "emptied": lambda path: os.truncate(path, 0),
        "touched": lambda path: os.utime(path, (0, 0)),
    }

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("size", [5000, 3_000_000])
    @pytest.mark.parametrize("way", ["whole", "stream"])
    def test_a_file_that_changes_is_noticed(self, opened: Open, root: Path, change: str, size: int, way: str) -> None:
        root.mkdir()
        (root / "a").write_bytes(b"x" * size)
        number = 5 if size > 5000 else 1
        side = opened(self.changing(lambda: self.CHANGES[change](root / "a"), number), root)
        if way == "whole" and size == 5000:  # one request has read it, and another look at it costs nothing
            assert side.read_bytes("a") == (root / "a").read_bytes()
            return
        with pytest.raises(SourceChangedError, match="'a'"):
            side.read_bytes("a") if way == "whole" else stream_down(side, "a")

    def test_the_second_look_tells_what_the_time_does_not(self, opened: Open, root: Path) -> None:
        """Bytes changed in place within the second of their last write: same size, same time."""
        root.mkdir()
        now = int(time.time())

        def write(data: bytes, when: int = now) -> None:
            with (root / "a").open("r+b" if (root / "a").exists() else "wb") as file:
                file.write(data)
            os.utime(root / "a", (when, when))

        for read in (stream_down, Sftp.read_bytes):
            write(b"x" * 3_000_000)
            side = opened(self.changing(lambda: write(b"y" * 3_000_000), 10), root)
            with pytest.raises(SourceChangedError):
                read(side, "a")
            between = tampering()
            read(opened(between, root), "a")
            twice = len(between.asked("READ"))
            write(b"x" * 3_000_000, now - 100)
            between = tampering()
            read(opened(between, root), "a")
            assert len(between.asked("READ")) < twice - 5, "what is old is read once"

    def test_short_answers_are_asked_on(self, opened: Open, root: Path) -> None:
        """A server may give fewer bytes than were asked for, at any place."""
        data = os.urandom(1_000_000)
        root.mkdir()
        (root / "a").write_bytes(data)

        def shorten(request: Request) -> bytes:
            if request.kind != "READ":
                return request.packet
            (size,) = struct.unpack(">I", request.packet[-4:])
            return request.packet[:-4] + struct.pack(">I", max(1, size * 2 // 3))

        side = opened(tampering(shorten), root)
        assert side.read_bytes("a") == data
        with side.open_reader("a") as reader:
            assert b"".join(iter(reader.read, b"")) == data

    def test_more_than_was_asked_for_is_an_error(self, opened: Open, prepared: Path) -> None:
        hook = lambda request: (  # noqa: E731
            [encoded(request.number, Data(b"x" * 300_000))] if request.kind == "READ" else request.packet
        )
        for call in ("read", "stream down"):
            assert isinstance(outcome(partial(USES[call], opened(tampering(hook), prepared))), StoreError)

    @pytest.mark.parametrize("size", [0, 2**60])
    def test_sizes_may_lie(self, opened: Open, root: Path, size: int) -> None:
        """Of ``/proc`` and of drives in a cloud the system says that a file has no bytes; and no memory is taken for
        what a size says.
        """
        data = os.urandom(700_000)
        root.mkdir()
        (root / "a").write_bytes(data)

        def lie(request: Request | None, packet: bytes) -> bytes:
            if request is None or request.kind not in ("FSTAT", "LSTAT", "READDIR"):
                return packet
            return packet.replace(struct.pack(">Q", len(data)), struct.pack(">Q", size))

        side = opened(tampering(on_answer=lie), root)
        if size:
            with pytest.raises(SourceChangedError):
                side.read_bytes("a")
            with pytest.raises(SourceChangedError):
                stream_down(side, "a")
            return
        assert side.read_bytes("a") == data
        with side.open_reader("a") as reader:
            assert reader.info.size == len(data)
            assert b"".join(iter(reader.read, b"")) == data

    def test_a_pipe_is_not_opened(self, opened: Open, prepared: Path) -> None:
        """The server would wait for its writer, and with it everything else that was asked of it."""
        os.mkfifo(prepared / "pipe")
        side = opened(connect(), prepared, patience=5)
        for read in (side.read_bytes, side.open_reader, side.info):
            with pytest.raises(ArtifactNotFoundError):
                read("pipe")
        assert not side.exists("pipe")

    def test_times_promise_no_more_than_they_know(self, opened: Open, root: Path) -> None:
        side = opened(connect(), root)
        side.write_bytes("a", b"one")
        before = side.info("a")
        assert before.version is None
        assert before.modified == int(before.modified)
        assert list(side.iter_found("")) == [before]


class TestListing:
    def test_many_names_come_in_order_each_once(self, opened: Open, root: Path) -> None:
        names = [f"{n:04}" for n in range(2_500)]
        (root / "many").mkdir(parents=True)
        for name in names:
            (root / "many" / name).touch()
        (root / "many-more").mkdir()
        (root / "many-more" / "x").touch()
        side = opened(connect(), root)
        keys = [each.key for each in side.iter_found("") if isinstance(each, ArtifactInfo)]
        assert keys == ["many-more/x", *(f"many/{name}" for name in names)]

    def test_the_folders_that_come_next_are_read_ahead(self, opened: Open, root: Path) -> None:
        """So that a listing takes a few round trips, and not two for each folder."""
        for n in range(40):
            (root / f"{n:02}" / "below").mkdir(parents=True)
            (root / f"{n:02}" / "below" / "file").touch()
        between = tampering(seconds=0.02)
        side = opened(between, root)
        listing = side.iter_found("")
        assert isinstance(next(listing), ArtifactInfo)
        assert len(between.asked("OPENDIR")) > 20
        assert len(list(listing)) == 39
        assert between.most > 20

    def test_a_listing_that_is_abandoned_leaves_nothing_open(self, opened: Open, root: Path) -> None:
        for n in range(6):
            (root / f"{n:02}").mkdir(parents=True)
            for m in range(250):
                (root / f"{n:02}" / str(m)).touch()
        between = tampering()
        side = opened(between, root)
        listing = side.iter_found("")
        next(listing)
        del listing
        gc.collect()
        until = time.monotonic() + 10
        while len(between.asked("CLOSE")) < len(between.asked("OPENDIR")) and time.monotonic() < until:
            side.exists("absent")
        assert len(between.asked("CLOSE")) == len(between.asked("OPENDIR"))

    def test_a_folder_that_cannot_be_read_is_left_out(self, opened: Open, prepared: Path) -> None:
        def refuse(request: Request) -> Any:
            if request.kind == "OPENDIR" and request.path.endswith("/d"):
                return [status(request, wire.PERMISSION_DENIED, b"Permission denied")]
            return request.packet

        found = list(opened(tampering(refuse), prepared).iter_found(""))
        assert [each.name for each in found if isinstance(each, LeftOut)] == ["d/"]
        assert [type(each.error) for each in found if isinstance(each, LeftOut)] == [StoreAccessError]
        assert [each.key for each in found if isinstance(each, ArtifactInfo)] == ["a/old", "link"]

    def test_a_root_that_cannot_be_read_is_an_error(self, opened: Open, prepared: Path) -> None:
        def refuse(request: Request) -> Any:
            return [status(request, wire.PERMISSION_DENIED)] if request.kind == "OPENDIR" else request.packet

        with pytest.raises(StoreAccessError):
            list(opened(tampering(refuse), prepared).iter_found(""))

    def test_what_the_server_does_not_tell_is_asked(self, opened: Open, prepared: Path) -> None:
        """Some tell nothing but names."""

        def strip(request: Request | None, packet: bytes) -> bytes:
            if request is None or request.kind != "READDIR" or packet[0] != 104:
                return packet
            number, names = wire.decode(packet)
            assert isinstance(names, Names)
            return encoded(number, Names([(name, Attributes(None, None, None)) for name, _ in names.names]))

        side = opened(tampering(on_answer=strip), prepared)
        plain = opened(connect(), prepared)
        assert list(side.iter_found("")) == list(plain.iter_found(""))

    def test_a_name_that_is_a_path_is_left_out(self, opened: Open, prepared: Path) -> None:
        def add(request: Request | None, packet: bytes) -> bytes:
            if request is None or request.kind != "READDIR" or packet[0] != 104:
                return packet
            number, names = wire.decode(packet)
            assert isinstance(names, Names)
            return encoded(number, Names([*names.names, ("../../etc/passwd", Attributes(1, 0o100644, 1))]))

        found = list(opened(tampering(on_answer=add), prepared).iter_found("a"))
        assert [type(each) for each in found] == [LeftOut, ArtifactInfo]


class TestLinks:
    """The contract has what links lead to; here is what a server does that says less."""

    @staticmethod
    def lexical(request: Request | None, packet: bytes) -> bytes:
        """Have the server answer what it was asked, as those do that only clean paths up."""
        if request is None or request.kind != "REALPATH":
            return packet
        return encoded(request.number, Names([(request.path, Attributes(None, None, None))]))

    def test_links_are_refused_where_the_server_does_not_resolve_them(
        self, opened: Open, prepared: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret").write_bytes(b"secret")
        (prepared / "out").symlink_to(tmp_path / "outside")
        side = opened(tampering(on_answer=self.lexical), prepared)
        for call in (
            lambda: side.read_bytes("out/secret"),
            lambda: side.read_bytes("link"),
            lambda: side.write_bytes("out/new", b"x"),
            lambda: side.write_bytes("out/new/deep", b"x"),
        ):
            assert isinstance(outcome(call), UnsafePathError)
        assert [p.name for p in (tmp_path / "outside").iterdir()] == ["secret"]
        assert [each.key for each in side.iter_found("") if isinstance(each, ArtifactInfo)] == ["a/old"]
        assert side.read_bytes("a/old")

    def test_a_folder_that_was_swapped_for_a_link_gets_no_artifact(
        self, opened: Open, prepared: Path, tmp_path: Path
    ) -> None:
        """It was looked at a moment ago; the look that goes with each write tells where it leads now."""
        (tmp_path / "outside").mkdir()
        side = opened(connect(), prepared)
        side.write_bytes("a/one", b"x")
        (prepared / "a").rename(prepared / "b")
        (prepared / "a").symlink_to(tmp_path / "outside")
        with pytest.raises(UnsafePathError):
            side.write_bytes("a/two", b"x")
        assert list((tmp_path / "outside").iterdir()) == []

    def test_a_root_that_is_a_link_may_be_led_elsewhere(self, opened: Open, prepared: Path, tmp_path: Path) -> None:
        (tmp_path / "current").symlink_to(prepared)
        side = opened(connect(), tmp_path / "current")
        assert side.exists("a/old")
        (tmp_path / "other" / "a").mkdir(parents=True)
        (tmp_path / "current").unlink()
        (tmp_path / "current").symlink_to(tmp_path / "other")
        side.write_bytes("a/new", b"x")
        assert (tmp_path / "other" / "a" / "new").read_bytes() == b"x"


class TestRoots:
    def test_the_home_and_what_lies_in_it(self, opened: Open, tmp_path: Path) -> None:
        at_home = f"cd {tmp_path}; "
        opened(connect(before=at_home), "results/deep").write_bytes("a/b", b"x")
        opened(connect(before=at_home), ".").write_bytes("c", b"x")
        assert files_of(tmp_path) == {"results/deep/a/b": b"x", "c": b"x"}
        found = opened(connect(before=at_home), ".").iter_found("")
        assert [each.key for each in found if isinstance(each, ArtifactInfo)] == ["c", "results/deep/a/b"]

    def test_a_home_that_is_missing_is_told(self, opened: Open, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        side = opened(connect(before=f"cd {tmp_path}/home; rmdir {tmp_path}/home; "), ".")
        with pytest.raises(StoreError, match="make the root"):
            side.write_bytes("a", b"x")
        assert not side.exists("a")

    def test_everything(self, opened: Open, tmp_path: Path) -> None:
        side = opened(connect(), "/")
        side.write_bytes(f"{tmp_path}/a/b"[1:], b"x")
        assert side.read_bytes(f"{tmp_path}/a/b"[1:]) == b"x"
        assert [each.key for each in side.iter_found(str(tmp_path)[1:])] == [f"{tmp_path}/a/b"[1:]]  # type: ignore[union-attr]


class TestStaging:
    def test_old_unfinished_files_are_swept(self, opened: Open, prepared: Path) -> None:
        """Those that no writer can still be at, by the server's clock; not what is finished and not shown."""
        for name, age in ((".emdstore-old", 7200), ("a/.emdstore-older", 9000), ("a/.emdstore-young", 60)):
            (prepared / name).write_bytes(b"half")
            os.utime(prepared / name, (time.time() - age,) * 2)
        (prepared / ".emdstore-digests").write_bytes(b"kept")
        os.utime(prepared / ".emdstore-digests", (0, 0))
        side = opened(connect(), prepared)
        old = (".emdstore-old", "a/.emdstore-older")
        assert side.remove_staging(3600, True) == old
        assert all((prepared / name).exists() for name in old)
        assert side.remove_staging(3600, False) == old
        assert set(files_of(prepared)) == {"a/old", "link", "a/.emdstore-young", ".emdstore-digests"}

    def test_a_close_removes_what_is_unfinished(self, opened: Open, root: Path) -> None:
        """As at the end of a process whose threads wait for a silent server."""
        held = threading.Event()

        def hold(request: Request) -> bytes:
            if request.kind == "WRITE" and request.packet.endswith(b"held"):
                held.set()
                wait_for_given_up(side)
            return request.packet

        side = opened(tampering(hold), root)
        stream = side.open_writer("a")
        stream.__enter__()
        stream.write(b"x" * 500_000)
        pending = side.begin_write("b", b"held")
        assert held.wait(10)
        assert len(files_of(root)) == 2
        side.close()
        assert isinstance(outcome(pending.result), StoreUnavailableError)
        assert files_of(root) == {}

    def test_a_clean_up_that_took_an_unfinished_file_is_told(self, opened: Open, root: Path) -> None:
        def sweep(request: Request) -> bytes:
            if request.kind == wire.POSIX_RENAME:
                Path(request.path).unlink()
            return request.packet

        with pytest.raises(StoreUnavailableError, match="clean-up"):
            opened(tampering(sweep), root).write_bytes("a", b"x")


class TestManyAtOnce:
    def test_threads_share_a_connection(self, opened: Open, root: Path) -> None:
        """Small and large, up and down, and nothing is mixed up."""
        side = opened(connect(), root)
        values = {f"{n % 7}/{n}": os.urandom(n * 4321 % 400_000) for n in range(200)}
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda item: side.write_bytes(*item), values.items()))
            assert list(pool.map(side.read_bytes, values)) == list(values.values())
        assert files_of(root) == values

    def test_a_folder_is_looked_at_once_for_all_who_come_to_it(self, opened: Open, root: Path) -> None:
        between = tampering(seconds=0.002)
        side = opened(between, root)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: side.write_bytes(f"new/folder/{n}", b"x"), range(64)))
        assert len(between.asked("MKDIR")) < 20
        assert len(files_of(root)) == 64

    def test_those_who_wait_for_another_have_errors_of_their_own(self, opened: Open, prepared: Path) -> None:
        between = tampering(seconds=0.01)
        side = opened(between, prepared)

        def write(n: int) -> EmdstoreError | None:
            return outcome(lambda: side.write_bytes(f"a/old/{n}", b"x"))

        with ThreadPoolExecutor(8) as pool:
            errors = list(pool.map(write, range(8)))
        assert [error.key for error in errors if isinstance(error, KeyConflictError)] == [
            f"a/old/{n}" for n in range(8)
        ]

    def test_those_who_wait_for_another_hear_of_a_cut(self, opened: Open, prepared: Path) -> None:
        between = tampering(lambda request: None if request.kind == "STAT" else request.packet)
        side = opened(between, prepared)
        pending = [side.begin_write(f"a/{n}", b"x") for n in range(8)]
        while not between.asked("STAT"):
            time.sleep(0.001)
        between.cut()
        assert all(isinstance(outcome(each.result), StoreUnavailableError) for each in pending)

    def test_nobody_waits_for_the_answers_of_another(self, opened: Open, root: Path) -> None:
        between = tampering(seconds=0.02)
        side = opened(between, root)
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda n: side.write_bytes(f"{n}", b"x"), range(64)))
        assert between.most > 30

    @pytest.mark.parametrize("way", ["up", "down"])
    def test_a_large_artifact_takes_few_round_trips(self, opened: Open, root: Path, way: str) -> None:
        between = tampering(seconds=0.02)
        side = opened(between, root)
        data = os.urandom(4_000_000)
        side.write_bytes("a", data)
        if way == "down":
            between.most = 0
            with side.open_reader("a") as reader:
                assert b"".join(iter(reader.read, b"")) == data
        assert between.most >= 16

    def test_a_server_that_takes_nothing_for_a_while_is_waited_for(self, opened: Open, root: Path) -> None:
        """Both pipes are full then; a client that waits to write, and does not read, waits for ever."""

        def slow(request: Request) -> bytes:
            if request.kind in ("READ", "WRITE"):
                time.sleep(0.001)
            return request.packet

        side = opened(tampering(slow), root)
        data = os.urandom(1_000_000)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: side.write_bytes(f"{n}", data), range(8)))
            assert all(read == data for read in pool.map(lambda n: side.read_bytes(f"{n}"), range(8)))

    def test_a_far_side_that_nobody_holds_ends_its_server(self, root: Path) -> None:
        connection = connect()
        side = Sftp(connection, str(root), "SFTP")
        side.write_bytes("a", b"x")
        process = connection._process
        del side
        gc.collect()
        assert process.wait(10) is not None


Both = tuple[Any, Any, Path, Path]
"""Two stores, from and to, and their folders."""


class TestCopies:
    """Files to and from this machine, many at a time."""

    @pytest.fixture
    def near(self, tmp_path: Path) -> LocalArtifactStore:
        return LocalArtifactStore(tmp_path / "near")

    @pytest.fixture
    def far(self, tmp_path: Path) -> Iterator[SSHArtifactStore]:
        with SSHArtifactStore(f"sftp://here{tmp_path}/far", rsh=client_of_server()) as far:
            yield far

    @pytest.fixture(params=["up", "down"])
    def between(self, request: pytest.FixtureRequest, near: LocalArtifactStore, far: SSHArtifactStore) -> Both:
        roots = near.root, near.root.with_name("far")
        return (near, far, *roots) if request.param == "up" else (far, near, *roots[::-1])

    VALUES: ClassVar = {
        "a": b"1",
        "empty": b"",
        "new/folder/b": b"22",
        "small": b"x" * 70_000,
        "whole": b"y" * 1_000_000,
    }

    def test_copies_what_is_there_and_says_in_order_what_came_of_each(self, between: Both) -> None:
        source, dest, _, there = between
        for key, data in self.VALUES.items():
            source.write_bytes(key, data)
        dest.write_bytes("taken/below", b"kept")
        source.write_bytes("taken", b"x")
        keys = ["a", "absent", "empty", "../out", "new/folder/b", "taken", "small", "whole", "a"]
        moved: list[int] = []
        with dest.copy_from(source) as session:
            outcomes = list(session.copy_many(keys, moved.append))
        good = {n: self.VALUES[key] for n, key in enumerate(keys) if key in self.VALUES}
        for n, outcome in enumerate(outcomes):
            if n in good:
                assert outcome == Copied(len(good[n]), sha256_of(good[n]))
        kinds = {keys[n]: type(each) for n, each in enumerate(outcomes) if n not in good}
        assert kinds == {"absent": ArtifactNotFoundError, "../out": InvalidKeyError, "taken": KeyConflictError}
        assert sum(moved) == sum(map(len, good.values()))
        assert files_of(there) == self.VALUES | {"taken/below": b"kept"}

    def test_copies_one_of_any_size(self, between: Both) -> None:
        source, dest, _, there = between
        data = os.urandom(3_000_000)
        source.write_bytes("large", data)
        source.write_bytes("empty", b"")
        with dest.copy_from(source) as session:
            assert session.copy("large") == Copied(len(data), sha256_of(data))
            assert session.copy("empty") == Copied(0, sha256_of(b""))
            with pytest.raises(ArtifactNotFoundError):
                session.copy("absent")
        assert files_of(there) == {"large": data, "empty": b""}

    def test_a_program_stays_one(self, between: Both) -> None:
        source, dest, here, there = between
        for key, size in {"small": 10, "large": 2_000_000, "plain": 10}.items():
            source.write_bytes(key, b"#" * size)
            (here / key).chmod(0o644 if key == "plain" else 0o755)
        with dest.copy_from(source) as session:
            list(session.copy_many(["small", "plain"]))
            session.copy("large")
        programs = {
            key: os.access(there / key, os.X_OK) and (there / key).stat().st_mode & 0o100 for key in files_of(there)
        }
        assert programs == {"small": 0o100, "large": 0o100, "plain": 0}

    def test_copies_that_are_abandoned_are_whole_or_not_there(self, between: Both) -> None:
        source, dest, _, there = between
        keys = [f"{n:03}" for n in range(100)]
        for key in keys:
            source.write_bytes(key, key.encode() * 1000)
        with dest.copy_from(source) as session:
            copies = session.copy_many(keys)
            for _ in range(10):
                assert isinstance(next(copies), Copied)
            copies.close()
            assert all(isinstance(each, Copied) for each in session.copy_many(keys[:20]))
        found = {key: data for key, data in files_of(there).items() if ".emdstore-" not in key}
        assert set(keys[:20]) <= set(found)
        assert all(data == key.encode() * 1000 for key, data in found.items())

    def test_memory_is_bounded_for_all_threads_together(self) -> None:
        """By bytes, by number, and while it is not known how large the files are, by a small number."""
        ahead = Ahead()
        for _ in range(16):
            assert ahead.has_room
            ahead.begin()
        assert not ahead.has_room
        for _ in range(16):
            ahead.end(64 * 1024, 1_000_000)
        begun = 0
        while ahead.has_room:
            ahead.begin()
            begun += 1
        assert 15 < begun < 25
        small = Ahead()
        for _ in range(256):
            assert small.has_room
            small.begin(100)
        assert not small.has_room


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    if find_sshd() is None:
        pytest.skip(MISSING)
    with run_sshd(tmp_path_factory.mktemp("sftp-only") / "server", "ForceCommand internal-sftp") as server:
        yield server


class TestOverSSH:
    """A real OpenSSH server, for an account that may do nothing but SFTP."""

    def test_artifacts_go_there_and_come_back(self, server: SSHServer, tmp_path: Path) -> None:
        source = LocalArtifactStore(tmp_path / "source")
        values = {f"größe {n % 3}/{n}": os.urandom(n * 1000) for n in range(60)} | {"large": os.urandom(5_000_000)}
        for key, data in values.items():
            source.write_bytes(key, data)
        with SSHArtifactStore(server.url(tmp_path / "far", "sftp"), rsh=server.rsh) as far:
            assert transfer(source, far).counts["copied"] == 61
            assert files_of(tmp_path / "far") == values
            assert transfer(source, far).counts == transfer(source, far, dry_run=True).counts
            back = transfer(far, LocalArtifactStore(tmp_path / "back"))
            assert back.counts["copied"] == 61
            assert {each.key: each.sha256 for each in back.outcomes} == {k: sha256_of(v) for k, v in values.items()}
        assert files_of(tmp_path / "back") == values

    def test_a_program_that_cannot_run_is_done_without(
        self, server: SSHServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with SSHArtifactStore(server.url(tmp_path / "far"), rsh=server.rsh) as far:
            put_over(far, "record", b"one", None)
            put_over(far, "record", b"two", sha256_of(b"one"))
            with pytest.raises(ArtifactChangedError):
                put_over(far, "record", b"three", sha256_of(b"one"))
        assert files_of(tmp_path / "far") == {"record": b"two"}
        assert "is used by SFTP" in caplog.text

    def test_a_connection_that_was_cut_is_opened_anew(self, server: SSHServer, tmp_path: Path) -> None:
        with SSHArtifactStore(server.url(tmp_path / "far", "sftp"), rsh=server.rsh) as far:
            far.write_bytes("a", b"x")
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name() == "ssh":
                        child.kill()
            assert far.read_bytes("a") == b"x"


def test_what_is_sent_is_taken_while_other_threads_ask_for_more(request: pytest.FixtureRequest) -> None:
    """Guards against an iterator over the queue, which fails if anything is appended before it is read."""
    interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    queue: collections.deque[int] = collections.deque()
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            queue.append(0)
            if len(queue) > 100:
                for _ in range(50):
                    queue.pop()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(100_000):
                assert len(first_of(queue, 5)) <= 5
        finally:
            ended.set()
        asking.result()
