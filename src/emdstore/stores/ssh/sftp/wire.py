"""Packets of SFTP, version 3 of its protocol: bytes in, values out, and the other way round. Nothing here does I/O.

The protocol is draft-ietf-secsh-filexfer-02, with the extensions that OpenSSH describes in its file ``PROTOCOL``. The
libraries that speak it have no codec that is to be had without their own transport, which is what costs them their
speed; and of the protocol's thirty packets a store needs twenty.
"""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple, TypeAlias

VERSION = 3

MOST_BYTES = 4 * 1024 * 1024
"""The longest packet that is believed. OpenSSH sends 256 KiB at most."""

READ, WRITE, CREATE, EXCLUSIVE = 0x01, 0x02, 0x08, 0x20
"""How a file is opened."""

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, NO_CONNECTION, CONNECTION_LOST, UNSUPPORTED = range(9)
"""What a `Status` says."""

POSIX_RENAME, HARDLINK, FSYNC = "posix-rename@openssh.com", "hardlink@openssh.com", "fsync@openssh.com"
STATVFS, LIMITS = "statvfs@openssh.com", "limits@openssh.com"

_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = range(1, 9)
_FSETSTAT = 10
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT, _RENAME = range(11, 19)
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS = range(101, 106)
_EXTENDED, _EXTENDED_REPLY = 200, 201

_HAS_SIZE, _HAS_OWNERS, _HAS_MODE, _HAS_TIMES, _HAS_EXTENDED = 0x1, 0x2, 0x4, 0x8, 0x80000000

_USUAL = _HAS_SIZE | _HAS_OWNERS | _HAS_MODE | _HAS_TIMES

_HEAD = struct.Struct(">IBI")
_ANSWER = struct.Struct(">BI")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_USUAL_ATTRIBUTES = struct.Struct(">QQIII")
_U64_U32 = struct.Struct(">QI")
_TWO_U32 = struct.Struct(">II")


Packet: TypeAlias = bytes | memoryview
"""A packet, without its length."""


class WireError(Exception):
    """Bytes that are no packet of SFTP."""


# -- what is asked -------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """What is asked of a server, before it has a number.

    Attributes
    ----------
    kind
        The type of the packet.
    body
        What comes after the number.
    data
        What comes after that: the bytes of a file, which are not copied.
    """

    kind: int
    body: bytes
    data: bytes | memoryview = b""


def first_packet() -> bytes:
    """Return the packet that a client begins with."""
    return _U32.pack(5) + bytes([_INIT]) + _U32.pack(VERSION)


def framed(request: Request, number: int) -> bytes:
    """Return a request as a packet, without its `Request.data`, which has to follow."""
    kind, body, data = request
    return _HEAD.pack(5 + len(body) + len(data), kind, number) + body


def _string(text: str | bytes) -> bytes:
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return _U32.pack(len(raw)) + raw


def open_file(path: str, flags: int) -> Request:
    """Ask for a handle of a file; what is created gets the permissions that the server's umask leaves."""
    return Request(_OPEN, _string(path) + _TWO_U32.pack(flags, 0))


def close(handle: bytes) -> Request:
    """Give a handle back. The answer has the errors of a network file system, too."""
    return Request(_CLOSE, _string(handle))


def read(handle: bytes, offset: int, size: int) -> Request:
    """Ask for `Data`, or a `Status` of `EOF`."""
    return Request(_READ, _string(handle) + _U64_U32.pack(offset, size))


def write(handle: bytes, offset: int, data: bytes | memoryview) -> Request:
    """Write bytes at an offset."""
    return Request(_WRITE, _string(handle) + _U64_U32.pack(offset, len(data)), data)


def lstat(path: str) -> Request:
    """Ask for the `Attributes` of what has a name, of a link itself."""
    return Request(_LSTAT, _string(path))


def stat_of(path: str) -> Request:
    """Ask for the `Attributes` of what a name leads to."""
    return Request(_STAT, _string(path))


def fstat(handle: bytes) -> Request:
    """Ask for the `Attributes` of what is open."""
    return Request(_FSTAT, _string(handle))


def set_mode(handle: bytes, mode: int) -> Request:
    """Set the permissions of what is open."""
    return Request(_FSETSTAT, _string(handle) + _TWO_U32.pack(_HAS_MODE, mode & 0o7777))


