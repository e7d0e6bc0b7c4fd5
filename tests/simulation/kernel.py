"""The scheduler: actors that take turns, step by step, as a schedule says; who is killed, stopped or fails; the clocks.

An actor is library code in a greenlet. At every step, which is a call that leaves the interpreter for a store, the file
system or the database, it may have to hand over. To kill it is never to resume it: its transactions are rolled back
from outside, and when the verdict is in it is unwound with an exception, and nothing that it then still tries has any
effect. Time is the kernel's: it goes on by a little with each step, and by what somebody sleeps.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from greenlet import getcurrent, greenlet

from emdstore import system
from emdstore.executions.process import retire
from emdstore.system import System

EPOCH = datetime(2040, 1, 1, tzinfo=UTC)
"""When a run begins: so late that no time of the real machine is taken for one of it."""

LEASE = 10.0  # short enough that to watch a silent owner takes few steps
STOPPED_SECONDS = 3 * LEASE

_STEP_SECONDS = 1e-4
_MOST_STEPS = 20_000

FAULTS = {
    "kill": 6,
    "stop": 5,
    "before": 3,
    "after": 3,
    "gone": 1,
    "full": 1,
    "stuck": 2,
    "late": 2,
    "ahead": 1,
    "back": 1,
    "cut": 1,
    "cut-results": 1,
    "cut-names": 1,
}
"""What can happen at a step.

``kill``: the actor is never resumed. ``stop``: it sleeps beyond its lease, and goes on when others had their turns.
``before``, ``after``: the operation fails once, without or in spite of its effect. ``gone``: what it asks answers no
more, until its end. ``full``: nothing can be written any more, until its end. ``stuck``: this one operation fails
whenever it is tried. ``late``: a write to a store gets no answer, and is carried out when somebody else has his turn.
``ahead``, ``back``: the clock of its machine jumps by an hour. ``cut``, ``cut-results``, ``cut-names``: the machine has
no power any more, all who run there are killed, and of what was not flushed that is gone; see `Disk.cut`.

