"""OpenSSH's SFTP server without SSH, and somebody between it and the client who changes what passes."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from emdstore.errors import EmdstoreError, StoreUnavailableError
from emdstore.stores.ssh.address import Address
from emdstore.stores.ssh.connection import SFTP, Connection, open_connection
from emdstore.stores.ssh.sftp import wire

MISSING = "OpenSSH's SFTP server is not installed: apt-get install openssh-sftp-server"
_PLACES = ("/usr/lib/openssh", "/usr/lib/ssh", "/usr/libexec/openssh", "/usr/libexec")

NAMES = {
    1: "INIT", 3: "OPEN", 4: "CLOSE", 5: "READ", 6: "WRITE", 7: "LSTAT", 8: "FSTAT", 11: "OPENDIR", 12: "READDIR",
    13: "REMOVE", 14: "MKDIR", 15: "RMDIR", 16: "REALPATH", 17: "STAT", 18: "RENAME", 200: "EXTENDED",
}  # fmt: skip
"""What the protocol calls what is asked."""


def find_server() -> str:
    """Return the path of the program, which is on nobody's search path."""
    found = shutil.which("sftp-server", path=os.pathsep.join(_PLACES))
    return found if found is not None else pytest.skip(MISSING)


def client_of_server(*options: str, before: str = "") -> str:
    """Return what to give as ``rsh`` to have the server itself, without SSH; `before` is run by the shell first."""
    return f"sh -c '{before}exec {find_server()} {' '.join(options)}'"


def connect(*options: str, before: str = "") -> Connection:
    """Start the server, and connect to it."""
    rsh = client_of_server(*options, before=before)
    return open_connection(Address("sftp", "localhost", "/"), SFTP, name="SFTP", rsh=rsh)


class Request:
    """What a client asks, as somebody in between sees it."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.kind = NAMES[packet[0]]
        self.number = struct.unpack_from(">I", packet, 1)[0]
        if self.kind == "EXTENDED":
            self.kind = self.strings[0].decode()

    @property
    def strings(self) -> list[bytes]:
        """The strings that it begins with."""
        found, at = [], 5
        while at + 4 <= len(self.packet):
            (size,) = struct.unpack_from(">I", self.packet, at)
            if at + 4 + size > len(self.packet):
                break
            found.append(self.packet[at + 4 : at + 4 + size])
            at += 4 + size
        return found

    @property
    def path(self) -> str:
        """The first path in it."""
        return self.strings[1 if "@" in self.kind else 0].decode()


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def status(request: Request, code: int, text: bytes = b"Failure") -> bytes:
    """Return the answer that something ended so."""
    return struct.pack(">BII", 101, request.number, code) + string(text) + string(b"en")


CUT = object()
"""What a hook returns to end the connection."""

OnRequest = Callable[[Request], Any]
"""Given what is asked; returns what goes to the server instead, or None for nothing, or a list of answers, or `CUT`."""

OnAnswer = Callable[[Request | None, bytes], Any]
"""Given a request (None: the greeting) and its answer; returns what goes to the client instead, or None, or `CUT`."""


class Between:
    """A connection to the server by way of two hooks; `seen` is what was asked, `most` of it at a time.

    What is returned as a packet gets its length. An answer of type `bytearray` goes as it is, without one.
    """

    asks = False

    def __init__(
        self,
        on_request: OnRequest = lambda request: request.packet,
        on_answer: OnAnswer = lambda request, packet: packet,
        *options: str,
        seconds: float = 0.0,
    ) -> None:
        self._server = connect(*options)
        self._on_request, self._on_answer, self._seconds = on_request, on_answer, seconds
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.descriptors = ours_in, ours_out
        self._in, self._out = theirs_in, theirs_out
        os.set_blocking(theirs_out, False)
        self._waiting: dict[int, Request] = {}
        self._cut = threading.Lock()
        self._is_cut = False
        self.seen: list[Request] = []
        self.most = 0
        self.problems: list[BaseException] = []
        self.threads = [
            threading.Thread(target=self._safely, args=(self._forth,), daemon=True),
            threading.Thread(target=self._safely, args=(self._back,), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError:
            pass
        except BaseException as error:
            self.problems.append(error)
        finally:
            self.cut()

    def _forth(self) -> None:
        splitter = wire.Splitter()
        os.set_blocking(self._server.descriptors[0], True)
        while data := os.read(self._in, 1 << 18):
            for packet in map(bytes, splitter.feed(data)):
                request = Request(packet)
                if request.kind != "INIT":
                    self.seen.append(request)
                    self._waiting[request.number] = request
                    self.most = max(self.most, len(self._waiting))
                found = self._on_request(request)
                if found is CUT:
                    return
                if isinstance(found, list):
                    for answer in found:
                        self._waiting.pop(request.number, None)
                        self._answer(answer)
                elif found is not None:
                    self._server.write(string(found))

    def _back(self) -> None:
        splitter, pending = wire.Splitter(), []
        while data := self._server.read(1 << 18):
            pending = [bytes(packet) for packet in splitter.feed(data)]
            if self._seconds:
                time.sleep(self._seconds)
            for packet in pending:
                request = None
                if packet[0] != 2:
                    request = self._waiting.pop(struct.unpack_from(">I", packet, 1)[0])
                found = self._on_answer(request, packet)
                if found is CUT:
                    return
                if found is not None:
                    self._answer(found)

    def _answer(self, packet: bytes) -> None:
        data = packet if isinstance(packet, bytearray) else string(packet)
        with self._cut:  # the descriptor may be another's after it
            while data and not self._is_cut:
                try:
                    data = data[os.write(self._out, data) :]
                except BlockingIOError:  # the client reads when it is done with what it has
                    time.sleep(0.0005)

    def settle(self) -> None:
        """Wait until the server has answered all but the request that a hook has in hand."""
        while len(self._waiting) > 1:
            time.sleep(0.001)

    def cut(self) -> None:
        """End the connection."""
        with self._cut:
            if self._is_cut:
                return
            self._is_cut = True
            os.close(self._out)
        self._server.close()

    def asked(self, *kinds: str) -> list[Request]:
        """Return what was asked of some kinds."""
        return [request for request in self.seen if request.kind in kinds]

    def error(self, doing: str) -> EmdstoreError:
        return StoreUnavailableError(f"cannot {doing} SFTP: the connection was cut", store="SFTP")

    def close(self) -> None:
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
