"""The connections of a store by SSH: opened when they are needed, kept, and opened anew when they were cut."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from emdstore.errors import EmdstoreError, StoreAccessError, StoreUnavailableError
from emdstore.per_process import PerProcess
from emdstore.stores.local.root import Durability
from emdstore.stores.ssh.address import Address
from emdstore.stores.ssh.connection import SFTP, open_connection
from emdstore.stores.ssh.farend import RECEIVE, FarEnd, NoProgramError
from emdstore.stores.ssh.sftp import Sftp
from emdstore.stores.ssh.side import FAR_SECONDS, FarSide

MOST_CONNECTIONS = 4

_TO_ANSWER = 300.0
"""Seconds for somebody at a terminal to answer what the client asks."""

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


@attrs.frozen
class Way:
    """How a machine is reached; what `SSHArtifactStore` was opened with.

    Attributes
    ----------
    address
        Whom to reach; the root in it is of no account here.
    rsh, timeout, connect_timeout, durability, connections
        See `SSHArtifactStore`.
    """

    address: Address
    rsh: str | None
    timeout: float
    connect_timeout: float
    durability: Durability
    connections: int | None


def lines_of(way: Way, name: str) -> Lines:
    """Return this process' connections to a folder: shared by stores that are opened alike.

    They are closed when no store is left that uses them.
    """
    return _all.get().setdefault((way, name), Lines(way, name))


class Lines:
    """The connections of one process to one folder.

    Parameters
    ----------
    way
        How to get there.
    name
        The store, as errors name it.
    """

    def __init__(self, way: Way, name: str) -> None:
        self._way, self._name = way, name
        self._open: list[FarSide] = []
        weakref.finalize(self, _close, self._open)
        self._opening = threading.Lock()
        self._begun: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._used: dict[FarSide, int] = {}
        self._has_another = False
        self._without_program = False
        self._changing = threading.Lock()

    @property
    def run_program(self) -> bool:
        """Whether the program runs over there; False also if that cannot be found out now."""
        try:
            with self.taken() as side:
                return isinstance(side, FarEnd)
        except EmdstoreError:
            return False  # whoever asks for something hears why

    def begin(self) -> None:
        """Begin to open a connection, if there is none. The first request waits for it, and raises its error."""
        with self._changing:
            if self._open or (self._begun is not None and self._begun.is_alive()):
                return
            self._failed = None
            self._begun = threading.Thread(target=self._begin, name="emdstore-ssh", daemon=True)
            self._begun.start()

    def _begin(self) -> None:
        try:
            side = self._connect()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._failed = error
            return
        with self._changing:
            self._open.append(side)
            self._has_another = False

    def call(self, ask: Callable[[FarSide], Result], *, again: bool = True) -> Result:
        """Ask over one of the connections.

        Parameters
        ----------
        ask
            What to ask.
        again
            Whether to ask once more if it turns out that a connection that was kept had been cut.
        """
        was_kept = bool(self._open)
        with self.taken() as side:
            try:
                return ask(side)
            except StoreUnavailableError as error:
                if not (again and was_kept and side.is_cut) or error.errno == errno.ETIMEDOUT:
                    raise
        with self.taken() as side:
            return ask(side)

    @contextlib.contextmanager
    def taken(self) -> Iterator[FarSide]:
        """Return one of the connections for the time of a block."""
        side = self._take()
        try:
            yield side
        finally:
            self._give_back(side)

    def _take(self) -> FarSide:
        """Return the connection that has least to do."""
        with self._changing:
            self._open[:] = [side for side in self._open if not side.is_cut]
            side = min(self._open, key=lambda each: self._used.get(each, 0), default=None)
            wants_more = False
            if side is not None:
                self._used[side] = self._used.get(side, 0) + 1
                wants_more = self._used[side] > 1 and not self._has_another and len(self._open) < self._most(side)
                self._has_another |= wants_more
        if side is None:
            return self._take_new()
        if wants_more:
            threading.Thread(target=self._add, name="emdstore-ssh", daemon=True).start()
        return side

    def _give_back(self, side: FarSide) -> None:
        """Take note that one of those who use a connection is done."""
        with self._changing:
            self._used[side] -= 1
            if not self._used[side]:
                del self._used[side]

    def close(self) -> None:
        """Close all connections; the next call opens another."""
        with self._changing:
            sides = list(self._open)
            self._open.clear()
        _close(sides)

    def _most(self, side: FarSide) -> int:
        if self._way.connections is not None:
            return min(self._way.connections, MOST_CONNECTIONS)
        return 2 if side.round_trip > FAR_SECONDS else 1

    def _take_new(self) -> FarSide:
        with self._opening:
            begun, self._begun = self._begun, None
            if begun is not None:
                begun.join()
                failed, self._failed = self._failed, None
                if failed is not None:
                    raise failed
            with self._changing:
                if self._open and not self._open[0].is_cut:  # another thread has just opened it
                    side = self._open[0]
                    self._used[side] = self._used.get(side, 0) + 1
                    return side
            side = self._connect()
            with self._changing:
                self._open.append(side)
                self._used[side] = 1
                self._has_another = False
            return side

    def _add(self) -> None:
        """Open one more connection, beside those that are in use; without it they go on as they did."""
        try:
            side = self._connect()
        except EmdstoreError as error:
            _log.info("no further connection to %s: %s", self._name, error)
            return
        with self._changing:
            self._open.append(side)
            self._has_another = len(self._open) >= self._most(side)

    def _connect(self) -> FarSide:
        way = self._way
        if way.address.scheme == "sftp" or self._without_program:
            return self._connect_sftp()
        connection = open_connection(
            way.address,
            RECEIVE,
            name=self._name,
            rsh=way.rsh,
            timeout=way.timeout,
            connect_timeout=way.connect_timeout,
        )
        patience = _TO_ANSWER if connection.asks else way.connect_timeout + way.timeout
        try:
            return FarEnd(
                connection,
                way.address.root,
                self._name,
                durability=way.durability,
                timeout=way.timeout,
                patience=patience,
            )
        except NoProgramError as error:
            why = error
        except BaseException:
            connection.close()
            raise
        try:
            side = self._connect_sftp()
        except StoreUnavailableError:
            raise
        except EmdstoreError as error:
            raise StoreAccessError(
                f"cannot open {self._name}: the machine lets you in, and offers neither Python 3.6 ({why}) nor SFTP; "
                "the account may be limited to other uses, as by rrsync, git-shell or scponly: ask its operators",
                store=self._name,
            ) from error
        self._without_program = True
        _log.warning("%s is used by SFTP, since no program runs there: %s; sftp:// says so at once", self._name, why)
        return side

    def _connect_sftp(self) -> FarSide:

        way = self._way
        connection = open_connection(
            way.address, SFTP, name=self._name, rsh=way.rsh, timeout=way.timeout, connect_timeout=way.connect_timeout
        )
        opening = _TO_ANSWER if connection.asks else way.connect_timeout + way.timeout
        try:
            return Sftp(connection, way.address.root, self._name, way.durability, patience=way.timeout, opening=opening)
        except BaseException:
            connection.close()
            raise


def _close(sides: list[FarSide]) -> None:
    for side in sides:
        side.close()


_all: PerProcess[weakref.WeakValueDictionary[tuple[Way, str], Lines]] = PerProcess(weakref.WeakValueDictionary)
