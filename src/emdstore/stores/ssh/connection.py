"""A connection to a machine by SSH: the OpenSSH client as a child of this process, with a socket to it and a pipe back.

So keys, agents, certificates, jump hosts, shared connections and known hosts work as the user has set them up for
`ssh`, and no password or key is ever ours. Where there is a terminal the client asks on it; where there is none it must
not ask (``BatchMode``), so that nothing hangs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Mapping
from typing import IO, Self

import attrs

from emdstore import system
from emdstore.errors import EmdstoreError, StoreError, StoreUnavailableError, StoreURLError
from emdstore.per_process import PerProcess
from emdstore.stores.ssh.address import Address
from emdstore.stores.ssh.errors import error_of_client

SFTP = "sftp"
VARIABLE = "EMDSTORE_SSH"
_HELD_BYTES = 1024 * 1024
"""How much is asked to be held on the way: a system's usual 64 KiB has both ends wake each other all the time."""

_PREFERRED = "aes128-gcm@openssh.com"
# What OpenSSH does without being told: 6.7 to 9.9, then 10. Who configured something else has a reason.
_USUAL_CIPHERS = (
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
)
_ALIVE_SECONDS = 15
_KEPT = 8192  # of what the client says: its beginning, and its end
_TO_END = 0.3  # seconds for the client to say goodbye
_TO_SAY = 1.0  # seconds for it to end, and say why, once it has closed a pipe


@attrs.frozen
class Command:
    """A command that the user's shell over there runs."""

    line: str


def open_connection(
    address: Address,
    what: Command | str,
    *,
    name: str,
    rsh: str | None = None,
    timeout: float = 20.0,
    connect_timeout: float = 10.0,
) -> Connection:
    """Start an SSH client; this does not wait for it to get anywhere.

    Parameters
    ----------
    address
        Where to.
    what
        What is to run there: a command, or a subsystem by its name (`SFTP`).
    name
        The store, as errors name it.
    rsh
        The client with its options, as a shell would take them; ``EMDSTORE_SSH`` or `ssh` by default. One whose words
        hold no ``ssh`` is given ``-l user -p port host command``, and no options of OpenSSH.
    timeout
        Seconds that a write may wait for the other side to take it.
    connect_timeout
        Seconds until the machine has to answer.

    Raises
    ------
    StoreURLError
        If `rsh` cannot be split into words.
    StoreError
        If there is no such client.
    """
    words = client_words(rsh)
    asks = _has_terminal()
    given = [*words, *_options(tuple(words), address, asks, connect_timeout), address.host]
    if isinstance(what, Command):
        given.append(what.line)
    else:
        given[-1:] = ["-s", address.host, what]
    if asks:
        # In the terminal's foreground, so that it may ask. Ctrl-C is for this process, which then ends it.
        given = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *given]
    # A socket, because a pipe has its writer woken for each page that was read.
    ours, theirs = socket.socketpair()
    with contextlib.suppress(OSError):  # more than this system gives
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _HELD_BYTES)
    try:
        process = subprocess.Popen(
            given,
            bufsize=0,
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=not asks,
        )
    except OSError as error:
        found = StoreError(
            f"cannot reach {name}: {words[0]!r} cannot be started ({error.strerror}): install the OpenSSH client, or "
            f"say with rsh= or {VARIABLE} which to use",
            store=name,
        )
        found.errno = error.errno
        ours.close()
        raise found from error
    finally:
        theirs.close()
    return Connection(process, ours, name, address.destination, asks=asks, timeout=timeout)


def client_words(rsh: str | None) -> list[str]:
    """Return the words of the SSH client that was asked for, by option or by environment.

    Raises
    ------
    StoreURLError
        If a shell could not split it, or it is empty.
    """
    given = rsh if rsh is not None else os.environ.get(VARIABLE) or "ssh"
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise StoreURLError(f"the SSH client (rsh=, {VARIABLE}) cannot be split into words: {error}") from None
    if not words:
        raise StoreURLError("the SSH client is empty: write rsh='ssh', or leave it out")
    words[0] = os.path.expanduser(words[0])
    return words


