"""What the copy sessions of both ways by SSH have in common: the files on this side, and a connection of one kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from emdstore.errors import StoreUnavailableError
from emdstore.keys import validate_key
from emdstore.stores.local.root import Root
from emdstore.stores.local.sessions import FileSession
from emdstore.stores.port import Copied
from emdstore.stores.ssh.lines import Lines

Side = TypeVar("Side")


class Session(Generic[Side]):
    """See `CopySession`.

    Parameters
    ----------
    root
        The folder of this machine, to read from or to write to.
    lines
        The connections to the other one.
    """

    kind: ClassVar[type[Any]]
    """What has to be at the other end."""

    def __init__(self, root: Root, lines: Lines) -> None:
        self.files, self._lines = FileSession(root), lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self.files.__exit__(kind, error, traceback)

    def copy(self, key: str, moved: Any = None, /) -> Copied:
        """See `CopySession.copy`."""
        validate_key(key)
        return self._lines.call(lambda side: self.copy_over(self._of_kind(side), key, moved))

    def copy_over(self, side: Side, key: str, moved: Any) -> Copied:
        """Copy one artifact of any size over a connection."""
        raise NotImplementedError

    @contextlib.contextmanager
    def connected(self) -> Iterator[Side]:
        """Give a connection for the time of a block."""
        with self._lines.taken() as side:
            yield self._of_kind(side)

    def _of_kind(self, side: Any) -> Side:
        """Return the far side as what it was when the session began; it may have fallen back to SFTP, or recovered."""
        if not isinstance(side, self.kind):
            raise StoreUnavailableError("the other side is used in another way by now; try again")
        found: Side = side
        return found

    @contextlib.contextmanager
    def put(self, key: str) -> Iterator[int]:
        """Give a staging file of this machine for the time of a block, after which it gets its name."""
        with self.files.root.translating("write", key):
            out = self.files.stage(key)
            try:
                yield out
            except BaseException:
                self.files.discard(out)
                raise
            self.files.put_in_place(out, key)
