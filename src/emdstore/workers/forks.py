"""Workers that are forks of this process, for what is done mostly in Python: many small local files, many commits.

To copy a small file takes a dozen system calls, and around each of them threads hand Python's lock to one another: two
threads need nearly as long as one, two processes half as long. A fork takes milliseconds and a fresh interpreter a
tenth of a second, which is why these are forks.

What makes a fork dangerous is what other threads were just doing, so a process is forked only while it has a single
thread, by the operating system's count. The engine for S3 starts threads with its first request, so who wants forks for
an object store has to take them before. A worker leaves Ctrl-C to its parent, and ends when its parent has ended.
"""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

from emdstore.workers.watch import Monitor, Stopped

MOST_FORKS = 255
"""Their numbers are single bytes."""


def can_fork() -> bool:
    """Tell whether this process has a single thread, on a system that tells."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class ForkWatch:
    """What workers and their parent share: a count of bytes for each worker, and whether to stop."""

    def __init__(self, workers: int) -> None:
        # Each count is written by one process alone, so there is no lock.
        self._cells = memoryview(mmap.mmap(-1, 8 * (workers + 1))).cast("q")

    @property
    def bytes(self) -> int:
        """The bytes that have moved."""
        return sum(self._cells[1:])

    def stop(self) -> None:
        """Have the workers stop in the middle of what they do."""
        self._cells[0] = 1

    def count(self, worker: int, count: int) -> None:
        """Take note of bytes that a worker has moved; raises `Stopped` if it is to end."""
        if self._cells[0]:
            raise Stopped
        self._cells[worker + 1] += count


class Forks(ProcessPoolExecutor):
    """Forks of this process.

    Parameters
    ----------
    workers
        How many; `MOST_FORKS` at most.

    Attributes
    ----------
    watch
        What they share with this process.
    monitor
        What they call with the bytes that they move.
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
    gc.freeze()  # what the parent had made by then: to look through it again and again would copy its memory, too
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()


def _end_with_parent(line: int) -> None:
    os.read(line, 1)  # comes back when the last other end is closed, by the parent or by its death
    os._exit(1)


def _count(count: int, /) -> None:
    _watch.count(_number, count)
