"""Python in another process: killed, interrupted, on a full disk, or measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

SEE_WORKERS = """
import json, multiprocessing, os, signal, sys, threading, time

workers = set()

def see_workers(then):
    workers.update(child.pid for child in multiprocessing.active_children())
    if workers and then != "nothing":
        print(json.dumps(sorted(workers)), flush=True)
        if then == "wait":
            time.sleep(60)
        elif then == "interrupt":
            signal.raise_signal(signal.SIGINT)
        elif then == "lose one":
            os.kill(min(workers), signal.SIGKILL)
            time.sleep(0.2)

def rename_slowly(seconds):
    rename = os.rename

    def slowly(*names, **folders):
        time.sleep(seconds)  # so that there is something left to do when something happens
        rename(*names, **folders)

    os.rename = slowly
"""
"""Code for a child that looks at its own forked workers, says which they are, and has something happen to them."""


def start_python(code: str, *args: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a fresh interpreter on some code; `before` is the command that it is run by, if any."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def answer_of(child: subprocess.Popen[str], *, patience: float = 120) -> Any:
    """Wait for the end of the child and return the JSON value that its last line of output is."""
    assert child.stdout is not None
    assert child.stderr is not None
    overdue = threading.Timer(patience, child.kill)
    overdue.start()
    try:
        # Not `communicate`, which would miss what a `readline` before it has put into the buffer.
        out, err = child.stdout.read(), child.stderr.read()
        child.wait()
    finally:
        overdue.cancel()
        child.kill()
    assert child.returncode == 0, f"the child ended with {child.returncode}:\n{err}"
    return json.loads(out.splitlines()[-1])


def answer_from_mount(options: str, folder: Path, code: str) -> Any:
    """Run code where `folder`, its first argument, is a file system of its own, made by ``mount -t tmpfs -o options``.

    The file system is in a mount namespace of the child's: nobody else sees it, and it goes with the child.
    """
    return answer_of(start_python(code, folder, before=_on_mount(options, folder)))


def may_mount() -> bool:
    """Say whether `answer_from_mount` can work: whoever calls it needs the group ``mounts``."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        tried = [*_on_mount("size=1m", Path(folder)), "true"]
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def _on_mount(options: str, folder: Path) -> tuple[str, ...]:
    namespace = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    return (*namespace, "sh", "-c", f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"', str(folder))
