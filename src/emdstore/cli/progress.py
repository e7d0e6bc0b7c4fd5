"""What is shown while work goes on: a line on a terminal, a line a minute elsewhere, events with `--json-lines`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import attrs

from emdstore import system
from emdstore.cli.manners import manners
from emdstore.cli.render import console_of, note, printable, show_event, size_text
from emdstore.transfers import TransferProgress

_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_IF_ASKED = 10.0
_SECONDS_BETWEEN_EVENTS = 1.0
_DRAWN_SECONDS = 0.1
_RATE_SECONDS = 30.0
_WIDE_ENOUGH_FOR_A_BAR = 100
_LEAST_OF_A_NAME = 12


@attrs.frozen
class Stand:
    """How far something is.

    Attributes
    ----------
    label
        What is done: the command.
    done, total
        How much; the total is None until it is known.
    amount
        Writes such a number for people.
    name
        What was done last: a set.
    rate
        How much is done in a second.
    """

    label: str
    done: float
    total: float | None
    amount: Callable[[float], str]
    name: str = ""
    rate: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """The seconds left at this rate; None if unknown."""
        return None if self.total is None or not self.rate else max(0.0, self.total - self.done) / self.rate

    def text(self, width: int) -> str:
        """Return as much of it as fits in a line: first the share, the rate and the remaining time."""
        share = f"{100 * self.done / self.total:.0f}%" if self.total else None
        so_far = (
            self.amount(self.done) if self.total is None else f"{self.amount(self.done)} of {self.amount(self.total)}"
        )
        left = self.seconds_left
        eta = None if left is None else f"{timedelta(seconds=round(left))} left"
        rate = f"{self.amount(self.rate)}/s" if self.rate else None
        parts = [(0, self.label), (1, share), (4, so_far), (2, rate), (3, eta)]
        chosen = [(rank, part) for rank, part in parts if part]
        while len(chosen) > 1 and len("  ".join(part for _, part in chosen)) > width:
            chosen.remove(max(chosen))
        line = "  ".join(part for _, part in chosen)
        room = width - len(line) - 2
        if self.name and room >= min(len(self.name), _LEAST_OF_A_NAME):
            line += "  " + (self.name if len(self.name) <= room else "…" + self.name[1 - room :])
        return line[:width]


class _Rate:
    """How much was done in a second of late: what was there before says nothing about the rest."""

    def __init__(self) -> None:
        self._seen = deque([(system.current().monotonic(), 0.0)])

    def of(self, done: float) -> float:
        now = system.current().monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[0][0] < now - _RATE_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return max(0.0, done - before) / (now - since) if now > since else 0.0


@contextmanager
def transfer_progress(label: str) -> Iterator[Callable[[TransferProgress], None]]:
    """Show the progress of a transfer during the block."""
    with _progress(label, size_text) as update:

        def show(progress: TransferProgress) -> None:
            total = progress.bytes_planned if progress.complete else None
            about = {"keys_done": progress.keys_done, "keys_planned": progress.keys_planned}
            is_last = progress.complete and progress.keys_done == progress.keys_planned
            name = progress.latest.rpartition("/")[0] or progress.latest
            update(progress.bytes_done, total, name, about, is_last)

        yield show


@contextmanager
def set_progress(label: str) -> Iterator[Callable[[object, int, int | None], None]]:
    """Show how many sets are done during the block."""
    with _progress(label, lambda count: f"{count:.3g}" if count < 1 else f"{count:.0f}") as update:

        def show(outcome: object, done: int, total: int | None) -> None:
            name = outcome if isinstance(outcome, str) else getattr(outcome, "fragment", "")
            state = getattr(outcome, "state", None)
            if manners().lines and state is not None and state != "unchanged":
                show_event(label, "set", {"fragment": name, "state": state, "error": getattr(outcome, "error", None)})
            update(done, total, str(name), {}, done == total)

        yield show


Update = Callable[[float, float | None, str, dict[str, Any], bool], None]


@contextmanager
def _progress(label: str, amount: Callable[[float], str]) -> Iterator[Update]:
    how, rate = manners(), _Rate()
    if how.lines:
        with _each(_SECONDS_BETWEEN_EVENTS, at_once=True) as is_due:

            def tell(done: float, total: float | None, name: str, about: dict[str, Any], is_last: bool) -> None:
                speed = rate.of(done)
                if is_due(is_last):
                    left = Stand(label, done, total, amount, name, speed).seconds_left
                    said = {"done": done, "total": total, "per_second": round(speed, 3), "seconds_left": left}
                    show_event(label, "progress", said | {"latest": name} | about)

            yield tell
    elif how.progress is False or (how.progress is None and how.quiet):
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _on_terminal(label, amount, rate) as draw:
            yield draw
    else:
        with _each(_SECONDS_IF_ASKED if how.progress else _SECONDS_BETWEEN_LINES) as is_due:

            def say_it(done: float, total: float | None, name: str, about: dict[str, Any], is_last: bool) -> None:
                speed = rate.of(done)
                if is_due(False):
                    note(Stand(label, done, total, amount, name, speed).text(10_000), always=True)

            yield say_it


@contextmanager
def _each(seconds: float, *, at_once: bool = False) -> Iterator[Callable[[bool], bool]]:
    told = system.current().monotonic() - (seconds if at_once else 0.0)

    def is_due(is_last: bool) -> bool:
        nonlocal told
        now = system.current().monotonic()
        if now - told < seconds and not is_last:
            return False
        told = now
        return True

    yield is_due


@contextmanager
def _on_terminal(label: str, amount: Callable[[float], str], rate: _Rate) -> Iterator[Update]:
    from rich.progress import BarColumn, Progress, TextColumn

    err = console_of(sys.stderr)
    bars = [BarColumn()] if err.width >= _WIDE_ENOUGH_FOR_A_BAR else []
    # Drawn from this thread, because a process with several threads cannot fork workers.
    text = TextColumn("{task.description}", markup=False)
    with Progress(*bars, text, console=err, transient=True, auto_refresh=False) as shown:
        task = shown.add_task(label, total=None)
        with _each(_DRAWN_SECONDS, at_once=True) as is_due:

            def draw(done: float, total: float | None, name: str, about: dict[str, Any], is_last: bool) -> None:
                speed = rate.of(done)
                if is_due(is_last):
                    room = err.width - (43 if bars else 1)
                    line = printable(Stand(label, done, total, amount, name, speed).text(room))
                    shown.update(task, completed=done, total=total, description=line, refresh=True)

            yield draw
