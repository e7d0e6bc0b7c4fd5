"""The log of a run: what it logs and prints, also into a file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def capture_log(path: Path, *, level: int = logging.INFO) -> Iterator[TextIO]:
    """Append what this process logs and prints to a file, and show it as before.

    Parameters
    ----------
    path
        The file. A link is not followed.
    level
        What is logged from this level on.

    Notes
    -----
    Standard output and logging belong to the whole process: run one execution at a time in it. What other programs
    print is not seen here; see `Execution.run`.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    root = logging.getLogger()
    with os.fdopen(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
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
    """A text stream that also goes into the log; in all else it is the stream that it stands for."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
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
