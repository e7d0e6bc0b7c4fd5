"""Workers that are forks of this process, for work done mostly in Python: many small local files, many commits.

Copying a small file takes a dozen system calls, and around each of them threads pass the GIL to each other: two
threads need nearly as long as one, two processes half as long. A fork takes milliseconds, a new interpreter a
tenth of a second.

A fork is dangerous if other threads hold locks, so a process is forked only while it has a single thread, by the
operating system's count. The S3 engine starts threads with its first request, so forks for an object store have to be
created before. A worker ignores Ctrl-C, which its parent handles, and ends when its parent ends.
"""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

from emdstore.workers.watch import Monitor, Stopped, mark_as_fork

MOST_FORKS = 255
"""Workers are numbered with single bytes."""


def can_fork() -> bool:
    """Tell whether this process has a single thread; False if the system does not say."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class ForkWatch:
    """Shared by workers and their parent: a count of bytes for each worker, and whether to stop."""

    def __init__(self, workers: int) -> None:
        # Each count has a single writer, so no lock is needed.
        self._cells = memoryview(mmap.mmap(-1, 8 * (workers + 1))).cast("q")

    @property
    def bytes(self) -> int:
        """The number of bytes copied."""
        return sum(self._cells[1:])

    def stop(self) -> None:
        """Make the workers stop, even in the middle of an artifact."""
        self._cells[0] = 1

    def count(self, worker: int, count: int) -> None:
        """Count bytes that a worker has copied; raises `Stopped` if it should end."""
        if self._cells[0]:
            raise Stopped
        self._cells[worker + 1] += count


class Forks(ProcessPoolExecutor):
    """Forks of this process.

    Parameters
    ----------
    workers
        How many; at most `MOST_FORKS`.

    Attributes
    ----------
    watch
        What they share with this process.
    monitor
        The function that they call with the number of bytes they have copied.
    """

    monitor: Monitor

    def __init__(self, workers: int) -> None:
        self.watch, self.monitor = ForkWatch(workers), _count
        self._pipes: tuple[tuple[int, int], ...] = (os.pipe(), os.pipe())
        (numbers, more_numbers), line = self._pipes
        for number in range(workers):
            os.write(more_numbers, bytes([number]))
        super().__init__(workers, multiprocessing.get_context("fork"), _begin, (self.watch, numbers, *line))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor.shutdown`."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for fd in (fd for pipe in self._pipes for fd in pipe):
            os.close(fd)
        self._pipes = ()


_watch: ForkWatch
_number: int


def _begin(watch: ForkWatch, numbers: int, line: int, parents_end: int) -> None:
    global _watch, _number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _watch, _number = watch, os.read(numbers, 1)[0]
    os.close(parents_end)
    mark_as_fork()
    gc.freeze()  # collecting the parent's objects would copy their memory
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()


def _end_with_parent(line: int) -> None:
    os.read(line, 1)  # returns when the other end is closed, by the parent or by its death
    os._exit(1)


def _count(count: int, /) -> None:
    _watch.count(_number, count)