Each with how often it is drawn.
"""


class Killed(BaseException):
    """What unwinds an actor that was killed, when nothing that it does counts any more."""


class Deadlock(Exception):
    """Nobody can go on."""


@attrs.define(eq=False)
class _Keeper:
    function: Callable[[], bool]
    seconds: float
    due: float
    context: contextvars.Context


@attrs.define(eq=False)
class Actor:
    """One of those that take turns.

    Attributes
    ----------
    number, name
        Which one it is.
    work
        What it does.
    skew
        By how many seconds its clock is wrong; one with a wrong clock is on another machine.
    """

    number: int
    name: str
    work: Callable[[], object]
    skew: float = 0.0
    has_claims: bool = True
    state: str = "ready"
    steps: int = 0
    budget: float = 0
    wakes: float = 0.0
    value: object = None
    error: BaseException | None = None
    connections: list[sqlite3.Connection] = attrs.field(factory=list)
    keepers: list[_Keeper] = attrs.field(factory=list)
    locks: list[int] = attrs.field(factory=list)
    lasting: str | None = None
    stuck: set[tuple[str, str]] = attrs.field(factory=set)
    to_stop: bool = False
    was_stopped: bool = False
    stopped_at: int = 0
    was_disturbed: bool = False
    lost_catalog: bool = False
    greenlet: Any = None

    @property
    def host(self) -> str:
        return "here" if self.skew == 0 else f"host{self.number}"

    @property
    def process(self) -> str:
        return f"boot-{self.host}:1:{100 + self.number}:1"

    @property
    def may_overrun(self) -> bool:
        """Whether it may write where another does: it was halted, failed by its catalog, or never had a claim."""
        return self.was_stopped or self.was_disturbed or not self.has_claims

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "dead")


class Kernel:
    """One run.

    Parameters
    ----------
    segments
        Turns: an actor's number, and how many steps it may take, or None until it ends or waits for another. When all
        are used up each actor goes on to its end, in their order.
    faults
        What happens at which step of which actor.
    nth
        Of several in one world, which one: no two of them draw the same random numbers.
    """

    def __init__(
        self,
        segments: Sequence[tuple[int, int | None]] = (),
        faults: Mapping[tuple[int, int], str] | None = None,
        *,
        nth: int = 0,
    ) -> None:
        self._segments, self._faults = segments, dict(faults or {})
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.apart: Actor | None = None  # who takes no steps for now
        self.writer: Actor | None = None
        self.clock = 0.0
        self.trace: list[tuple[int, int, str, object, str, bool]] = []
        self._tokens = 1_000_000 * nth
        self._hub = getcurrent()
        self._ran_last: Actor | None = None
        self.stepped: dict[str, float] = {}
        self.landing: list[tuple[Actor, Callable[[], object]]] = []
        self.cut_power: Callable[[str], object] = lambda kind: None

    # -- what actors ask -----------------------------------------------------------------------------------------

    def machine(self, actor: Actor) -> System:
        """Return the machine as an actor sees it."""
        return System(
            now=lambda: self.now(actor),
            monotonic=lambda: self.clock,
            sleep=lambda seconds: self._sleep(actor, seconds),
            token=self._token,
            host=lambda: actor.host,
            whoami=lambda pid: actor.process if pid is None else f"boot-{actor.host}:1:{pid}:1",
            is_alive=lambda process, group=False: self._is_alive(actor, process),
            every=lambda seconds, function, name: self._every(actor, seconds, function),
        )

    def now(self, actor: Actor | None = None) -> datetime:
        """Return the time by an actor's clock; by that of a store if there is none."""
        wrong = 0.0 if actor is None else actor.skew + self.stepped.get(actor.host, 0.0)
        return EPOCH + timedelta(seconds=self.clock + wrong)

    def files_now(self) -> datetime:
        """Return the time of the machine whose files these are."""
        return EPOCH + timedelta(seconds=self.clock + self.stepped.get("here", 0.0))

    def _token(self, size: int) -> str:
        self._tokens += 1
        return hashlib.sha256(str(self._tokens).encode()).hexdigest()[: 2 * size]

    def _is_alive(self, asking: Actor, process: str) -> bool | None:
        if process.partition(":")[0] != f"boot-{asking.host}":
            return None
        return any(each.process == process and not each.is_over for each in self.actors)

    def _every(self, actor: Actor, seconds: float, function: Callable[[], bool]) -> Callable[[], object]:
        keeper = _Keeper(function, seconds, self.clock + seconds, contextvars.copy_context())
        actor.keepers.append(keeper)

        def end() -> None:
            if keeper in actor.keepers:
                actor.keepers.remove(keeper)

        return end

    def _sleep(self, actor: Actor, seconds: float) -> None:
        if self.running() is not actor:
            self.clock += seconds
            return
        if actor.state == "dead":
            raise Killed
        actor.state, actor.wakes = "sleeping", self.clock + max(seconds, 0.001)
        self._hand_over(actor)

    def running(self) -> Actor | None:
        """Return the actor that asks; None for whoever looks on, such as a check, or a thread beside an actor."""
        actor = self.current
        return actor if actor is not None and actor.greenlet is getcurrent() else None

    def step(self, what: str, about: object = "", *, changes: bool = True) -> str | None:
        """Take a step of the running actor, before it is done; return how it fails, if it does."""
        actor = self.running()
        if actor is None:
            return None
        if actor.state == "dead":
            raise Killed
        actor.steps += 1
        self.clock += _STEP_SECONDS
        fault = self._faults.get((actor.number, actor.steps))
        self.trace.append((actor.number, actor.steps, what, about, fault or "", changes))
        if actor.steps > _MOST_STEPS:
            raise Deadlock(f"{actor.name} does not come to an end")
        if fault == "kill":
            self._kill(actor)
            self._hub.switch()
            raise Killed
        if fault == "stop":
            actor.to_stop = True
        if fault is not None and fault.startswith("cut"):
            for each in self.actors:
                if not each.is_over:
                    self._kill(each)
            with self.at_once():
                self.cut_power(fault)
            self._hub.switch()
            raise Killed
        if fault in ("ahead", "back"):
            jump = 3600.0 if fault == "ahead" else -3600.0
            self.stepped[actor.host] = self.stepped.get(actor.host, 0.0) + jump
        if fault in ("before", "after", "gone", "full", "stuck", "late"):
            actor.was_disturbed = True
        if fault == "stuck":
            actor.stuck.add((what, str(about)))
        if fault in ("gone", "full"):
            actor.lasting = fault
        if actor.to_stop and self.writer is not actor:  # in a transaction of SQLite it would stop everybody
            actor.to_stop, actor.was_stopped, actor.stopped_at = False, True, actor.steps
            actor.state = "stopped"
            self._ran_last = actor
            self.advance(STOPPED_SECONDS)
            self._hand_over(actor)
        else:
            actor.budget -= 1
            if actor.budget < 0:
                self._hand_over(actor)
                self.clock += _STEP_SECONDS  # what it does now is later than what others did meanwhile
        is_stuck = bool(actor.stuck) and (what, str(about)) in actor.stuck
        fails = fault in ("before", "after") or actor.lasting in ("gone", "full") or is_stuck
        actor.lost_catalog |= fails and what == "sql"
        if is_stuck or actor.lasting == "gone" or (actor.lasting == "full" and changes):
            return "before"
        return fault if fault in ("before", "after", "late") else None

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Take no steps inside the block: it happens in one go."""
        held, self.current = self.current, None
        self.apart = held
        try:
            yield
        finally:
            self.current = held

    def take_turn_to_write(self) -> None:
        """Wait until nobody else is in a transaction that writes, and be the one who is."""
        actor = self.running()
        if actor is None or actor.state == "dead":
            return
        while self.writer is not None and self.writer is not actor:
            actor.state = "waiting"
            self._hand_over(actor)
        self.writer = actor

    def end_turn_to_write(self, connection: object) -> None:
        if self.writer is not None and (connection is None or connection in self.writer.connections):
            self.writer = None

    def _hand_over(self, actor: Actor) -> None:
        self._hub.switch()
        if actor.state == "dead":
            raise Killed
        actor.state = "ready"

    # -- time ----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, with what has to be done every so often by those who live."""
        until = self.clock + seconds
        held, self.current = self.current, None
        while True:
            due = [
                (keeper.due, actor.number, keeper, actor)
                for actor in self.actors
                if not actor.is_over and actor.state != "stopped"
                for keeper in actor.keepers
                if keeper.due <= until
            ]
            if not due:
                break
            when, _, keeper, actor = min(due, key=lambda each: each[:2])
            self.clock = max(self.clock, when)
            if self.writer is not None:  # it would wait for that one
                keeper.due = self.clock + 1.0
                if keeper.due > until:
                    break
                continue
            keeper.due = self.clock + keeper.seconds
            beside = greenlet(keeper.function, getcurrent())
            beside.gr_context = keeper.context.copy()
            if not beside.switch() and keeper in actor.keepers:
                actor.keepers.remove(keeper)
        self.clock, self.current = max(self.clock, until), held

    # -- the run -------------------------------------------------------------------------------------------------

    def add(self, name: str, work: Callable[[], object], skew: float = 0.0) -> Actor:
        """Add an actor."""
        actor = Actor(len(self.actors), name, work, skew)
        actor.greenlet = greenlet(lambda: self._play(actor), self._hub)
        actor.greenlet.gr_context = contextvars.copy_context()
        self.actors.append(actor)
        return actor

    def _play(self, actor: Actor) -> None:
        with system.using(self.machine(actor)):
            try:
                actor.value = actor.work()
            except Killed:
                return
            except BaseException as error:
                actor.error = error
        if actor.state != "dead":
            actor.state = "done"
            actor.keepers.clear()

    def run(self) -> None:
        """Run all actors to their end."""
        for number, budget in self._segments:
            actor = self.actors[number % len(self.actors)]
            if self._can_run(actor):
                self._give_turn(actor, budget)
            while actor.state == "sleeping" and self.writer is None and (budget is None or actor.budget > 0):
                self.advance(max(0.0, actor.wakes - self.clock))  # meanwhile the others are slow, and live
                self._give_turn(actor, None if budget is None else int(actor.budget))
        while any(not actor.is_over for actor in self.actors):
            ready = [actor for actor in self.actors if self._can_run(actor) and actor.state != "stopped"]
            if ready:
                self._give_turn(ready[0], None)
                continue
            sleeping = [actor.wakes for actor in self.actors if actor.state == "sleeping"]
            if sleeping and self.writer is None:
                self.advance(max(0.0, min(sleeping) - self.clock))
                continue
            stopped = [actor for actor in self.actors if actor.state == "stopped"]
            if stopped:
                self._give_turn(stopped[0], None)
                continue
            raise Deadlock(", ".join(f"{actor.name} is {actor.state}" for actor in self.actors))
        self._land()

    def _land(self, running: Actor | None = None) -> None:
        """Carry out what was sent and got no answer, but what the one sent who goes on."""
        landing, self.landing = self.landing, [each for each in self.landing if each[0] is running]
        for actor, effect in landing:
            if actor is not running:
                effect()

    def _can_run(self, actor: Actor) -> bool:
        if actor.state == "ready":
            return True
        if actor.state == "waiting":
            return self.writer is None
        if actor.state == "sleeping":
            return actor.wakes <= self.clock
        return actor.state == "stopped" and self._ran_last is not actor

    def _give_turn(self, actor: Actor, budget: int | None) -> None:
        if actor.state == "stopped":
            for keeper in actor.keepers:
                keeper.due = self.clock + keeper.seconds
        if self.landing:
            self._land(actor)
        actor.state, actor.budget = "ready", float("inf") if budget is None else budget
        self.current = actor
        try:
            actor.greenlet.switch()
        finally:
            self.current = None
        if actor.state != "stopped":
            self._ran_last = actor

    def _kill(self, actor: Actor) -> None:
        actor.state = "dead"
        actor.keepers.clear()
        for connection in actor.connections:
            try:
                connection.rollback()
                connection.close()
            except sqlite3.Error:
                pass
        for fd in actor.locks:  # as the system does with those of a process that ends
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
        if self.writer is actor:
            self.writer = None

    def unwind(self) -> None:
        """Let those who were killed, or did not end, go; nothing of what they try then has any effect."""
        for actor in self.actors:
            if actor.greenlet is not None and not actor.greenlet.dead:
                self._kill(actor)
                self.current = actor
                try:
                    actor.greenlet.throw(Killed)
                except BaseException:
                    pass
                finally:
                    self.current = None
            actor.greenlet = None


def forget_owners() -> None:
    """Forget which owners of this process are at work: those of actors that were killed never say that they are not."""
    from emdstore.executions import process

    for owner in list(process._at_work):
        retire(owner)
