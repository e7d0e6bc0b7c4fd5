"""Reading and writing objects without holding them in memory."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self

from emdstore import system
from emdstore.errors import SourceChangedError, StoreError
from emdstore.per_process import PerProcess
from emdstore.stores.objects.bucket import MOST_PARTS, Bucket, time_in
from emdstore.stores.objects.errors import has_no_such_range, is_of_engine
from emdstore.stores.objects.proof import ObjectProof
from emdstore.stores.port import CHUNK_SIZE
from emdstore.stores.unfinished import forget_upload, note_upload
from emdstore.stores.waiting import briefly, heard

_log = logging.getLogger(__name__)

_LAST_SECONDS = 1.5
_FIRST_PART, _SMALLER_FIRST_PART = 4 * 1024 * 1024, 1024 * 1024
_MOST_FIRST_PARTS = 16
_NEAR_SECONDS = 0.03  # for the first part: a connection as fast as this is as good as several
_PART = 1024 * 1024
_MOST_AHEAD = 12
_MOST_AHEAD_OF_ALL = 24
_PROVED_AT_ONCE = 1024 * 1024
_MOST_UNPROVED = 4  # of these; an MD5 takes longer than everything else that is done with the bytes
# For threads that check what others read: with more than half as many as there are cores they only wait for each other.
_provers = PerProcess(lambda: threading.Semaphore(max(1, (os.cpu_count() or 1) // 2)))
# For the parts that readers in this process have read ahead. Each may hold one more, which it is returning.
_places = PerProcess(lambda: threading.Semaphore(_MOST_AHEAD_OF_ALL))
# A reader holds its first part. Beyond so many open ones it is a smaller one.
_firsts = PerProcess(lambda: threading.Semaphore(_MOST_FIRST_PARTS))


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
        places = _firsts.get()
        self._place = places if places.acquire(blocking=False) else None
        self._first = _SMALLER_FIRST_PART if self._place is None else _FIRST_PART
        try:
            with bucket.errors.translating("read", key):
                found = self._begin()
            self._waited = system.current().monotonic() - asked
            self.info = bucket.described(key, found.meta)
            self.written_ns: int | None = time_in(found.attributes)
            self._chunks = self._in_parts(found) if found.range[1] < self.info.size else _stream(found)
            self._rest = b""
            self._left = self.info.size
            self._proof = ProofBehind(ObjectProof(bucket, self.info, found.attributes), self.info.size)
        except BaseException:
            self._give_back()
            raise

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
            return self._ask({"range": (0, self._first)})
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
            yield from _stream(self._part(self._first, self.info.size))
            return
        places = _places.get()
        starts = deque(range(self._first, self.info.size, _PART))
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
        end = min(start + _PART, self.info.size)
        part: bytes = self._part(start, end).bytes()
        if len(part) != end - start:  # a part that is too long could make up for one that is too short
            self._raise_changed(f"has {len(part)} bytes where {end - start} were announced")
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
        self._proof.close()
        self._give_back()

    def _give_back(self) -> None:
        if self._place is not None:
            self._place.release()
        self._place = None


class ProofBehind:
    """Checks the bytes of a large object in another thread, while the next ones arrive and are written.

    If other threads do so already, in this one.

    Parameters
    ----------
    proof
        What checks them.
    size
        How many there will be. For a few, or nothing to check, no thread is started.
    """

    def __init__(self, proof: ObjectProof, size: int) -> None:
        self._proof = proof
        self._thread: ThreadPoolExecutor | None = None
        self._places = _provers.get()
        if size > _FIRST_PART and not proof.is_empty and self._places.acquire(blocking=False):
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="emdstore-proof")
        self._next: list[bytes] = []
        self._room = _PROVED_AT_ONCE
        self._unproved: deque[Future[None]] = deque()

    def update(self, data: bytes) -> None:
        """See `Proof.update`; waits while too much is not yet checked."""
        if self._thread is None:
            return self._proof.update(data)
        self._next.append(data)
        self._room -= len(data)
        if self._room <= 0:
            self._hand_over(self._thread)
        return None

    def _hand_over(self, thread: ThreadPoolExecutor) -> None:
        self._unproved.append(thread.submit(self._prove, self._next))
        self._next, self._room = [], _PROVED_AT_ONCE
        if len(self._unproved) > _MOST_UNPROVED:
            self._unproved.popleft().result()

    def _prove(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._proof.update(chunk)

    def finish(self) -> None:
        """See `Proof.finish`."""
        if self._thread is not None:
            self._hand_over(self._thread)
            for each in self._unproved:
                each.result()
        self._proof.finish()

    def close(self) -> None:
        """End the thread; what it has not begun is not checked any more."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
            self._places.release()


def _stream(found: Any) -> Iterator[bytes]:
    # The engine returns at least this much at a time, and often more; `read` may return CHUNK_SIZE.
    return iter(found.stream(min_chunk_size=CHUNK_SIZE // 2))


def put_whole(
    bucket: Bucket, key: str, data: bytes | bytearray, written_ns: int | None = None, sha256: str | None = None
) -> None:
    """Put an object by one request; see `Bucket.sent_with`."""
    name = bucket.object_name(key)
    obs, client = bucket.client(len(data))
    with bucket.errors.translating("write", key):
        obs.put(client, name, data, use_multipart=False, **bucket.sent_with(key, data, written_ns, sha256=sha256))


class ObjectWriter:
    """See `ArtifactWriter`: a multipart upload, which shows when it is completed, or one request if it is small."""

    _file: Any = None
    _written_ns: int | None = None
    _sha256: str | None = None

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket, self._key, self._size = bucket, key, 0
        self._name = bucket.object_name(key)
        self._part_size = bucket.part_size
        self._is_large = False
        self._first = bytearray()

    def expect(self, size: int, written_ns: int | None = None, /) -> None:
        """See `ExpectsSize.expect`: an object has at most 10,000 parts, so those of a very large one are larger."""
        self._part_size = self._bucket.part_size_for(self._key, size)
        self._is_large = size > self._part_size
        self._written_ns = written_ns

    def take_digest(self, sha256: str, /) -> None:
        """See `TakesDigest.take_digest`."""
        self._sha256 = sha256

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
            if self._size <= self._part_size and not self._is_large:
                self._first += data
                return
            self._file = self._started()
            if self._first:
                data, self._first = bytes(self._first + data), bytearray()
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
                **self._bucket.sent_with(self._key, written_ns=self._written_ns),
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
                put_whole(self._bucket, self._key, self._first, self._written_ns, self._sha256)
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
