"""Many requests to one SFTP server at once.

To ask and wait, one request after the other, is what makes SFTP slow: a small file takes eight requests, and each
answer takes a round trip. So what is to be done is written as *steps*: a generator that yields what it asks, one
request or a list of them, and is sent the answers. Many such are under way at a time, of as many threads as like. A
thread wakes up once for all the steps of an artifact: one thread of the client hears the answers and takes the next
step with each.

That thread never waits for the server to take something: both pipes are non-blocking. Otherwise it would wait for a
server that waits for it to read.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import math
import os
import select
import threading
from collections.abc import Generator, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from emdstore import system
from emdstore.errors import EmdstoreError, StoreError, StoreUnavailableError
from emdstore.keys import shown_name
from emdstore.stores.ssh.errors import meaning_of
from emdstore.stores.ssh.sftp import wire
from emdstore.stores.ssh.sftp.wire import Answer, Packet, Request, WireError

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that a server may be silent during a request."""

_MOST_PATIENCE = 600.0
"""The same while it flushes something: a slow disk takes long for that, and the server does nothing else meanwhile."""

_MOST_TASKS = 256
_RECEIVED = 256 * 1024
_BUFFERS = 256  # at most so many go to the system at once
_CLEAN_UP = 1.0
_NOTICE = 0.5  # Python does not wake a wait for a signal that came right before it
_PAUSE = 0.005
_TICK = 10.0
_SMALL = 32 * 1024  # what every server reads and writes at once
_LARGEST = 255 * 1024  # what OpenSSH does, and enough


