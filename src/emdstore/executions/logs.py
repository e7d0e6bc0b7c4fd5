"""The log of a run: what it logs and prints also goes into a file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TextIO

from emdstore.errors import StoreError

_log = logging.getLogger(__name__)

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogFile:
    """A log file that keeps what it can.

    If the disk is full or the quota is used up, the run goes on. Lost bytes are counted, mentioned in the log as soon
    as it can be written again, and reported by a warning when it is closed.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._name = fd, name
        self._gap = self._lost = 0
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)
        if self._lost:
            _log.warning(
                "the log %s lacks %d bytes, which could not be written: %s; the run itself went on",
                self._name,
                self._lost,
                self._error,
            )

    def write(self, text: str) -> int:
        """Append text, or count it as lost."""
        data = text.encode("utf-8", "backslashreplace")
        gap = f"\n[{self._gap} bytes of this log could not be written]\n".encode() if self._gap else b""
        try:
            if gap:
                _append(self._fd, gap)
            self._gap = 0
            _append(self._fd, data)
        except OSError as error:
            self._error = error
            self._gap += len(data)
            self._lost += len(data)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write goes to the system at once."""


def _append(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextlib.contextmanager
def capture_log(path: Path, *, level: int = logging.INFO) -> Iterator[LogFile]:
    """Append to a file what this process logs and prints, and show it as before.

    Parameters
    ----------
    path
        The file. Links are not followed.
    level
        Log from this level on.

    Notes
    -----
    Standard output and logging belong to the whole process, so run one execution at a time. Output of other programs is
    not captured; see `Execution.run`.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreError(f"the log {os.fspath(path)!r} cannot be written: {error.strerror}") from error
    root = logging.getLogger()
    with LogFile(fd, os.fspath(path)) as log:
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter(_FORMAT))
        before = root.level
        root.addHandler(handler)
        root.setLevel(min(level, before))
        out: Any = _Tee(sys.stdout, log)
        err: Any = _Tee(sys.stderr, log)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield log
        finally:
            root.setLevel(before)
            root.removeHandler(handler)


class _Tee:
    """A text stream that also writes to the log; otherwise it is like the original stream."""

    def __init__(self, stream: TextIO, log: LogFile) -> None:
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        self._log.write(text)
        return self._stream.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._log.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
