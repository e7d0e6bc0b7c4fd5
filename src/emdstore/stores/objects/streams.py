"""Reading and writing objects without holding them in memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self

from emdstore import system
from emdstore.errors import SourceChangedError, StoreError
from emdstore.per_process import PerProcess
from emdstore.stores.objects.bucket import MOST_PARTS, Bucket
from emdstore.stores.objects.errors import has_no_such_range, is_of_engine
from emdstore.stores.objects.proof import ObjectProof
from emdstore.stores.port import CHUNK_SIZE
from emdstore.stores.unfinished import forget_upload, note_upload
from emdstore.stores.waiting import briefly, heard

_log = logging.getLogger(__name__)

_LAST_SECONDS = 1.5
_FIRST_PART = 4 * 1024 * 1024
_NEAR_SECONDS = 0.03  # for the first part: a connection as fast as this is as good as several
_PART = 1024 * 1024
_MOST_AHEAD = 12
_MOST_AHEAD_OF_ALL = 24
# For the parts that readers in this process have read ahead. Each may hold one more, which it is returning.
_places = PerProcess(lambda: threading.Semaphore(_MOST_AHEAD_OF_ALL))


class ObjectReader:
    """See `ArtifactReader`: reads the version of the object that the server's first answer describes.

    One connection to a distant server may be slower than the network. So the first request asks for the first part. If
    that takes long, the rest is read in parts too, several at a time; otherwise in one go.

    Parameters
    ----------
    bucket
        Where the artifact is.
    key
        Its key.

    Raises
    ------
    ArtifactNotFoundError
        If nothing lies at the key.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket, self._key, self._name = bucket, key, bucket.object_name(key)
        asked = system.current().monotonic()
        with bucket.errors.translating("read", key):
            found = self._begin()
        self._waited = system.current().monotonic() - asked
        self.info = bucket.described(key, found.meta)
        self._chunks = self._in_parts(found) if found.range[1] < self.info.size else _stream(found)
        self._rest = b""
        self._left = self.info.size
        self._proof = ObjectProof(bucket, self.info, found.attributes)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        chunk = self._rest or self._next()
        self._rest = chunk[size:]
        given = chunk[:size]
        self._left -= len(given)
        if self._left < 0 or (not given and self._left):
            self._raise_changed(f"did not have the {self.info.size} bytes that the server announced")
        self._proof.update(given)
        if given and not self._left:  # before the last bytes are given out
            self._proof.finish()
        return given

    def _next(self) -> bytes:
        with self._bucket.errors.translating("read", self._key):
            try:
                return heard(next, self._chunks, b"")
            except Exception as error:
                # The engine asked for the rest of an interrupted answer, if it was of the same version.
                if type(error).__name__ == "PreconditionError":
                    self._raise_changed("changed while it was read")
                raise

    def _ask(self, options: Any) -> Any:
        obs, client = self._bucket.client()
        return obs.get(client, self._name, options=options)

    def _begin(self) -> Any:
        try:
            return self._ask({"range": (0, _FIRST_PART)})
        except Exception as error:
            # An empty object has no ranges, and some servers do not support them.
            if is_of_engine(error) and has_no_such_range(error):
                return self._ask(None)
            raise

    def _in_parts(self, first: Any) -> Iterator[bytes]:
        """Yield the object, reading ahead as far as the limit for all readers allows."""
        asked = system.current().monotonic()  # not since it was opened: the reader may have been busy
        chunks: Iterable[bytes] = list(_stream(first))
        if self._waited + system.current().monotonic() - asked < _NEAR_SECONDS:
            yield from chunks
            yield from _stream(self._part(_FIRST_PART, self.info.size))
            return
        places = _places.get()
        starts = deque(range(_FIRST_PART, self.info.size, _PART))
        ahead: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(_MOST_AHEAD, thread_name_prefix="emdstore-parts")
        try:
            while True:
                while starts and len(ahead) < _MOST_AHEAD and places.acquire(blocking=False):
                    ahead.append(pool.submit(self._small_part, starts.popleft()))
                yield from chunks
                if ahead:
                    part = ahead.popleft()
                    places.release()
                    chunks = [part.result()]
                elif starts:
                    chunks = [self._small_part(starts.popleft())]
                else:
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for part in ahead:
                part.add_done_callback(lambda _: places.release())  # parts on their way still need their memory

    def _small_part(self, start: int) -> bytes:
        part: bytes = self._part(start, min(start + _PART, self.info.size)).bytes()
        return part

    def _part(self, start: int, end: int) -> Any:
        found = self._ask({"range": (start, end)})
        if self._bucket.described(self._key, found.meta) != self.info:
            self._raise_changed("changed while it was read")
        return found

    def _raise_changed(self, what: str) -> NoReturn:
        key, store = self._key, repr(self._bucket)
        raise SourceChangedError(f"{key!r} in {store} {what}; run it again", key=key, store=store) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._chunks, self._rest = iter(()), b""  # deleting a stream closes its connection


