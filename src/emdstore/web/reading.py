"""Reading the results store for the site: which artifacts are there, the end of a log, verified bytes."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import attrs

from emdstore import system
from emdstore.catalog import ArtifactRow
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, IncompleteSetError, StoreError, StoreUnavailableError
from emdstore.keys import join_key
from emdstore.sets.cause import LOG_BYTES, Cause, find_cause
from emdstore.stores import ArtifactStore, LocalArtifactStore, SupportsInfo, SupportsStreaming, scoped
from emdstore.stores.port import CHUNK_SIZE
from emdstore.transfers import digest_of

T = TypeVar("T")

PATIENCE = 6.0
"""Seconds that a page waits for the results store before it is shown without it."""

_RETRY_AFTER_SECONDS = 15.0
_LOG_LINES = 60
_LONGEST_LOG = 64 * 1024 * 1024
_READ_AHEAD = 4 * 1024 * 1024


@attrs.frozen
class LogEnd:
    """The last lines of a log, and whether there are more before them."""

    text: str
    cut: bool

    @property
    def cause(self) -> Cause | None:
        """What it says of a failure."""
        return find_cause(self.text)

    @property
    def lines(self) -> tuple[tuple[str, bool], ...]:
        """Its lines, and of each whether it names the cause of a failure."""
        cause = self.cause
        return tuple(
            (line, cause is not None and number == cause.line) for number, line in enumerate(self.text.splitlines())
        )


@attrs.frozen
class Look:
    """The state of one execution in the results store.

    Attributes
    ----------
    sizes
        The sizes of the artifacts that are there, in bytes; None for a size that the store does not provide. None as a
        whole if the store did not answer.
    log
        The end of the log, if there is one.
    problem
        Why the store did not answer.
    """

    sizes: Mapping[str, int | None] | None = None
    log: LogEnd | None = None
    problem: str | None = None

    def state(self, artifact: ArtifactRow) -> str:
        """Return the state of an artifact: ``there``, ``missing``, ``changed`` (another size) or ``unknown``."""
        if self.sizes is None:
            return "unknown"
        if artifact.key not in self.sizes:
            return "missing"
        size = self.sizes[artifact.key]
        return "changed" if None not in (size, artifact.size) and size != artifact.size else "there"


@attrs.frozen
class Recheck:
    """The result of hashing an artifact again: ``ok``, ``corrupt``, ``missing``, ``unreadable`` or ``unrecorded``."""

    outcome: str
    detail: str = ""


class ResultsReader:
    """Reads the results store for the site, with a limit on how long a page waits.

    Parameters
    ----------
    results
        The store.
    patience
        Seconds after which a page is shown without the store's answer. For some seconds after that, optional requests
        are not sent.
    """

    def __init__(self, results: ArtifactStore, *, patience: float = PATIENCE) -> None:
        self.store = results
        self._patience = patience
        self._ask_again_at = 0.0

    def look(self, fragment: str, log: ArtifactRow | None) -> Look:
        """List an execution's artifacts, and read the end of its log. Errors are in the result."""
        folder = scoped(self.store, fragment)

        def ask() -> Look:
            sizes = dict(_listing(folder))
            return Look(sizes, _log_end(folder, log) if log is not None and log.key in sizes else None)

        try:
            return self.ask(ask)
        except EmdstoreError as error:
            return Look(problem=str(error))

    def ask(self, call: Callable[[], T]) -> T:
        """Return the answer to a question to the store, if it comes in time; otherwise `StoreUnavailableError`."""
        if system.current().monotonic() < self._ask_again_at:
            raise StoreUnavailableError("the results store did not answer a moment ago")
        try:
            return _within(self._patience, call)
        except StoreUnavailableError:
            self._ask_again_at = system.current().monotonic() + _RETRY_AFTER_SECONDS
            raise

    def check(self, artifacts: Sequence[ArtifactRow]) -> dict[str, Recheck]:
        """Hash artifacts again and compare them with their record."""
        return {each.key: self._check(each) for each in artifacts}

    def _check(self, artifact: ArtifactRow) -> Recheck:
        try:
            size, digest = digest_of(scoped(self.store, artifact.fragment), artifact.key)
        except ArtifactNotFoundError:
            return Recheck("missing", "the record names it, but it is not there")
        except EmdstoreError as error:
            return Recheck("unreadable", str(error))
        if artifact.sha256 is None:
            return Recheck("unrecorded", f"{size} bytes, SHA-256 {digest}; no digest was recorded to compare it with")
        if (size, digest) == (artifact.size, artifact.sha256):
            return Recheck("ok")
        return Recheck("corrupt", f"{size} bytes, SHA-256 {digest}")

    def read(self, artifact: ArtifactRow) -> Iterator[bytes]:
        """Return the bytes of an artifact, in bounded memory.

        Raises
        ------
        ArtifactNotFoundError
            If it is not there.
        IncompleteSetError
            If it is not as recorded: from this call if it is small, otherwise before its last bytes are yielded.
        StoreError
            If the store failed.
        """
        chunks = _as_recorded(_chunks(self.store, join_key(artifact.fragment, artifact.key)), artifact)
        ahead, size = [], 0
        for chunk in chunks:
            ahead.append(chunk)
            size += len(chunk)
            if size >= _READ_AHEAD:
                break
        return itertools.chain(ahead, chunks)

    def read_range(self, artifact: ArtifactRow, start: int, stop: int) -> Iterator[bytes]:
        """Return the bytes from `start` up to `stop`, which cannot be compared with the record."""
        key = join_key(artifact.fragment, artifact.key)
        if isinstance(self.store, LocalArtifactStore):
            chunks = _file_part(self.store, key, start)
        else:
            chunks = _from(_chunks(self.store, key), start)
        first = next(chunks, b"")  # raises for a missing artifact before anything is sent
        return _up_to(itertools.chain([first], chunks), stop - start)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Call a function, but stop waiting after some time. Its thread may continue, but does not delay the exit."""
    answer: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            raised.append(error)

    thread = threading.Thread(target=run, name="emdstore-web-look", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not answer:
        raise StoreUnavailableError(f"the results store did not answer within {seconds:.0f} seconds")
    return answer[0]


def _listing(folder: ArtifactStore) -> Iterator[tuple[str, int | None]]:
    if isinstance(folder, SupportsInfo):
        return ((info.key, info.size) for info in folder.iter_info())
    return ((key, None) for key in folder.iter_keys())


def _log_end(folder: ArtifactStore, log: ArtifactRow) -> LogEnd | None:
    if isinstance(folder, LocalArtifactStore):
        chunks = _file_part(folder, log.key, -LOG_BYTES - 1)
    elif (log.size or 0) > _LONGEST_LOG:
        return None
    else:
        chunks = _chunks(folder, log.key)
    end = b""
    for chunk in chunks:
        end = (end + chunk)[-LOG_BYTES - 1 :]
    lines = end.decode("utf-8", "replace").splitlines()
    return LogEnd("\n".join(lines[-_LOG_LINES:]), len(end) > LOG_BYTES or len(lines) > _LOG_LINES)


def _chunks(store: ArtifactStore, key: str) -> Iterator[bytes]:
    if not isinstance(store, SupportsStreaming):
        yield store.read_bytes(key)
        return
    with store.open_reader(key) as reader:
        while chunk := reader.read(CHUNK_SIZE):
            yield chunk


def _as_recorded(chunks: Iterator[bytes], artifact: ArtifactRow) -> Iterator[bytes]:
    """Yield chunks, each once the next one has arrived, and the last one only if all are as recorded."""
    if artifact.sha256 is None:
        yield from chunks
        return
    digest, held = hashlib.sha256(), b""
    for chunk in chunks:
        if held:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != artifact.sha256:
        raise IncompleteSetError(
            f"{artifact.key!r} of {artifact.fragment!r} does not match its record: its bytes were changed after it was "
            "published; repair the set or promote it again",
            key=join_key(artifact.fragment, artifact.key),
        )
    yield held


def _file_part(store: LocalArtifactStore, key: str, start: int) -> Iterator[bytes]:
    """Read a file from a position, counted from its end if negative.

    The store opens the descriptor, so it is always a regular file inside the store, and opening a pipe does not block.
    """
    fd, status = store.ground.open_file(key)
    try:
        position = start if start >= 0 else max(0, status.st_size + start)
        while chunk := os.pread(fd, CHUNK_SIZE, position):
            position += len(chunk)
            yield chunk
    except OSError as error:
        raise StoreError(f"{key!r} in {store!r} cannot be read: {error.strerror}", key=key) from error
    finally:
        os.close(fd)


def _from(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
    for chunk in chunks:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))


def _up_to(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return
