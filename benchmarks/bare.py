"""The bare copy as a program: ``python -m benchmarks.bare SOURCE DEST``.

It starts as emdstore's command line has to: Python, the parser of the command line, and the library of its values. So
this is the limit of the command, as `benchmarks.limits` alone is that of the library.
"""

from __future__ import annotations

import attrs  # noqa: F401 - what is measured here is its import
import cyclopts

from benchmarks import limits

_app = cyclopts.App(name="bare")


@_app.default
def copy(source: str, dest: str) -> None:
    """Copy what lies at one URL to another."""
    limits.copy(source, dest)


if __name__ == "__main__":
    _app()