def _stream(found: Any) -> Iterator[bytes]:
    # The engine returns at least this much at a time, and often more; `read` may return CHUNK_SIZE.
    return iter(found.stream(min_chunk_size=CHUNK_SIZE // 2))


def put_whole(bucket: Bucket, key: str, data: bytes) -> None:
    """Put an object by one request."""
    name = bucket.object_name(key)
    obs, client = bucket.client(len(data))
    with bucket.errors.translating("write", key):
        obs.put(client, name, data, use_multipart=False, **bucket.sent_with(key, data))


class ObjectWriter:
    """See `ArtifactWriter`: a multipart upload, which shows when it is completed, or one request if it is small."""

    _file: Any = None

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket, self._key, self._size = bucket, key, 0
        self._name = bucket.object_name(key)
        self._part_size = bucket.part_size
        self._head = bytearray()

    def expect(self, size: int, /) -> None:
        """See `ExpectsSize.expect`: an object has at most 10,000 parts, so those of a very large one are larger."""
        self._part_size = self._bucket.part_size_for(self._key, size)

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        self._size += len(data)
        if self._size > MOST_PARTS * self._part_size:
            raise StoreError(
                f"cannot write {self._key!r} in {self._bucket!r}: it needs more than {MOST_PARTS} parts of "
                f"{self._part_size} bytes; open the store with a larger part_size",
                key=self._key,
                store=repr(self._bucket),
            )
        if self._file is None:
            self._head += data
            if len(self._head) <= self._part_size:
                return
            data, self._head = bytes(self._head), bytearray()
            self._file = self._started()
        with self._bucket.errors.translating("write", self._key):
            heard(self._file.write, data)

    def _started(self) -> Any:
        obs, client = self._bucket.client(self._part_size)
        with self._bucket.errors.translating("write", self._key):
            file = obs.open_writer(
                client,
                self._name,
                buffer_size=self._part_size,
                max_concurrency=self._bucket.part_uploads,
                **self._bucket.sent_with(self._key),
            )
            file.__enter__()
        note_upload(self)
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is None:
            if kind is None:
                put_whole(self._bucket, self._key, bytes(self._head))
            return
        try:
            self._finish(kind, error, traceback)
        finally:
            forget_upload(self)

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            with self._bucket.errors.translating("write", self._key):
                heard(self._file.__exit__, None, None, None)
            return
        try:
            if isinstance(error, Exception):
                self._file.__exit__(kind, error, traceback)  # aborts the upload
            else:  # whoever pressed Ctrl-C wants to leave
                briefly(_LAST_SECONDS, self._file.__exit__, kind, error, traceback)
        except Exception as failure:
            if not is_of_engine(failure):
                raise
            # The error that ended the block is the one to report.
            _log.warning(
                "parts of %r may be left in %r; have the bucket expire unfinished uploads", self._key, self._bucket
            )
