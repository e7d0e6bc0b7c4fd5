"""To a worker in another process and back: bytes that this module makes and reads again, and what went wrong.

An engine's own ways to pickle, to scan arguments or to recognise equal calls make no difference then. The version of
emdstore travels along and is compared before anything else is unpickled.
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
"""What came of a batch (done, raised, refused), and the result, error or reason; or all that in bytes (pickled)."""


def run_here(call: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Answer:
    """Do one batch in this process."""
    try:
        return "done", call(items)
    except Exception as error:  # noqa: BLE001 - raised again in the thread that asked
        return "raised", error


def run_packed(version: str, packed: bytes, items: bytes) -> Answer:
    """Do one batch in a worker, which may have another emdstore."""
    if version != __version__:
        return "refused", (
            f"a worker on {system.current().host()} has emdstore {__version__}, and here it is {version}; "
            "install the same one on both sides"
        )
    try:
        call = _unpacked(packed)
    except Exception as error:  # noqa: BLE001 - unpickling may raise anything
        return "refused", (
            f"a worker on {system.current().host()} cannot load what it was sent: {said(error)}; "
            "stores of your own have to be in a module that is installed there, and extras too"
        )
    _, batch = pickle.loads(items)
    answer = run_here(call, batch)
    try:
        pickled = pickle.dumps(answer)
        pickle.loads(pickled)  # an exception may refuse only now
    except Exception as error:  # noqa: BLE001 - whatever refuses to be pickled has its own error
        pickled = pickle.dumps(("raised", ExecutorError(f"a worker cannot send back {answer[1]!r}: {said(error)}")))
    return "pickled", pickled


def read_answer(answer: Answer) -> Any:
    """Return what the function returned; raise what it raised, or why the worker refused."""
    what, value = pickle.loads(answer[1]) if answer[0] == "pickled" else answer
    if what == "refused":
        raise ExecutorError(value)
    if what == "raised":
        raise value
    return value


@functools.lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Callable[..., Any]:
    """Return the call; the same one for all batches of a run, so that its stores and catalog are opened once."""
    _, call = pickle.loads(packed)
    return call  # type: ignore[no-any-return]


class _LeavingPickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if isinstance(value, InMemoryArtifactStore):
            raise TypeError(f"{value!r} lives in this process, and a copy of it elsewhere would be another store")
        return NotImplemented


def pack(executor: Executor, call: Callable[..., Any]) -> bytes | None:
    """Return the call as bytes; None if it cannot be pickled and need not be, as the workers are in this process."""
    written = io.BytesIO()
    # Through a pipe to a process of our own a store's credentials may go; elsewhere only if the store says so.
    sending = credentials_go_along() if _are_children(executor) else nullcontext()
    try:
        with sending:
            # Of this run alone: another one with equal stores finds nothing of this one in a worker's memory.
            _LeavingPickler(written).dump((system.current().token(8), call))
    except Exception as error:
        if _is_here(executor):
            return None
        raise ExecutorError(
            f"the work cannot be sent to the executor's workers: {said(error)}; nothing was done. Give it stores that "
            "other processes can open, or use threads"
        ) from error
    return written.getvalue()


def _are_children(executor: Executor) -> bool:
    """Tell whether the workers are child processes of this one; by name, as the class is slow to import."""
    return any(f"{each.__module__}.{each.__name__}" == _CHILDREN for each in type(executor).__mro__)


_CHILDREN = "concurrent.futures.process.ProcessPoolExecutor"
_PROCESS = system.current().token(8)


def whereabouts() -> tuple[str, int]:
    """Tell which process this is, among all of all machines."""
    return _PROCESS, system.own_number()


def _is_here(executor: Executor) -> bool:
    try:
        return bool(executor.submit(whereabouts).result(_PATIENCE_SECONDS) == whereabouts())
    except Exception:  # noqa: BLE001 - no answer: it is not here
        return False


def cancel(future: Future[Any]) -> bool:
    """Cancel a future, of any engine; return whether that could be done."""
    try:
        return future.cancel()
    except NotImplementedError:  # Parsl's
        return False


def missing_module(error: BaseException | None) -> str | None:
    """Return the module of emdstore's that an engine could not import where its workers are, if that is the cause."""
    while error is not None:
        name = getattr(error, "name", None)
        if isinstance(error, ImportError) and (name or "").partition(".")[0] == "emdstore":
            return name
        error = error.__cause__ or error.__context__
    return None


def said(error: BaseException) -> str:
    """Return what an engine's error says, with its name, fit to be shown."""
    return redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def refused(error: BaseException) -> ExecutorError:
    """Return the error of an executor that takes no more work."""
    return ExecutorError(f"the executor takes no more work: {said(error)}; start a new one and run it again")
