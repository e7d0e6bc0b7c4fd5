"""Artifacts on fsspec's file systems that are read and written without being in memory as a whole."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from emdstore.errors import SourceChangedError
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo

if TYPE_CHECKING:
    from emdstore.stores.fsspec import FsspecArtifactStore

BLOCK = 8 * 1024 * 1024


class FileReader:
    """See `ArtifactReader`."""

    def __init__(self, store: FsspecArtifactStore, info: ArtifactInfo, file: Any) -> None:
        self.info = info
        self._store, self._file = store, file
        self._left = info.size

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        with self._store._trying("read", self.info.key):
            try:
                data = bytes(self._file.read(size))
            except Exception as error:
                if type(error).__name__ == "FileExpired" or "PreconditionFailed" in str(error):
                    self._raise_changed()
                raise
        self._left -= len(data)
        if self._left < 0 or (not data and (self._left or self._replaced())):
            self._raise_changed()
        return data

    def _replaced(self) -> bool:
        """Tell whether the artifact at the end is another one than at the start; not all file systems would say."""
        if isinstance(self._file, io.BytesIO):
            return False
        now = self._store.info(self.info.key)
        return (now.size, now.version) != (self.info.size, self.info.version) or now.modified > self.info.modified

    def _raise_changed(self) -> NoReturn:
        raise SourceChangedError(
            f"{self.info.key!r} in {self._store!r} changed while it was read; run it again when its writer is done",
            key=self.info.key,
            store=repr(self._store),
        ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._file.close()


class FileWriter:
    """See `ArtifactWriter`.

    It keeps what fits one block; what is larger goes to a file of the file system that shows when it is finished.
    """

    _file: Any = None

    def __init__(self, store: FsspecArtifactStore, key: str) -> None:
        self._store, self._key = store, key
        self._head = bytearray()
        self._unfinished: contextlib.ExitStack | None = None

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        if self._unfinished is None:
            self._head += data
            if len(self._head) <= BLOCK or self._store._at(self._key)[2] == "memory":
                return
            data, self._head = bytes(self._head), bytearray()
            self._start()
        with self._store._trying("write", self._key):
            self._file.write(data)

    def _start(self) -> None:
        store, key = self._store, self._key
        store._refuse_folder(key)
        fs, path, mechanics = store._at(key)
        with store._trying("write", key), contextlib.ExitStack() as stack:
            if mechanics == "rename":
                self._file = stack.enter_context(fs.open(stack.enter_context(store._staged(key)), "wb"))
            else:
                self._file = stack.enter_context(_completed(fs.open(path, "wb", block_size=BLOCK, autocommit=False)))
            self._unfinished = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._unfinished is not None:
            with self._store._trying("write", self._key):
                self._unfinished.__exit__(kind, error, traceback)
        elif kind is None:
            self._store.write_bytes(self._key, bytes(self._head))


@contextlib.contextmanager
def _completed(file: Any) -> Iterator[Any]:
    """Complete an upload at the end, or take back its parts."""
    try:
        yield file
        file.close()
        file.commit()
    except BaseException:
        file.closed = True  # or the file would upload the rest of what it has when it is collected
        with contextlib.suppress(Exception):
            file.discard()
        raise
