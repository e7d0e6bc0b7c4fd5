"""The command that shows what happened in a results store, and passes it on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from emdstore.cli.choosing import parse_moment
from emdstore.cli.exit_codes import FAILED, INTERRUPTED, OK
from emdstore.cli.options import ANY, PLAIN, Access, Output, WrongCallError, open_dest, open_existing
from emdstore.cli.render import note, say, show_document, show_event, sum_up
from emdstore.cli.watch import until_told
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, SinkError, StoreError
from emdstore.sets.events import Event, EventCursor, Follower, begin_log, end_log, read_events, trim_events
from emdstore.sinks import Outbox, open_sink
from emdstore.stores import LocalArtifactStore
from emdstore.stores.identity import identity_of
from emdstore.workers.interrupts import uninterrupted

_FIVE_SECONDS = timedelta(seconds=5)


def _moment(_: object, tokens: Sequence[Token]) -> datetime:
    return datetime.fromtimestamp(parse_moment(tokens[0].value), UTC)


def events(
    store: str,
    /,
    *,
    since: Annotated[datetime | None, Parameter(converter=_moment)] = None,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    every: timedelta = _FIVE_SECONDS,
    sink: tuple[str, ...] = (),
    cursor: Path | None = None,
    begin: Annotated[bool, Parameter(negative=())] = False,
    end: Annotated[bool, Parameter(negative=())] = False,
    trim: Annotated[datetime | None, Parameter(converter=_moment)] = None,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Show what happened in a results store: what was published, repaired, retracted, released, removed.

    Events are news, not proof: one may be missing, or tell of a set that is another one by now. `emdstore sets` and
    `emdstore verify` tell what is there.

    Parameters
    ----------
    store
        The results store. It keeps a log from the moment that a workspace first publishes to it.
    since
        Only events since then: 2h, 7d, 2026-05-01.
    follow
        Go on, and show new events as they come; without --since only these. SIGTERM ends it, which is no failure.
    every
        How often to look for new events.
    sink
        Also pass the events on: command='notify results', webhook=https://example.org/hook,
        metrics=/var/lib/node_exporter/emdstore.prom, or a plugin's NAME=TARGET. What a sink did not take it gets again
        with the next events, so it may get some twice.
    cursor
        A file that keeps how far you have read: only what is new since then is shown, at first the whole log, or since
        --since. It is written when all was shown, and every sink has taken it.
    begin
        Have the store keep a log from now on, if it does not yet.
    end
        Have it keep none from now on, whoever publishes there. What is in it stays.
    trim
        First remove the events of days before: 90d, 2026-05-01.
    """
    if every <= timedelta(0):
        raise WrongCallError("--every takes a time above 0: 5s, 1m")
    try:
        boxes = [Outbox(open_sink(each)) for each in sink]
    except SinkError as error:
        raise WrongCallError(str(error)) from error
    if begin and end:
        raise WrongCallError("give either --begin or --end")
    opened = open_dest(store, access) if begin else open_existing(store, access)
    if begin:
        begin_log(opened)
    if end:
        end_log(opened)
    if trim is not None:
        removed = trim_events(opened, trim)
        if not output.json:
            sum_up(f"{removed} entries removed")
    shown = _Shown(boxes, output, follow=follow)
    kept = None if cursor is None else _CursorFile(cursor)
    begun = None if kept is None else kept.read() or (EventCursor() if since is None else None)
    follower = Follower(opened, since, cursor=begun, unreadable=shown.failed)
    if not follow:
        shown.show(follower.news() if kept is not None else list(read_events(opened, since, unreadable=shown.failed)))
        shown.keep(follower, kept)
        here = identity_of(opened)
        if here.id is None or not here.keeps_log:
            note("this store keeps no log: it begins when a workspace publishes to it, or with --begin")
        return shown.end()
    with until_told() as signals:
        try:
            while not signals.came:
                try:
                    news = follower.news()
                    with uninterrupted():  # what was shown is noted, and not shown again
                        shown.show(news)
                        shown.keep(follower, kept)
                except EmdstoreError as error:
                    shown.failed(error, f"; looking again in {every.total_seconds():g} s")
                signals.sleep(every.total_seconds())
        except KeyboardInterrupt:
            pass  # between two looks: what was shown is noted
    if output.json_lines:
        shown.end()
    return OK if signals.came else INTERRUPTED


class _CursorFile:
    """A file with a cursor; it is replaced as a whole, and only if there is something to note."""

    def __init__(self, path: Path) -> None:
        self._folder, self._name = LocalArtifactStore(path.absolute().parent), path.name
        self._last: EventCursor | None = None

    def read(self) -> EventCursor | None:
        try:
            self._last = EventCursor.decode(self._folder.read_bytes(self._name))
        except ArtifactNotFoundError:
            return None
        except StoreError as error:
            raise WrongCallError(f"--cursor {self._name}: {error}") from error
        return self._last

    def write(self, cursor: EventCursor) -> None:
        last = self._last
        if last is None or last.seen != cursor.seen or last.store != cursor.store:
            self._folder.write_bytes(self._name, cursor.encode())
            self._last = cursor


class _Shown:
    """What was shown and passed on, and what went wrong."""

    def __init__(self, boxes: Sequence[Outbox], output: Output, *, follow: bool) -> None:
        self._boxes, self._output, self._follow = boxes, output, follow
        self._kept: list[Event] = []
        self._errors: list[dict[str, Any]] = []
        self._count = 0

    def show(self, events: Sequence[Event]) -> None:
        self._count += len(events)
        for each in events:
            if self._output.json_lines:  # at once, and none is kept
                show_event("events", "item", {"item": each})
            elif self._output.json:
                self._kept.append(each)
            else:
                about = f"  ({each.about})" if each.about else ""
                say(f"{each.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}  {each.kind:11}  {each.name}{about}  by {each.by}")
        sys.stdout.flush()
        if self._follow and self._kept:
            show_document("events", {"events": self._kept, "errors": ()}, one_line=True)
            self._kept = []
        for box in self._boxes:
            try:
                box.deliver(events)
            except SinkError as error:
                self.failed(error)

    def keep(self, follower: Follower, file: _CursorFile | None) -> None:
        """Note how far the log was read, unless a sink still waits for some of it."""
        if file is not None and follower.cursor is not None and all(box.is_empty for box in self._boxes):
            file.write(follower.cursor)

    def failed(self, error: EmdstoreError, then: str = "") -> None:
        about = {"type": type(error).__name__, "name": error.key, "message": str(error)}
        if about not in self._errors:
            self._errors.append(about)
            note(f"{error}{then}", style="red")

    def end(self) -> int:
        code = FAILED if self._errors else OK
        if not self._output.json:
            return code
        counts = {"items": self._count, "errors": len(self._errors)}
        return show_document("events", {"events": self._kept, "errors": self._errors, "counts": counts}, code)