class Pipes(Protocol):
    """What a client needs of a connection: two pipes, and why it ended."""

    @property
    def asks(self) -> bool:
        """Whether it may ask the user something before it is there, so that it may take its time."""
        ...

    @property
    def descriptors(self) -> tuple[int, int]:
        """The descriptors to read from and to write to; the client makes both non-blocking."""
        ...

    def error(self, doing: str) -> EmdstoreError:
        """Return why the connection has ended, while something was being done to the store; ``"open"`` at first."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Lost(Exception):
    """The connection ended, or made no sense.

    Attributes
    ----------
    cause
        Which of both, and why.
    """

    def __init__(self, cause: EmdstoreError) -> None:
        super().__init__(str(cause))
        self.cause = cause

    def of(self, key: str | None) -> EmdstoreError:
        """Return the error for somebody who waits: each raises one of its own."""
        error = type(self.cause)(str(self.cause), key=key or None, store=self.cause.store)
        if isinstance(error, OSError):
            error.errno = getattr(self.cause, "errno", None)
        return error


class GivenUpError(Exception):
    """Thrown into steps whose caller was interrupted, to clean up.

    Attributes
    ----------
    answers
        What the server answered to what was asked last.
    """

    def __init__(self, answers: list[Any]) -> None:
        super().__init__("given up")
        self.answers = answers


class Task(Generic[T]):
    """Steps that are under way."""

    __slots__ = ("_error", "_finished", "_is_left", "_value", "answers", "given_up", "is_single", "missing", "steps")

    def __init__(self, steps: Steps[T]) -> None:
        self.steps = steps
        self.answers: list[Any] = []
        self.missing = 0
        self.is_single = False
        self.given_up = self._is_left = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._finished = threading.Lock()
        self._finished.acquire()

    def result(self) -> T:
        """Wait until the steps are done; return or raise what came of them.

        If the waiting is interrupted, they clean up after themselves.
        """
        try:
            while not self._finished.acquire(timeout=_NOTICE):
                pass
        except BaseException:
            self.leave()
            raise
        self._finished.release()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # the frame and the error would keep each other alive
        value: T = self._value
        return value

    def leave(self) -> None:
        """Have the steps clean up after themselves if they have not ended, and wait for that, but not for long."""
        if not self._is_left:
            self._is_left = self.given_up = True
            if self._finished.acquire(timeout=_CLEAN_UP):
                self._finished.release()

    @property
    def is_done(self) -> bool:
        """Whether nobody has to wait."""
        return not self._finished.locked()

    def finish(self, value: T) -> None:
        """Note what came of it."""
        self._value = value
        self._finished.release()

    def fail(self, error: BaseException) -> None:
        """Note that nothing did."""
        self._error = error
        self._finished.release()


class Gate:
    """Where steps wait for what others of the same client are about to find out."""

    def __init__(self) -> None:
        self._held: list[Task[Any]] | None = []
        self._lock = threading.Lock()

    def hold(self, task: Task[Any]) -> bool:
        """Have steps wait; False if the gate is open."""
        with self._lock:
            if self._held is None:
                return False
            self._held.append(task)
            return True

    def release(self) -> list[Task[Any]]:
        """Open the gate for good; return the steps that wait."""
        with self._lock:
            held, self._held = self._held or [], None
            return held


Steps: TypeAlias = Generator[Request | Sequence[Request] | Gate, Any, T]
"""What asks and is answered: yields one request and is sent its answer, or several, and is sent a list of answers."""


class Client:
    """A connection to an SFTP server, for all threads of a process.

    Parameters
    ----------
    pipes
        The connection; the client closes it.
    name
        The store, as errors name it.
    patience
        Seconds that the server may be silent while something is asked of it.
    opening
        Seconds that it may take to greet.

    Raises
    ------
    EmdstoreError
        If the connection ends before the server greets, or what comes is no greeting of SFTP.
    """

    def __init__(self, pipes: Pipes, name: str, *, patience: float = PATIENCE, opening: float = 2 * PATIENCE) -> None:
        self._pipes, self._name, self._patience = pipes, name, patience
        self._in, self._out = pipes.descriptors
        for each in (self._in, self._out):
            os.set_blocking(each, False)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[Task[Any] | None, int, Request]] = {}
        self._unsent: collections.deque[bytes | memoryview] = collections.deque()
        self._sending = threading.Lock()
        self._is_stuck = False  # whether the thread is to send the rest when the server takes it
        self._lost: EmdstoreError | None = None
        self._closing = self._ended = False
        self._owner = system.own_number()
        self._failing = threading.Lock()
        self._room = threading.BoundedSemaphore(_MOST_TASKS)
        self.extensions: dict[str, str] = {}
        self.most_read = self.most_written = _SMALL
        self._heard = system.current().monotonic()
        self._splitter = wire.Splitter()
        try:
            early = self._greet(math.inf if pipes.asks else opening)
        except BaseException:
            self._end()
            raise
        self._thread = threading.Thread(target=self._run, args=(early,), name="emdstore-sftp", daemon=True)
        self._thread.start()
        if wire.LIMITS in self.extensions:
            self._ask_for_limits()

    # -- asking ----------------------------------------------------------------------------------------------------

    def run(self, steps: Steps[T]) -> T:
        """Take steps, and wait for the end of them; if that is interrupted, they clean up after themselves."""
        task = Task(steps)
        try:
            return self._begin(task).result()
        except BaseException:  # perhaps before it waited
            task.leave()
            raise

    def start(self, steps: Steps[T]) -> Task[T]:
        """Begin to take steps. Waits while very many are under way."""
        return self._begin(Task(steps))

    def _begin(self, task: Task[T]) -> Task[T]:
        self._room.acquire()
        self._advance(task, None)
        self._send()
        return task

    def ask(self, request: Request) -> Task[Any]:
        """Begin to ask one thing."""
        return self.start(_once(request))

    def post(self, request: Request) -> None:
        """Ask something whose answer is of no account, from steps or from anywhere."""
        self._put(request, None, 0)
        if threading.current_thread() is not self._thread:  # which sends what it has when it has heard all there is
            self._send()

    def _put(self, request: Request, task: Task[Any] | None, position: int) -> None:
        number = next(self._numbers) & 0xFFFFFFFF
        if not self._asked:  # until now it had no reason to say anything
            self._heard = system.current().monotonic()
        self._asked[number] = task, position, request
        packet = wire.framed(request, number)
        if request.data:
            self._unsent.extend((packet, request.data))  # at once: what another thread asks may not come between
        else:
            self._unsent.append(packet)

    def _advance(self, task: Task[Any], answer: Any) -> None:
        """Take the next step: first in the caller's thread, then in the client's."""
        while True:
            try:
                if self._lost is not None:
                    task.steps.close()
                    raise Lost(self._lost)
                if task.given_up:
                    task.given_up = False
                    asked = task.steps.throw(GivenUpError(task.answers))
                else:
                    asked = task.steps.send(answer)
            except StopIteration as stop:
                self._room.release()
                task.finish(stop.value)
                return
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self._room.release()
                task.fail(error)
                return
            if isinstance(asked, Request):
                task.is_single, task.missing, task.answers = True, 1, [None]
                self._put(asked, task, 0)
                return
            if isinstance(asked, Gate):
                if asked.hold(task):
                    return
                answer = None
                continue
            task.is_single, task.missing, task.answers = False, len(asked), [None] * len(asked)
            for position, request in enumerate(asked):
                self._put(request, task, position)
            if asked:
                return
            answer = []

    def open(self, gate: Gate) -> None:
        """Open a gate for those who wait at it, and for all who come later."""
        for task in gate.release():
            self._advance(task, None)

    def _send(self) -> None:
        """Hand over what there is, as far as the server takes it now; the thread does the rest."""
        if self._lost is not None:
            self._fail_all()
            return
        with self._sending:
            if self._is_stuck or self._ended:
                return
            self._is_stuck = not self._flush()
            is_stuck = self._is_stuck
        if is_stuck and threading.current_thread() is not self._thread:
            self._wake_up()

    def _flush(self) -> bool:
        """Write until all is written, or no more is taken; return whether all is."""
        unsent = self._unsent
        while unsent:
            buffers = first_of(unsent, _BUFFERS)
            try:
                written = os.writev(self._out, buffers)
            except BlockingIOError:
                return False
            except OSError:  # the thread will read why
                unsent.clear()
                return True
            for buffer in buffers:
                if written < len(buffer):
                    unsent[0] = memoryview(buffer)[written:]
                    break
                written -= len(buffer)
                unsent.popleft()
        return True

    def _wake_up(self) -> None:
        with self._sending, contextlib.suppress(BlockingIOError):  # it is awake
            if not self._ended:
                os.write(self._wake, b"!")

    # -- hearing ---------------------------------------------------------------------------------------------------

    def _greet(self, seconds: float) -> list[memoryview]:
        """Exchange versions; return what came after."""
        with contextlib.suppress(OSError):  # what is read next tells why
            os.write(self._out, wire.first_packet())
        until = system.current().monotonic() + seconds
        packets: list[memoryview] = []
        version, begun = wire.VERSION, b""
        while not packets:
            left = until - system.current().monotonic()
            if left <= 0:
                raise self._silence(seconds)
            if not _is_readable(self._in, min(left, _TICK)):
                continue
            data = self._read("open")
            begun = (begun + data)[:200]
            try:
                packets = self._splitter.feed(data)
                version, self.extensions = wire.decode_version(packets[0]) if packets else (wire.VERSION, {})
            except WireError as error:
                raise self._no_greeting(begun, error) from None
        if version != wire.VERSION:
            raise StoreError(
                f"cannot use {self._name}: its server speaks version {version} of SFTP, and version 3 is needed",
                store=self._name,
            )
        return packets[1:]

    def _no_greeting(self, begun: bytes, error: WireError) -> StoreError:
        said = shown_name(begun.decode("utf-8", "replace").strip())[:100]
        if (meaning := meaning_of(said)) is not None and meaning.kind is not StoreUnavailableError:
            return meaning.kind(f"cannot open {self._name}: {said}; {meaning.advice}", store=self._name)
        return StoreError(
            f"cannot use {self._name}: what comes first is no greeting of SFTP but {said!r} ({str(error)[:60]}); if "
            "that is a message of the account's shell, have its start-up files print nothing without a terminal",
            store=self._name,
        )

    def _silence(self, seconds: float) -> StoreUnavailableError:
        error = StoreUnavailableError(
            f"{self._name} has not answered for {seconds:.0f} seconds; try again later, or with a longer timeout",
            store=self._name,
        )
        error.errno = errno.ETIMEDOUT
        return error

    def _ask_for_limits(self) -> None:
        try:
            answer = self.ask(wire.limits()).result()
        except Lost as lost:
            raise lost.of(None) from lost.cause
        if isinstance(answer, wire.Reply):
            limits = wire.limits_of(answer)
            self.most_read = min(limits.read or _SMALL, _LARGEST)
            self.most_written = min(limits.write or _SMALL, _LARGEST)

    def _run(self, early: Sequence[Packet]) -> None:
        try:
            for packet in early:
                self._take(packet)
            self._listen()
        except EmdstoreError as error:
            self._lost = error
        except WireError as error:
            self._lost = StoreUnavailableError(
                f"{self._name} answers what makes no sense: {error}; the connection was closed, try again",
                store=self._name,
            )
        except BaseException as error:  # noqa: BLE001 - whoever waits has to hear of it
            self._lost = StoreError(f"the connection to {self._name} failed: {error!r}", store=self._name)
        finally:
            if self._lost is None:
                self._lost = StoreUnavailableError(f"the connection to {self._name} was closed", store=self._name)
            self._fail_all()
            self._end()

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._in, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        self._heard = system.current().monotonic()
        waits_to_send = False
        while not self._closing:
            if self._is_stuck != waits_to_send:
                waits_to_send = self._is_stuck
                if waits_to_send:
                    poll.register(self._out, select.POLLOUT)
                else:
                    poll.unregister(self._out)
            ready = poll.poll(min(self._patience, _TICK) * 1000)
            if not ready:
                if not self._asked:
                    self._heard = system.current().monotonic()
                elif (silence := system.current().monotonic() - self._heard) > self._most_patience():
                    raise self._silence(silence)
                continue
            self._heard = system.current().monotonic()
            for descriptor, _ in ready:
                if descriptor == self._in:
                    self._hear()
                elif descriptor == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 1024)
                else:
                    with self._sending:
                        self._is_stuck = not self._flush()

    def _most_patience(self) -> float:
        is_flushing = any(wire.is_flush(request) for _, _, request in list(self._asked.values()))
        return max(self._patience, _MOST_PATIENCE) if is_flushing else self._patience

    def _hear(self) -> None:
        for packet in self._splitter.feed(self._read()):
            self._take(packet)
        if self._unsent:
            self._send()

    def _read(self, doing: str = "go on with") -> bytes:
        try:
            data = os.read(self._in, _RECEIVED)
        except OSError:
            data = b""
        if not data:
            raise self._pipes.error(doing)
        return data

    def _take(self, packet: Packet) -> None:
        number, answer = wire.decode(packet)
        try:
            task, position, _ = self._asked.pop(number)
        except KeyError:
            raise WireError(f"an answer to request {number}, which was not asked") from None
        if task is None:
            return
        task.answers[position] = answer
        task.missing -= 1
        if not task.missing:
            self._advance(task, answer if task.is_single else task.answers)

    # -- the end ---------------------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._lost is not None

    def give_up(self) -> None:
        """Have all that is under way clean up after itself, for a second at most."""
        for task, _, _ in list(self._asked.values()):
            if task is not None:
                task.given_up = True
        until = system.current().monotonic() + _CLEAN_UP
        while self._asked and self._lost is None and system.current().monotonic() < until:
            system.current().sleep(_PAUSE)

    def close(self, *, wait: bool = True) -> None:
        """End the connection. What is still under way fails. In a fork nothing is ended: it is the parent's."""
        if system.own_number() != self._owner:
            return
        self._closing = True
        self._wake_up()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    def _fail_all(self) -> None:
        with self._failing:
            while self._asked:
                with contextlib.suppress(KeyError):
                    task = self._asked.popitem()[1][0]
                    if task is not None and task.missing:
                        task.missing = 0
                        self._advance(task, None)

    def _end(self) -> None:
        with self._sending:  # nobody may write to a descriptor that is another's by then
            self._ended = True
            self._unsent.clear()
            os.close(self._woken)
            os.close(self._wake)
            with contextlib.suppress(Exception):
                self._pipes.close()


def first_of(queue: collections.deque[T], most: int) -> list[T]:
    """Return the first ones of a queue to which other threads append; an iterator over it would fail."""
    return [queue[at] for at in range(min(len(queue), most))]


def _once(request: Request) -> Steps[Answer]:
    answer: Answer = yield request
    return answer


def _is_readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # `select` knows no descriptors beyond 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
