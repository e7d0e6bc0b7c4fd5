"""The command that looks at an installation and tries a store."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from importlib import metadata

from emdstore._version import __version__
from emdstore.cli.options import ANY, PLAIN, Access, Output, open_existing
from emdstore.cli.render import note, say, show_document, show_table
from emdstore.stores.checkup import Checked, try_store

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OURS = (
    "EMDSTORE_",
    "AWS_",
    "AZURE_",
    "GOOGLE_",
    "GCLOUD_",
    "PG",
    "REF_",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
)


def doctor(store: str | None = None, /, *, access: Access = ANY, output: Output = PLAIN) -> int:
    """Look at this installation and, if one is named, try a store. Exit code 1 if there is a problem.

    The store is tried in a folder of its own below .emdstore/, which is removed afterwards: reading, writing, order of
    listings, conditional writes, clock, checksums, speed. With --json it is what a bug report needs; values of
    variables, which may be secrets, are not told.

    Parameters
    ----------
    store
        A folder or a URL.
    """
    installed = list(_installed())
    variables = sorted(name for name in os.environ if name.upper().startswith(_OURS))
    checks = [] if store is None else list(try_store(open_existing(store, access)))
    problems = [each for each in checks if each.outcome == "problem"]
    code = 1 if problems else 0
    if output.json:
        versions = dict(installed)
        return show_document("doctor", {"versions": versions, "variables": variables, "checks": checks}, code)
    show_table(("part", "version"), installed)
    if variables:
        say(f"\nset in the environment: {', '.join(variables)}")
    if store is None:
        note("\nname a store to try it, too")
        return code
    say("")
    show_table(("tried", "outcome", "found"), [(each.name, each.outcome, each.detail) for each in checks])
    for remedy, names in _by_remedy(checks).items():
        say(f"\n{', '.join(names)}: {remedy}")
    return code


def _by_remedy(checks: list[Checked]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in checks:
        if each.remedy:
            found.setdefault(each.remedy, []).append(each.name)
    return found


def _installed() -> Iterator[tuple[str, str]]:
    yield "emdstore", __version__
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"
    yield "SQLite", sqlite3.sqlite_version
    yield "ssh", _version_of_ssh()
    for name, extras in _requirements().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = f"not installed; it comes with emdstore[{extras[0]}]" if extras else "not installed"
        yield name, version


def _version_of_ssh() -> str:
    if shutil.which("ssh") is None:
        return "not installed; ssh:// and sftp:// need it"
    try:
        done = subprocess.run(["ssh", "-V"], capture_output=True, stdin=subprocess.DEVNULL, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return "it does not run"
    return done.stderr.decode(errors="replace").strip()


_NOT_FOR_USE = {"test", "test-all", "dev", "docs", "testing", "all"}


def _requirements() -> dict[str, list[str]]:
    """Return what emdstore uses, each with the extras that bring it; none for what is always needed."""
    found: dict[str, list[str]] = {}
    for requirement in metadata.requires("emdstore") or ():
        named = _NAME.match(requirement)
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement)
        if named is None or named[0] == "emdstore" or (extra and extra[1] in _NOT_FOR_USE):
            continue
        extras = found.setdefault(named[0], [])
        if extra:
            extras.append(extra[1])
    return dict(sorted(found.items(), key=lambda each: (bool(each[1]), each[0])))
