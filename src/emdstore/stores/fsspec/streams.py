"""Reading and writing artifacts on fsspec's file systems without holding them in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

from emdstore.errors import DamagedOnTheWayError, SourceChangedError
from emdstore.stores.fsspec.folder import Folder
from emdstore.stores.fsspec.systems import get_object, is_s3
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo
from emdstore.stores.races import races

BLOCK = 8 * 1024 * 1024


def read_whole(folder: Folder, key: str) -> bytes:
    """Return an artifact's bytes; `DamagedOnTheWayError` if they do not match the server's checksum."""
    for _ in races():
        info, data = _read_with_info(folder, key)
        if info is None:
            return data
        proof = folder.proof_of(info)
        proof.update(data)
        try:
            proof.finish()
        except DamagedOnTheWayError:
            folder.manifest()  # it may be of before a new publication
            now = folder.info(key)
            if (now.version, now.checksum) == (info.version, info.checksum):
                raise
        else:
            return data
    raise SourceChangedError(
        f"{key!r} in {folder!r} changes again and again while it is read", key=key, store=folder.name
    )


def _read_with_info(folder: Folder, key: str) -> tuple[ArtifactInfo | None, bytes]:
    """Read an artifact, and return its info if that has a checksum; by one request if possible."""
    fs, path, _ = folder.at(key)
    if not folder.proves:
        with folder.translating("read", key):
            return None, bytes(fs.cat_file(path))
    if not is_s3(fs):
        info = folder.info(key)
        with folder.translating("read", key):
            return info, bytes(fs.cat_file(path))
    with folder.translating("read", key):
        said, data = get_object(fs, path)
        return folder.describe(key, {**said, "size": said["ContentLength"]}), data


class RemoteReader:
    """See `ArtifactReader`."""

    def __init__(self, folder: Folder, key: str) -> None:
        self._folder = folder
        self.info = folder.info(key)
        fs, path, mechanics = folder.at(key)
        with folder.translating("read", key):
            if mechanics == "memory":  # whose files are one shared object with one position
                data = fs.cat_file(path)
                self._file: Any = io.BytesIO(data)
                self.info = ArtifactInfo(key, len(data), self.info.modified, self.info.version)
            else:
                self._file = fs.open(path, "rb", block_size=BLOCK)
        self._left = self.info.size
        self._proof = folder.proof_of(self.info)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        with self._folder.translating("read", self.info.key):
            try:
                data = bytes(self._file.read(size))
            except Exception as error:
                if type(error).__name__ == "FileExpired" or "PreconditionFailed" in str(error):
                    self._raise_changed()
                raise
        self._left -= len(data)
        if self._left < 0 or (not data and (self._left or self._replaced())):
            self._raise_changed()
        self._proof.update(data)
        if data and not self._left:  # before the last bytes are given out
            self._prove()
        return data

    def _prove(self) -> None:
        try:
            self._proof.finish()
        except DamagedOnTheWayError:
            if self._replaced():
                self._raise_changed()
            raise

    def _replaced(self) -> bool:
        """Tell whether the artifact changed between start and end; not all file systems can say."""
        if isinstance(self._file, io.BytesIO):
            return False
        now = self._folder.info(self.info.key)
        return (now.size, now.version) != (self.info.size, self.info.version) or now.modified > self.info.modified

    def _raise_changed(self) -> NoReturn:
        raise SourceChangedError(
            f"{self.info.key!r} in {self._folder!r} changed while it was read; run it again when its writer is done",
            key=self.info.key,
            store=self._folder.name,
        ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # what was read is whole
            self._file.close()


class RemoteWriter:
    """See `ArtifactWriter`.

    Keeps one block in memory; more goes to a file that shows when it is finished.
    """

    _file: Any = None

    def __init__(self, folder: Folder, key: str) -> None:
        self._folder, self._key = folder, key
        _, _, self._mechanics = folder.at(key)
        self._head = bytearray()
        self._sent = 0
        self._unfinished: contextlib.ExitStack | None = None

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        if self._unfinished is None:
            self._head += data
            if len(self._head) <= BLOCK or self._mechanics == "memory":
                return
            data, self._head = bytes(self._head), bytearray()
            self._start()
        # In parts of one size, so that the checksum of the parts can be computed again.
        rest = memoryview(data)
        with self._folder.translating("write", self._key):
            while rest:
                part = rest[: BLOCK - self._sent % BLOCK]
                self._file.write(part)
                self._sent += len(part)
                rest = rest[len(part) :]

    def _start(self) -> None:
        folder, key = self._folder, self._key
        folder.refuse_folder(key)
        fs, path, mechanics = folder.at(key)
        with folder.translating("write", key), contextlib.ExitStack() as stack:
            if mechanics == "rename":
                self._file = stack.enter_context(fs.open(stack.enter_context(folder.staged(key)), "wb"))
            else:
                self._file = stack.enter_context(_completed(fs.open(path, "wb", block_size=BLOCK, autocommit=False)))
            self._unfinished = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._unfinished is not None:
            with self._folder.translating("write", self._key):
                self._unfinished.__exit__(kind, error, traceback)
        elif kind is None:
            self._folder.write(self._key, bytes(self._head))


@contextlib.contextmanager
def _completed(file: Any) -> Iterator[Any]:
    """Complete an upload at the end, or abort it."""
    try:
        yield file
        file.close()
        file.commit()
    except BaseException:
        file.closed = True  # or the file would upload the rest when it is garbage-collected
        with contextlib.suppress(Exception):
            file.discard()
        raise
