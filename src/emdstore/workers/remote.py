"""Sending work to a worker in another process, and results or errors back, as bytes.

So the engines' own ways to pickle, to scan arguments or to recognise equal calls make no difference. The version of
emdstore is sent, too, and compared before anything else is unpickled.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from typing import Any

from emdstore import system
from emdstore._version import __version__
from emdstore.errors import ExecutorError, redact
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.secrecy import credentials_go_along

_PATIENCE_SECONDS = 10.0

Answer = tuple[str, Any]
"""The outcome of a batch (done, raised, refused) with its result, error or reason; or all of it as bytes (pickled)."""


def run_here(call: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Answer:
    """Run one batch in this process."""
    try:
        return "done", call(items)
    except Exception as error:  # noqa: BLE001 - raised again in the calling thread
        return "raised", error


def run_packed(version: str, packed: bytes, items: bytes) -> Answer:
    """Run one batch in a worker, which may have another version of emdstore."""
    if version != __version__:
        return "refused", (
            f"a worker on {system.current().host()} has emdstore {__version__}, and here it is {version}; "
            "install the same version on both sides"
        )
    try:
        call = _unpacked(packed)
    except Exception as error:  # noqa: BLE001 - unpickling may raise anything
        return "refused", (
            f"a worker on {system.current().host()} cannot load what it was sent: {said(error)}; "
            "your own store classes and the extras they need have to be installed there"
        )
    _, batch = pickle.loads(items)
    answer = run_here(call, batch)
    try:
        pickled = pickle.dumps(answer)
        pickle.loads(pickled)  # some exceptions fail only here
    except Exception as error:  # noqa: BLE001 - objects that cannot be pickled raise anything
        pickled = pickle.dumps(("raised", ExecutorError(f"a worker cannot send back {answer[1]!r}: {said(error)}")))
    return "pickled", pickled


def read_answer(answer: Answer) -> Any:
    """Return what the function returned, or raise what it raised; an `ExecutorError` if the worker refused."""
    what, value = pickle.loads(answer[1]) if answer[0] == "pickled" else answer
    if what == "refused":
        raise ExecutorError(value)
    if what == "raised":
        raise value
    return value


@functools.lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Callable[..., Any]:
    """Return the call, cached for all batches of a run, so that its stores and catalog are opened once."""
    _, call = pickle.loads(packed)
    return call  # type: ignore[no-any-return]


class _LeavingPickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if isinstance(value, InMemoryArtifactStore):
            raise TypeError(f"{value!r} exists in this process only; a copy elsewhere would be a different store")
        return NotImplemented


def pack(executor: Executor, call: Callable[..., Any]) -> bytes | None:
    """Return the call as bytes; None if it cannot be pickled but the workers are in this process."""
    written = io.BytesIO()
    # A child process may receive a store's credentials through the pipe; other workers only if the store allows it.
    sending = credentials_go_along() if _are_children(executor) else nullcontext()
    try:
        with sending:
            # The token keeps runs apart: a run with equal stores finds nothing of another run in a worker's cache.
            _LeavingPickler(written).dump((system.current().token(8), call))
    except Exception as error:
        if _is_here(executor):
            return None
        raise ExecutorError(
            f"the work cannot be sent to the executor's workers: {said(error)}; nothing was done. Use stores that "
            "other processes can open, or threads"
        ) from error
    return written.getvalue()


def _are_children(executor: Executor) -> bool:
    """Tell whether the workers are child processes of this one; by name, as the class is slow to import."""
    return any(f"{each.__module__}.{each.__name__}" == _CHILDREN for each in type(executor).__mro__)


_CHILDREN = "concurrent.futures.process.ProcessPoolExecutor"
_PROCESS = system.current().token(8)


def whereabouts() -> tuple[str, int]:
    """Identify this process among those of all machines."""
    return _PROCESS, system.own_number()


def _is_here(executor: Executor) -> bool:
    try:
        return bool(executor.submit(whereabouts).result(_PATIENCE_SECONDS) == whereabouts())
    except Exception:  # noqa: BLE001 - without an answer, it is not here
        return False


def cancel(future: Future[Any]) -> bool:
    """Cancel a future of any engine; return whether that succeeded."""
    try:
        return future.cancel()
    except NotImplementedError:  # Parsl's
        return False


def missing_module(error: BaseException | None) -> str | None:
    """Return the emdstore module that the workers could not import, if that is the cause."""
    while error is not None:
        name = getattr(error, "name", None)
        if isinstance(error, ImportError) and (name or "").partition(".")[0] == "emdstore":
            return name
        error = error.__cause__ or error.__context__
    return None


def said(error: BaseException) -> str:
    """Return an engine's error as text, with its name and without secrets."""
    return redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def refused(error: BaseException) -> ExecutorError:
    """Return the error for an executor that accepts no more work."""
    return ExecutorError(f"the executor accepts no more work: {said(error)}; start a new one and run it again")
