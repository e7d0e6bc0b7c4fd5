"""What a command has proved so far, in a file, so that after any end the next call goes on from there."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from emdstore.errors import SelectionError

_HEAD = "# proved by emdstore "
_LINE = re.compile(r"([0-9a-f]{64})  (.*)\n")


class Proved:
    """Sets that were found whole, each with the SHA-256 of its record; a context manager.

    A line is written as soon as a set is proved. A last line that was cut off is not believed.

    Parameters
    ----------
    file
        The file; it is made if necessary.
    work
        What is done to which stores: ``verify of STORE``. What was proved by one says nothing of another.

    Raises
    ------
    SelectionError
        If the file is about something else, is no such file, or cannot be read or written. It stays as it is.
    """

    def __init__(self, file: str | os.PathLike[str], work: str) -> None:
        self._file, self._head = Path(file).expanduser(), f"{_HEAD}{work}\n"
        self._known: dict[int, bytes] = {}
        self._stream: TextIO | None = None
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True) if self._file.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise SelectionError(f"{str(file)!r} cannot be read: {error}") from error
        if lines and lines[0] != self._head:
            whose = lines[0].removeprefix(_HEAD).strip() if lines[0].startswith(_HEAD) else "something else"
            raise SelectionError(f"{str(file)!r} is about {whose}, not about {work}: name another file, or remove it")
        for line in lines:
            if (found := _LINE.fullmatch(line)) is not None:
                self._known[folder_number(found[2])] = bytes.fromhex(found[1])
        self._is_new = not lines

    def __enter__(self) -> Self:
        try:
            self._stream = self._file.open("a", encoding="utf-8")
        except OSError as error:
            raise SelectionError(
                f"what is proved cannot be written to {str(self._file)!r}: {error.strerror}"
            ) from error
        self._stream.write(self._head if self._is_new else "\n")  # the last line may have been cut off
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def record_of(self, folder: str) -> str | None:
        """Return the SHA-256 of the record with which a set was proved; None if it was not."""
        known = self._known.get(folder_number(folder))
        return None if known is None else known.hex()

    def note(self, folder: str, record: str) -> None:
        """Keep that a set is whole, with this record."""
        if self._stream is not None and self.record_of(folder) != record:
            self._stream.write(f"{record}  {folder}\n")
            self._stream.flush()

    def forget(self) -> None:
        """Remove the file: all is proved, and the next call begins anew."""
        self._file.unlink(missing_ok=True)


def folder_number(folder: str) -> int:
    """Return 64 bits that stand for a folder's name where very many are remembered."""
    return int.from_bytes(hashlib.blake2b(folder.encode(), digest_size=8).digest())
