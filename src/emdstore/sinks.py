"""Where the events of a results store are passed on to: a command, a webhook, a file for Prometheus, or a plugin's.

A sink is made from a target, which is a text, and called with events. Others come from installed packages, by entry
points of the group ``emdstore.sinks``, each a function that takes the target and returns the sink.
"""

from __future__ import annotations

import shlex
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from emdstore.errors import EmdstoreError, SinkError
from emdstore.sets.events import Event, Kind
from emdstore.stores.local import LocalArtifactStore

GROUP = "emdstore.sinks"

Sink: TypeAlias = Callable[[Sequence[Event]], object]
"""Takes events. What it raises says that it took none of them, and they come again; so it may get an event twice."""

_SECONDS = 30.0
_MOST_WAITING = 10_000
_MOST_AT_ONCE = 100


def command(target: str) -> Sink:
    """Return a sink that runs a command, without a shell, with the events as JSON Lines on stdin.

    It has taken them if its exit code is 0.
    """
    arguments = shlex.split(target)
    if not arguments:
        raise SinkError("a command is needed: --sink 'command=notify results'")

    def send(events: Sequence[Event]) -> None:
        lines = b"".join(msgspec.json.encode(each) + b"\n" for each in events)
        try:
            done = subprocess.run(arguments, input=lines, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SinkError(f"{arguments[0]!r} did not take {len(events)} events: {error}", key=arguments[0]) from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise SinkError(
                f"{arguments[0]!r} did not take {len(events)} events: exit code {done.returncode}: {said}",
                key=arguments[0],
            )

    return send


def webhook(target: str) -> Sink:
    """Return a sink that posts the events to a URL as JSON: an object with the list ``events``.

    The server has taken them if its status is 2xx. Errors name the server only, because the rest of the URL may be a
    secret.
    """
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SinkError("a webhook is needed: --sink webhook=https://example.org/hook")
    server = f"{parts.scheme}://{parts.hostname}"
    opener = urllib.request.build_opener(_NoRedirect)

    def send(events: Sequence[Event]) -> None:
        body = msgspec.json.encode({"events": list(events)})
        request = urllib.request.Request(target, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with opener.open(request, timeout=_SECONDS):
                pass
        except (OSError, ValueError) as error:
            status = getattr(error, "code", None)
            why = f"status {status}" if status is not None else getattr(error, "reason", type(error).__name__)
            raise SinkError(f"{server} did not take {len(events)} events: {why}", key=server) from None

    return send


def metrics(target: str) -> Sink:
    """Return a sink that counts the events in a file for the textfile collector of Prometheus' node exporter.

    The file is replaced as a whole. The counters begin with 0 when the sink is made, as those of any process.
    """
    file = Path(target).expanduser()
    if file.suffix != ".prom":
        raise SinkError(f"{target!r} is no file that the collector reads: its name must end in .prom", key=target)
    counts: Counter[Kind] = Counter(dict.fromkeys(get_args(Kind), 0))
    latest: dict[Kind, float] = {}

    def send(events: Sequence[Event]) -> None:
        now, last = counts + Counter(each.kind for each in events), dict(latest)
        for each in events:
            last[each.kind] = max(last.get(each.kind, 0.0), each.at.timestamp())
        lines = ["# HELP emdstore_events_total Events of the results store.", "# TYPE emdstore_events_total counter"]
        lines += [f'emdstore_events_total{{kind="{kind}"}} {now[kind]}' for kind in counts]
        lines += [
            "# HELP emdstore_last_event_timestamp_seconds When the last one happened.",
            "# TYPE emdstore_last_event_timestamp_seconds gauge",
            *(f'emdstore_last_event_timestamp_seconds{{kind="{kind}"}} {moment!r}' for kind, moment in last.items()),
        ]
        try:
            LocalArtifactStore(file.absolute().parent).write_bytes(file.name, "\n".join([*lines, ""]).encode())
        except EmdstoreError as error:
            raise SinkError(f"{target!r} cannot be written: {error}", key=target) from error
        counts.update(each.kind for each in events)
        latest.update(last)

    send(())
    return send


_OURS: Mapping[str, Callable[[str], Sink]] = {each.__name__: each for each in (command, webhook, metrics)}


def open_sink(given: str) -> Sink:
    """Make a sink from its name and target: ``webhook=https://example.org/hook``.

    Raises
    ------
    SinkError
        If there is no sink of this name, or it cannot use the target.
    """
    name, _, target = given.partition("=")
    if (make := _OURS.get(name)) is not None:
        return make(target)
    others = entry_points(group=GROUP)
    if name not in others.names:
        known = ", ".join(sorted({*_OURS, *others.names}))
        raise SinkError(f"there is no sink {name!r}: there are {known}; write NAME=TARGET", key=name)
    sink: Sink = others[name].load()(target)
    return sink


class Outbox:
    """Passes events on to a sink, and keeps what it did not take for the next time.

    Parameters
    ----------
    sink
        The sink. Whatever it raises, the others get their events.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: list[Event] = []

    @property
    def is_empty(self) -> bool:
        """Whether the sink has taken all that it was to get."""
        return not self._waiting

    def deliver(self, events: Sequence[Event]) -> None:
        """Pass on what waits and then these events, at most 100 at a time.

        Raises
        ------
        SinkError
            If the sink did not take all. The rest waits; of more than 10,000 the oldest are dropped.
        """
        self._waiting = [*self._waiting, *events][-_MOST_WAITING:]
        while self._waiting:
            try:
                self._sink(self._waiting[:_MOST_AT_ONCE])
            except SinkError:
                raise
            except Exception as error:
                raise SinkError(f"a sink failed: {type(error).__name__}: {error}") from error
            del self._waiting[:_MOST_AT_ONCE]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without events."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