def _has_terminal() -> bool:
    """Tell whether the client may ask on a terminal: only the foreground process may."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _options(words: tuple[str, ...], address: Address, asks: bool, connect_timeout: float) -> list[str]:
    where = [*(["-l", address.user] if address.user is not None else [])]
    where += ["-p", str(address.port)] if address.port is not None else []
    if not any(os.path.basename(word) == "ssh" for word in words):
        return where
    configured = _configured.get().of(words, (*where, address.host))
    options = {"ClearAllForwardings": "yes"}  # those of the user's own sessions, whose ports may be taken
    if not asks:
        options["BatchMode"] = "yes"
    if configured.get("connecttimeout", "none") == "none":
        options["ConnectTimeout"] = str(max(1, round(connect_timeout)))
    if configured.get("serveraliveinterval", "0") == "0":
        options |= {"ServerAliveInterval": str(_ALIVE_SECONDS), "ServerAliveCountMax": "3"}
    if configured.get("remotecommand", "none") != "none":
        options["RemoteCommand"] = "none"
    ciphers = configured.get("ciphers", "")
    if ciphers.startswith(_USUAL_CIPHERS):
        rest = [each for each in ciphers.split(",") if each != _PREFERRED]
        options["Ciphers"] = ",".join([_PREFERRED, *rest])
    settings = [part for option, value in options.items() for part in ("-o", f"{option}={value}")]
    return ["-T", "-x", "-a", *settings, *where]


class _Configured:
    """What is configured for the machines that this process has asked for."""

    def __init__(self) -> None:
        self.of = functools.lru_cache(64)(_ask_configuration)


_configured: PerProcess[_Configured] = PerProcess(_Configured)


def _ask_configuration(words: tuple[str, ...], where: tuple[str, ...]) -> Mapping[str, str]:
    """Ask the client what it would do there; nothing, if it is too old to tell."""
    try:
        done = subprocess.run(
            [*words, "-G", *where], stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (line.partition(" ") for line in done.stdout.decode(errors="replace").splitlines())
    return {name: value for name, _, value in lines}


class Connection:
    """A client that is running, and the way to it and back. One thread may read while others write, one at a time.

    Attributes
    ----------
    name
        The store, as errors name it.
    asks
        Whether the client may ask the user something before it connects, so that it may take its time.
    timeout
        Seconds that a write waits.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], ours: socket.socket, name: str, host: str, *, asks: bool, timeout: float
    ) -> None:
        self.name, self.asks, self.timeout = name, asks, timeout
        self._process, self._host = process, host
        assert process.stdout is not None
        assert process.stderr is not None
        self._ours, self._out = ours, process.stdout.fileno()
        _widen(self._out)
        ours.settimeout(timeout)
        self._said = _Said(process.stderr)
        self._closed = False
        self._end = weakref.finalize(self, _end, process, ours, system.own_number(), not asks)
        threading.Thread(target=self._said.listen, name="emdstore-ssh", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, here or by a write that failed."""
        return self._closed

    @property
    def descriptors(self) -> tuple[int, int]:
        """What to read from and to write to, for whoever reads and writes without the methods of this class."""
        return self._out, self._ours.fileno()

    @property
    def said(self) -> str:
        """What the client, and the program over there, wrote to their standard error: the beginning and the end."""
        return self._said.text()

    def forget_said(self) -> None:
        """Forget what was said so far, such as banners, because it explains no later error."""
        self._said.forget()

    def read(self, size: int) -> bytes:
        """Return some bytes from the other side, ``b""`` when no more come; waits as long as it takes."""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(memoryview(buffer))])

    def read_into(self, buffer: memoryview) -> int:
        """Read like `read`, into a buffer; return how many bytes it was."""
        try:
            count = os.readv(self._out, [buffer])
        except OSError:
            count = 0
        if not count and self._out >= 0:
            self._out = -1
            assert self._process.stdout is not None
            self._process.stdout.close()  # here, since nobody may close what another thread reads
        return count

    def write(self, *parts: bytes | memoryview) -> None:
        """Send bytes, all of them; if that fails or is interrupted, the connection is of no more use, and closed.

        Raises
        ------
        EmdstoreError
            See `error`.
        """
        try:
            self._write([memoryview(part) for part in parts if len(part)])
        except BaseException as error:
            if isinstance(error, OSError) and not isinstance(error, EmdstoreError):
                translated = self.error("write to")
                self.close()
                raise translated from None
            self.close()
            raise

    def _write(self, parts: list[memoryview]) -> None:
        while parts:
            try:
                sent = self._ours.sendmsg(parts[:64])
            except TimeoutError:
                raise StoreUnavailableError(
                    f"cannot write to {self.name}: the other side takes nothing for {self.timeout:g} seconds; try "
                    "again, or with a longer timeout",
                    store=self.name,
                ) from None
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def error(self, doing: str) -> EmdstoreError:
        """Return the error for a connection that has ended: what the client said, and what it means.

        Parameters
        ----------
        doing
            What was being done to the store, such as ``"write to"``.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_TO_SAY)
        self._said.settle()
        return error_of_client(self.name, self._host, self.said, self._process.returncode, doing=doing)

    @property
    def exit_code(self) -> int | None:
        """What the client ended with, after a moment's patience; None if it runs. 255 is its own failure."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_TO_SAY)
        self._said.settle()
        return self._process.returncode

    def close(self) -> None:
        """End the client, and with it what runs over there; to call it again does no harm."""
        self._closed = True
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()


def _end(process: subprocess.Popen[bytes], ours: socket.socket, owner: int, has_group: bool) -> None:
    """Close the way to the client, wait a moment for the client to say goodbye, and end what is left of it.

    In a fork nothing is ended: the client is the parent's.
    """
    if system.own_number() != owner:
        return
    with contextlib.suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)  # also ends what another thread writes, or a fork has open
    ours.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number) if has_group else process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TO_END)
            break


def _widen(fd: int) -> None:
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _HELD_BYTES)


class _Said:
    """What a client writes to its standard error, bounded."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._first, self._last = b"", b""
        self._lock = threading.Lock()
        self._over = threading.Event()

    def listen(self) -> None:
        with contextlib.suppress(OSError), self._source:
            while data := os.read(self._source.fileno(), 4096):
                with self._lock:
                    room = _KEPT - len(self._first)
                    self._first += data[:room]
                    self._last = (self._last + data[room:] if len(data) > room else self._last)[-_KEPT:]
        self._over.set()

    def forget(self) -> None:
        with self._lock:
            self._first = self._last = b""

    def settle(self) -> None:
        """Wait a moment for the rest. A connection that is shared may keep the pipe open for ever."""
        self._over.wait(0.2)

    def text(self) -> str:
        with self._lock:
            return (self._first + self._last).decode(errors="replace")
