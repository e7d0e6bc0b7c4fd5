"""The command line: parse, call, render. What it does is in the library; see `emdstore.cli.app` for the commands."""

from __future__ import annotations

import gc
import sys

_NEEDED = {"cyclopts", "rich"}


def main() -> int:
    """Run the command line with the arguments of this process and return its exit code."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        # Answered before anything is imported that takes its time: scripts ask this often.
        from emdstore._version import __version__

        print(__version__)
        return 0
    gc.disable()  # what is imported stays, and looking through it for garbage takes a tenth of the time
    try:
        from emdstore.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        from emdstore.errors import MissingExtraError

        print(f"error: {MissingExtraError.of('the command line', 'cli')}", file=sys.stderr)
        return 2
    gc.freeze()
    gc.enable()
    return run(arguments)