def open_folder(path: str) -> Request:
    """Ask for a handle of a folder."""
    return Request(_OPENDIR, _string(path))


def read_folder(handle: bytes) -> Request:
    """Ask for the next `Names`, or a `Status` of `EOF`."""
    return Request(_READDIR, _string(handle))


def remove(path: str) -> Request:
    """Remove a file or a link."""
    return Request(_REMOVE, _string(path))


def make_folder(path: str) -> Request:
    """Make a folder, with the permissions that the server's umask leaves."""
    return Request(_MKDIR, _string(path) + _U32.pack(0))


def remove_folder(path: str) -> Request:
    """Remove an empty folder."""
    return Request(_RMDIR, _string(path))


def real_path(path: str) -> Request:
    """Ask for a path's real path, the first of the `Names`; some servers do not resolve links in it."""
    return Request(_REALPATH, _string(path))


def rename(old: str, new: str) -> Request:
    """Rename to a name that is free."""
    return Request(_RENAME, _string(old) + _string(new))


def _extended(name: str, *strings: str | bytes) -> Request:
    return Request(_EXTENDED, _string(name) + b"".join(map(_string, strings)))


def posix_rename(old: str, new: str) -> Request:
    """Rename over what has the name, as rename(2) does."""
    return _extended(POSIX_RENAME, old, new)


def hardlink(old: str, new: str) -> Request:
    """Give a file a second name, if that is free, as link(2) does."""
    return _extended(HARDLINK, old, new)


def fsync(handle: bytes) -> Request:
    """Have everything that was written to a handle flushed."""
    return _extended(FSYNC, handle)


def is_flush(request: Request) -> bool:
    """Tell whether a request may take long."""
    return request.kind == _EXTENDED and request.body.startswith(_string(FSYNC))


def statvfs(path: str) -> Request:
    """Ask for the `Reply` that `room_of` reads."""
    return _extended(STATVFS, path)


def limits() -> Request:
    """Ask for the `Reply` that `limits_of` reads."""
    return _extended(LIMITS)


# -- what is answered ----------------------------------------------------------------------------------------------


class Status(NamedTuple):
    """How a request ended: one of the codes, and what the server says of it, which may be nothing."""

    code: int
    text: str


_DONE = Status(OK, "")


class Handle(NamedTuple):
    """The handle of something that is open."""

    handle: bytes


class Data(NamedTuple):
    """Bytes of a file, perhaps fewer than were asked for."""

    data: bytes


