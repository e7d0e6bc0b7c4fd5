"""Replaying a results store repeatedly, until somebody ends it."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from emdstore import system
from emdstore.cli.exit_codes import INTERRUPTED, OK, WRONG_CALL, exit_code
from emdstore.cli.options import Output, WrongCallError
from emdstore.cli.render import counts_text, note, say, show_document, sum_up
from emdstore.errors import CatalogVersionError, EmdstoreError
from emdstore.ingestion.replay_report import ReplayInterrupted, ReplayReport


def watch(
    replay_once: Callable[[], ReplayReport],
    seconds: float,
    output: Output,
    *,
    accept_left_out: bool = False,
    command: str = "replay",
    reloads: bool = False,
) -> int:
    """Replay in rounds until SIGTERM or Ctrl-C, with one line of output for each.

    An unreachable store or database is reported, and tried again in the next round. A wrong call ends it, and so does a
    catalog with another schema, which needs an upgrade.

    Parameters
    ----------
    replay_once
        Does one round; it opens what it needs each time, so that a store that is back is found.
    seconds
        From the end of a round to the start of the next.
    output
        With `json` a line is a JSON document.
    accept_left_out
        Whether a round is a success even if something was left out.
    command
        What it is called in its documents.
    reloads
        Whether SIGHUP begins the next round at once, instead of ending it.

    Returns
    -------
    int
        The exit code: 0 after SIGTERM, the usual end of such a program, 130 after Ctrl-C. The current set was finished
        or rolled back.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise WrongCallError(f"--watch takes a number of seconds above 0, not {seconds:g}")
    rounds = _Rounds(command, seconds, output, accept_left_out)
    with until_told(reloads) as signals:
        try:
            while not signals.came:
                try:
                    rounds.show(replay_once())
                except EmdstoreError as error:
                    if isinstance(error, CatalogVersionError) or (rounds.is_first and exit_code(error) == WRONG_CALL):
                        raise
                    rounds.show_error(error)
                signals.sleep(seconds)
        except ReplayInterrupted as interrupted:
            rounds.show(interrupted.report, interrupted=True)
        except KeyboardInterrupt:
            pass  # between two rounds, or for the second time
    return OK if signals.came else INTERRUPTED


_LONGEST_SLEEP = 1.0


class _Woken(Exception):
    """SIGHUP came while nothing was done."""


class _Signals:
    """What came while it watches."""

    def __init__(self) -> None:
        self.came = False
        self._is_woken = self._sleeps = False

    def end(self, _: int, __: object) -> None:
        self.came = True
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)  # so what defers Ctrl-C defers this
        else:  # ignored, as in the background of a script
            raise KeyboardInterrupt

    def wake(self, _: int, __: object) -> None:
        self._is_woken = True
        if self._sleeps:
            raise _Woken

    def sleep(self, seconds: float) -> None:
        """Wait for the next round, unless it was asked for at once."""
        try:
            self._sleeps = True
            machine = system.current()
            end = machine.monotonic() + seconds
            # A signal that comes just before a sleep begins is seen only when that ends, so none is long.
            while not self._is_woken and (left := end - machine.monotonic()) > 0:
                machine.sleep(min(left, _LONGEST_SLEEP))
        except _Woken:
            pass  # the next round begins
        finally:
            self._sleeps = self._is_woken = False


@contextmanager
def until_told(reloads: bool = False) -> Iterator[_Signals]:
    """Treat SIGTERM like Ctrl-C, and remember that it came; have SIGHUP begin the next round, if it is to."""
    signals = _Signals()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, signals.end)}
    if reloads and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signals.wake)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rounds:
    def __init__(self, command: str, seconds: float, output: Output, accept_left_out: bool) -> None:
        self.is_first, self._command = True, command
        self._seconds, self._json, self._accept_left_out = seconds, output.json, accept_left_out
        self._told: set[tuple[str, str]] = set()

    def show(self, report: ReplayReport, *, interrupted: bool = False) -> None:
        self.is_first = False
        if self._json:
            ok = (report.ok or (self._accept_left_out and not report.failed)) and not interrupted
            self._show(self._command, report.as_dict() | {"interrupted": interrupted}, ok)
            return
        sum_up(_timed(f"{counts_text(report.counts)}; {report.seconds:.1f} s{', interrupted' if interrupted else ''}"))
        sys.stdout.flush()
        failures = {(each.fragment, str(each.error)): str(each.state) for each in report.failures}
        failures |= {(each.name, each.reason): "left out" for each in report.left_out}
        for (fragment, error), state in failures.items():
            if (fragment, error) not in self._told:
                note(f"{state}  {fragment}: {error}", style="red")
        self._told = set(failures)

    def show_error(self, error: EmdstoreError) -> None:
        if self._json:
            about = {"type": type(error).__name__, "message": str(error), "key": error.key, "store": error.store}
            self._show("error", {"error": about}, False)
        else:
            say(_timed(f"not replayed: {error}; trying again in {self._seconds:g} s"), style="red")
            sys.stdout.flush()

    def _show(self, schema: str, document: dict[str, Any], ok: bool) -> None:
        show_document(schema, {"time": system.current().now()} | document, 0 if ok else 1, one_line=True)
        sys.stdout.flush()


def _timed(text: str) -> str:
    return f"{system.current().now():%Y-%m-%dT%H:%M:%SZ}  {text}"
