"""What is logged: to stderr, and with `--log-file` also into a file, with all that is said besides results."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emdstore.cli.manners import manners
from emdstore.cli.options import Output, WrongCallError

SAID = logging.getLogger("emdstore.said")
"""What a command says to people on a terminal; only a log file takes it."""

_USUAL = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"})
_TEXT = "%(levelname)s %(name)s: %(message)s"


def keep_nothing_said() -> None:
    """Hold log lines back until `begin_logging` has a file for them."""
    SAID.handlers = []
    SAID.setLevel(logging.CRITICAL + 1)  # without handlers Python would print it


def begin_logging(
    output: Output, arguments: Sequence[str], printable: Callable[[str], str], redact: Callable[[str], str]
) -> None:
    """Log as the options of a command say, from here on.

    Parameters
    ----------
    output
        The options.
    arguments
        The command's arguments, which begin the file's part of this run.
    printable, redact
        Make text fit for a terminal, and free of secrets.

    Raises
    ------
    WrongCallError
        If the file cannot be written.
    """
    as_json = manners().log_as_json
    shown = _ToStderr()
    shown.setLevel(logging.ERROR if output.quiet else logging.DEBUG if output.verbose else logging.WARNING)
    shown.setFormatter(_Lines(redact, printable) if as_json else _Text(redact, printable, _TEXT))
    handlers: list[logging.Handler] = [shown]
    if output.log_file is not None:
        kept = _open(output.log_file)
        kept.setFormatter(_Lines(redact) if as_json else _Text(redact, str, f"%(asctime)s {_TEXT}"))
        handlers.append(kept)
    logging.basicConfig(level=logging.DEBUG if output.verbose > 1 else logging.WARNING, handlers=handlers, force=True)
    least = logging.INFO if output.log_file is not None else logging.WARNING
    logging.getLogger("emdstore").setLevel(logging.DEBUG if output.verbose else least)
    if output.verbose < 2:  # for it, Ctrl-C during the return of a connection is a traceback; what matters is raised
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    SAID.propagate, SAID.handlers = False, handlers[1:]
    SAID.setLevel(logging.INFO if output.log_file is not None else logging.CRITICAL + 1)
    SAID.info("emdstore %s", shlex.join(arguments))


def _open(file: Path) -> logging.FileHandler:
    try:
        return logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise WrongCallError(f"--log-file {os.fspath(file)!r} cannot be written: {error.strerror}") from error


class _ToStderr(logging.Handler):
    """Writes to the current `sys.stderr`, which a progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


class _Text(logging.Formatter):
    """Lines for people."""

    def __init__(self, redact: Callable[[str], str], printable: Callable[[str], str], layout: str) -> None:
        super().__init__(layout)
        self._redact, self._printable = redact, printable

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """See `logging.Formatter`: in UTC, as all times of emdstore."""
        return _moment(record)

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return self._printable(self._redact(super().format(record)))


class _Lines(logging.Formatter):
    """JSON Lines, with the fields that a record has besides the usual ones."""

    def __init__(self, redact: Callable[[str], str], printable: Callable[[str], str] = str) -> None:
        super().__init__()
        self._redact, self._printable = redact, printable

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        said: dict[str, Any] = {"time": _moment(record), "level": record.levelname.lower(), "logger": record.name}
        said["message"] = self._redact(record.getMessage())
        for name, value in vars(record).items():
            if name not in _USUAL and name not in said:
                said[name] = value if isinstance(value, int | float | None) else self._redact(str(value))
        if record.exc_info:
            said["traceback"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(said)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
