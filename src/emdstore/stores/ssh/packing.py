"""Packing the program that is sent over."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path

from emdstore.stores.ssh import program as far


@functools.cache
def packed_program() -> bytes:
    """Return the program as it is sent."""
    return zlib.compress(Path(far.__file__).read_bytes() + b"\nmain()\n")