class Attributes(NamedTuple):
    """What a server says of a file; None where it does not.

    Attributes
    ----------
    size
        Bytes.
    mode
        Kind and permissions, as `stat.st_mode`.
    modified
        When the bytes were last written: whole seconds, of 32 bits.
    """

    size: int | None
    mode: int | None
    modified: int | None

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file; a server that does not tell what something is has files only."""
        return self.mode is None or stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode is not None and stat.S_ISLNK(self.mode)


class Names(NamedTuple):
    """The entries of a folder and what they are (links are not followed); names may not be valid UTF-8."""

    names: list[tuple[str, Attributes]]


class Reply(NamedTuple):
    """The answer to an extension, which this alone can read."""

    body: bytes


Answer: TypeAlias = Status | Handle | Data | Attributes | Names | Reply


class Room(NamedTuple):
    """What a file system has left for those who are not root: bytes, and names of files; and if it is read-only."""

    free_bytes: int
    free_files: int
    is_read_only: bool


class Limits(NamedTuple):
    """What a server takes at once; 0 where it does not say."""

    read: int
    write: int


class _Scanner:
    """Reads one value after the other, and knows where the packet ends."""

    __slots__ = ("_at", "_packet")

    def __init__(self, packet: Packet, at: int) -> None:
        self._packet, self._at = packet, at

    def u32(self) -> int:
        value: int = _U32.unpack_from(self._packet, self._at)[0]
        self._at += 4
        return value

    def u64(self) -> int:
        value: int = _U64.unpack_from(self._packet, self._at)[0]
        self._at += 8
        return value

    def skip_raw(self) -> None:
        self._at += 4 + _U32.unpack_from(self._packet, self._at)[0]

    def raw(self) -> bytes:
        start = self._at + 4
        self._at = start + _U32.unpack_from(self._packet, self._at)[0]
        if self._at > len(self._packet):
            raise WireError(f"a string of {self._at - start} bytes in a packet of {len(self._packet)}")
        return bytes(self._packet[start : self._at])

    def text(self) -> str:
        return self.raw().decode("utf-8", "surrogateescape")

    def attributes(self) -> Attributes:
        flags = self.u32()
        if flags == _USUAL:
            size, _, mode, _, modified = _USUAL_ATTRIBUTES.unpack_from(self._packet, self._at)
            self._at += _USUAL_ATTRIBUTES.size
            return Attributes(size, mode, modified)
        size = self.u64() if flags & _HAS_SIZE else None
        if flags & _HAS_OWNERS:
            self.u64()
        mode = self.u32() if flags & _HAS_MODE else None
        modified = None
        if flags & _HAS_TIMES:
            self.u32()
            modified = self.u32()
        if flags & _HAS_EXTENDED:
            for _ in range(self.u32()):
                self.raw()
                self.raw()
        return Attributes(size, mode, modified)

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._packet)

    def rest(self) -> bytes:
        return bytes(self._packet[self._at :])


def decode_version(packet: Packet) -> tuple[int, dict[str, str]]:
    """Return the version and the extensions of a server's first packet, which has no number.

    Raises
    ------
    WireError
        If it is something else.
    """
    if not packet or packet[0] != _VERSION:
        raise WireError("no version of SFTP comes first")
    scanner = _Scanner(packet, 1)
    extensions = {}
    try:
        version = scanner.u32()
        while not scanner.is_at_end:
            name = scanner.text()
            extensions[name] = scanner.text()
    except struct.error:
        raise WireError("the first packet ends too early") from None
    return version, extensions


def decode(packet: Packet) -> tuple[int, Answer]:
    """Return the number and the content of an answer.

    Raises
    ------
    WireError
        If the packet is no answer, or ends too early.
    """
    try:
        kind, number = _ANSWER.unpack_from(packet)
        scanner = _Scanner(packet, 5)
        if kind == _STATUS:
            code = scanner.u32()
            return number, _DONE if code == OK else Status(code, "" if scanner.is_at_end else scanner.text())
        if kind == _DATA:
            return number, Data(scanner.raw())
        if kind == _HANDLE:
            return number, Handle(scanner.raw())
        if kind == _ATTRS:
            return number, scanner.attributes()
        if kind == _NAME:
            names = []
            for _ in range(scanner.u32()):
                name = scanner.text()
                scanner.skip_raw()  # a line for people
                names.append((name, scanner.attributes()))
            return number, Names(names)
        if kind == _EXTENDED_REPLY:
            return number, Reply(scanner.rest())
    except struct.error:
        raise WireError(f"a packet of {len(packet)} bytes ends too early") from None
    raise WireError(f"a packet of type {kind} is no answer")


def limits_of(reply: Reply) -> Limits:
    """Return what a server takes at once."""
    scanner = _Scanner(reply.body, 0)
    try:
        scanner.u64()  # the longest packet
        return Limits(scanner.u64(), scanner.u64())
    except struct.error:
        raise WireError("an answer about limits ends too early") from None


def room_of(reply: Reply) -> Room:
    """Return what a file system has left."""
    scanner = _Scanner(reply.body, 0)
    try:
        _, fragment, _, _, available, _, _, files, _, flags, _ = (scanner.u64() for _ in range(11))
    except struct.error:
        raise WireError("an answer about a file system ends too early") from None
    return Room(fragment * available, files, bool(flags & 1))


class Splitter:
    """Takes bytes as they come, in pieces of any size, and gives packets."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 4

    def feed(self, data: bytes) -> list[memoryview]:
        """Return the packets that are complete by now.

        Raises
        ------
        WireError
            If a packet says that it is longer than any can be. Its bytes are not waited for.
        """
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return []
        whole = b"".join(self._parts) if len(self._parts) > 1 else data
        view = memoryview(whole)
        packets, at, end = [], 0, len(whole)
        self._needed = 4
        while end - at >= 4:
            size: int = _U32.unpack_from(whole, at)[0]
            if not 1 <= size <= MOST_BYTES:
                raise WireError(f"a packet of {size} bytes; it begins with {whole[at : at + 200]!r}")
            if end - at - 4 < size:
                self._needed = 4 + size
                break
            packets.append(view[at + 4 : at + 4 + size])
            at += 4 + size
        self._parts = [whole[at:]] if at < end else []
        self._held = end - at
        return packets
