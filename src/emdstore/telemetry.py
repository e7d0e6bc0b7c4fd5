"""What a long operation does, for whoever watches: a line in the log with its fields, and spans and metrics.

Spans and metrics go to OpenTelemetry if the program has imported it, as every program has that sets it up, or that
``opentelemetry-instrument`` starts. Otherwise they cost a look into a dictionary.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from emdstore import system
from emdstore._version import __version__
from emdstore.errors import redact

NAME = "emdstore"

_log = logging.getLogger(__name__)


class Operation:
    """An operation that is going on.

    Attributes
    ----------
    fields
        What is known of it: text and numbers, without secrets.
    """

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name, self.fields = name, fields
        self._counts: list[tuple[str, int, dict[str, str]]] = []

    def note(self, **fields: str | float | bool) -> None:
        """Add fields."""
        self.fields |= fields

    def count(self, what: str, number: int, **of: str) -> None:
        """Count something for the metric ``emdstore.WHAT``; a count of nothing is left out."""
        if number:
            self._counts.append((what, number, of))

    def tell(self, seconds: float, *, error: str | None) -> None:
        """Write its metrics and its line in the log, now that it has ended."""
        outcome = {"error.type": error} if error is not None else {}
        if "opentelemetry.metrics" in sys.modules:
            _histogram().record(seconds, {"operation": self.name} | outcome)
            for what, number, of in self._counts:
                _counter(what).add(number, {"operation": self.name} | of)
        if _log.isEnabledFor(logging.INFO):
            counts = {".".join((what, *of.values())): number for what, number, of in self._counts}
            fields = {"operation": self.name, "seconds": round(seconds, 3)} | self.fields | counts
            fields |= {} if error is None else {"error": error}
            about = "".join(f", {name} {value}" for name, value in [*fields.items()][2:])
            _log.info("%s took %.3f s%s", self.name, seconds, about, extra=fields)


@contextmanager
def operation(name: str, **fields: str | float) -> Iterator[Operation]:
    """Watch what the block does.

    Parameters
    ----------
    name
        What it is: ``transfer``, ``commit``, ``replay``.
    fields
        What is known of it. Text is redacted.
    """
    shown = {key: redact(value) if isinstance(value, str) else value for key, value in fields.items()}
    doing, started, error = Operation(name, shown), system.current().monotonic(), None
    with _span(f"{NAME}.{name}") as span:
        try:
            yield doing
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            if span is not None:
                span.set_attributes({f"{NAME}.{key}": value for key, value in doing.fields.items()})
                if error is not None:
                    _fail(span, error)
            doing.tell(system.current().monotonic() - started, error=error)


def watch_statements(engine: Any) -> None:
    """Have each SQL statement of an engine be a span, if the program uses OpenTelemetry by now.

    The span has the statement, without its values.
    """
    if "opentelemetry.trace" not in sys.modules:
        return
    from sqlalchemy import event

    def begin(connection: Any, _: object, statement: str, *__: object) -> None:
        span = _tracer().start_span(f"{NAME}.sql", kind=sys.modules["opentelemetry.trace"].SpanKind.CLIENT)
        span.set_attributes({"db.system.name": connection.dialect.name, "db.query.text": statement})
        connection.info.setdefault(NAME, []).append(span)

    def end(connection: Any, *_: object) -> None:
        connection.info[NAME].pop().end()

    def fail(context: Any) -> None:
        if context.connection is not None and (spans := context.connection.info.get(NAME)):
            _fail(span := spans.pop(), type(context.original_exception).__name__)
            span.end()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", fail)


@contextmanager
def _span(name: str) -> Iterator[Any]:
    if "opentelemetry.trace" not in sys.modules:
        yield None
        return
    with _tracer().start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        yield span


@cache
def _histogram() -> Any:
    meter = sys.modules["opentelemetry.metrics"].get_meter(NAME, __version__)
    return meter.create_histogram(f"{NAME}.duration", unit="s", description="How long operations took.")


@cache
def _counter(what: str) -> Any:
    return sys.modules["opentelemetry.metrics"].get_meter(NAME, __version__).create_counter(f"{NAME}.{what}")


def _tracer() -> Any:
    return sys.modules["opentelemetry.trace"].get_tracer(NAME, __version__)


def _fail(span: Any, error: str) -> None:
    """Only the type of an error: its message is for people, and may name what a collector must not know."""
    span.set_attribute("error.type", error)
    span.set_status(sys.modules["opentelemetry.trace"].StatusCode.ERROR)
