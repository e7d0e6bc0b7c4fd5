"""obstore's extension module, usable in this process even after a fork.

obstore runs every request on its own threads, which are started once per process and kept in the extension's static
memory. A fork copies that memory but not the threads, so in the child the next request would wait forever. A second
copy of the shared library, loaded from another file, has its own static memory, and threads that the child starts. Each
forked child needs some 40 ms and the size of the library for this. In return ``fork``, the default of `multiprocessing`
on Linux before Python 3.14, works like ``spawn``.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emdstore import system
from emdstore.errors import MissingExtraError
from emdstore.per_process import PerProcess

_threads_lost = False


def extension() -> Any:
    """Return the module ``obstore._obstore``, with threads that run in this process.

    Raises
    ------
    MissingExtraError
        If obstore is not installed.
    """
    return _extension.get()


def _load() -> Any:
    try:
        from obstore import _obstore
    except ImportError as error:
        raise MissingExtraError.of("S3ArtifactStore", "s3") from error
    return _second_copy(_obstore.__file__) if _threads_lost else _obstore


_extension: PerProcess[Any] = PerProcess(_load)


def _note_fork() -> None:
    global _threads_lost
    # Even if emdstore has not used it: somebody else in this process may have.
    _threads_lost = "obstore" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _second_copy(library: str) -> Any:
    with _copied(library) as path:
        # The last part of the name is what the library's entry point is called after.
        loader = importlib.machinery.ExtensionFileLoader("_obstore", path)
        spec = importlib.util.spec_from_file_location("_obstore", path, loader=loader)
        assert spec is not None
        registered = {name: module for name, module in sys.modules.items() if name.startswith("obstore")}
        try:
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
        finally:
            sys.modules.update(registered)  # it has replaced obstore's submodules with its own
    return module


@contextlib.contextmanager
def _copied(library: str) -> Iterator[str]:
    """Yield a path to the library's bytes from which nothing was ever loaded."""
    content = Path(library).read_bytes()
    if hasattr(os, "memfd_create"):  # needs no writable folder that programs may run from
        with os.fdopen(os.memfd_create("obstore", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/{system.own_number()}/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory(prefix="emdstore-") as folder:
        path = Path(folder) / Path(library).name
        path.write_bytes(content)
        yield str(path)
