"""Where a command's work is done: in threads of this process, on a Dask cluster, or by Parsl."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import attrs
from cyclopts import Parameter

from emdstore.cli.options import LocalName, WrongCallError
from emdstore.cli.render import note
from emdstore.errors import ExecutorError, MissingExtraError, redact

_PATIENCE_SECONDS = 10


@Parameter(name="*")
@attrs.frozen
class Workers:
    """Who does the work; by default a few threads of this process.

    Attributes
    ----------
    workers
        How many threads of this process do the work; by default as many as help.
    dask
        Let the workers of a Dask cluster do it: the scheduler's address, such as tcp://host:8786, or its scheduler
        file.
    parsl
        Let Parsl do it: a Python file that defines `config`, a parsl.Config.
    """

    workers: int | None = None
    dask: LocalName | None = None
    parsl: Path | None = None

    def __attrs_post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise WrongCallError(f"--workers is at least 1, not {self.workers}")
        given = [f"--{name}" for name, value in attrs.asdict(self).items() if value is not None]
        if len(given) > 1:
            raise WrongCallError(f"{' and '.join(given)} exclude each other: give one of them")

    @contextmanager
    def engine(self) -> Iterator[Executor | None]:
        """Yield the cluster's executor; None if the work is done here."""
        if self.dask is not None:
            with _dask(self.dask) as executor:
                yield executor
        elif self.parsl is not None:
            with _parsl(self.parsl) as executor:
                yield executor
        else:
            yield None

    @contextmanager
    def executor(self) -> Iterator[Executor | None]:
        """Yield the executor for the work; None if the library may choose its threads."""
        if self.workers is None:
            with self.engine() as executor:
                yield executor
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="emdstore")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


HERE = Workers()


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
        from distributed.comm.addressing import get_address_host_port, normalize_address
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("--dask", "dask") from error
    shown = redact(address)
    try:
        if Path(address).is_file():
            client = Client(scheduler_file=address, timeout=_PATIENCE_SECONDS, set_as_default=False)
        else:
            get_address_host_port(normalize_address(address), strict=True)  # a `Client` of a wrong one is slow to end
            client = Client(address, timeout=_PATIENCE_SECONDS, set_as_default=False)
    except OSError as error:
        raise ExecutorError(
            f"no Dask scheduler answered at {shown} within {_PATIENCE_SECONDS} s: start one with `dask scheduler`, or "
            "correct the address; nothing was done"
        ) from error
    except (ValueError, KeyError) as error:
        raise WrongCallError(
            f"--dask {shown} is no address as tcp://host:8786, and no scheduler file: {error}"
        ) from error
    with client:
        if not client.nthreads():
            note(f"the Dask cluster at {shown} has no workers yet; waiting for them")
        yield client.get_executor()


@contextmanager
def _parsl(file: Path) -> Iterator[Executor]:
    if not file.is_file():
        raise WrongCallError(
            f"there is no file {str(file)!r}: give a Python file that defines `config`, a parsl.Config"
        )
    try:
        from parsl import Config
        from parsl.concurrent import ParslPoolExecutor
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("--parsl", "parsl") from error
    try:
        config = runpy.run_path(str(file)).get("config")
    except Exception as error:
        raise WrongCallError(f"{str(file)!r} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise WrongCallError(f"{str(file)!r} defines no `config` that is a parsl.Config")
    try:
        executor = ParslPoolExecutor(config)
    except Exception as error:
        raise ExecutorError(f"Parsl does not start with {str(file)!r}: {type(error).__name__}: {error}") from error
    with executor:
        yield executor
