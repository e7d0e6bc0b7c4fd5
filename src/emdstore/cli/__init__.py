"""The command line: parse, call, render. What it does is in the library; see `emdstore.cli.app` for the commands."""

from __future__ import annotations

import gc
import os
import sys

_NEEDED = {"cyclopts", "rich"}


def main() -> int:
    """Run the command line with the arguments of this process and return its exit code."""
    _be_in_utf_8_mode()
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        # Answered before anything is imported that takes its time: scripts ask this often.
        _show_versions()
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
    except KeyboardInterrupt:  # from `run` on it is told as the command tells all else
        print("error: interrupted", file=sys.stderr)
        return 130
    gc.freeze()
    gc.enable()
    code = run(arguments)
    if code > 128:
        _leave_threads_behind(code)
    return code


_ENGINES = ("fsspec", "obstore", "s3fs", "SQLAlchemy", "psycopg", "pyarrow")


def _show_versions() -> None:
    """Print the version, and in a second line those of the engines that are installed."""
    import sqlite3

    from emdstore._version import __version__

    installed = _installed()
    engines = [f"Python {sys.version.split()[0]}", f"SQLite {sqlite3.sqlite_version}"]
    engines += [f"{name} {installed[name.lower()]}" for name in _ENGINES if name.lower() in installed]
    print(__version__)
    print(", ".join(engines))


def _installed() -> dict[str, str]:
    """Return the version of each distribution by its name in small letters, from the names of their folders.

    ``importlib.metadata`` says the same, and takes longer to import than all the rest of ``--version``.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            stem, is_one, kind = name.rpartition(".")
            if is_one and kind in ("dist-info", "egg-info"):
                distribution, _, version = stem.partition("-")
                found.setdefault(distribution.lower(), version.partition("-")[0])
    return found


def _be_in_utf_8_mode() -> None:
    """Begin again, if the locale has Python read names of files and arguments as something else than UTF-8."""
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _leave_threads_behind(code: int) -> None:
    """End the process, if threads are left that wait for a server: Python would wait for them, however long."""
    import threading

    if all(each.daemon or each is threading.main_thread() for each in threading.enumerate()):
        return
    from emdstore.stores.local.sessions import discard_staged

    discard_staged()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
