"""What real frameworks wrote: the regression sets of Climate-REF's four providers.

They are fetched from the package index when tests need them, as nothing of another project is kept in this one. The
source distributions hold the three bundles of each set, with a word in place of the folder that the diagnostic ran in.
What the bundles name beside that (plots, data, pages) is written here, so that a set is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
from filelock import FileLock
from tests.pictures import picture

VERSION = "0.20.2"
PROVIDERS = {
    "example": "7ef6834aa0d9f5bf4bafe7e8ba0f8538bd4c5b1cf896474c09a7251288f17a2e",
    "esmvaltool": "ea7ed872dc85a037f73676d5e7c406083b35bd1f2d8529a0b820f6fe0d93a962",
    "ilamb": "ce6a7bfbda2bedeb9cf4fcac8ab0f839e1de34c0d7f73b7c8cf92f9fc6ade7e5",
    "pmp": "adef2a1a862d7271ae43f1f611e7a2dbf876b01dcf54176f25e19dc4f026602c",
}
"""The providers, and the SHA-256 of the source distribution of each."""
SHA256 = PROVIDERS | {"core": "99d8d578a658b53affeed8ade75b86325aca8c1b52a22cb8515e6a0111ff8c11"}
"""With the core, which holds the vocabulary."""

BUNDLES = ("diagnostic.json", "output.json", "series.json")
RAN_IN = "<OUTPUT_DIR>"
ELSEWHERE = "/home/evaluation/" + "a-file-system-whose-folders-have-long-names/" * 4 + "scratch"
"""Where the runs of the results tree were: nowhere on this machine, and with long names."""
UNNAMED = "work/unnamed.tmp"
"""A file that every run left and no bundle names."""


class CannotFetchError(Exception):
    """The package index gives no answer, or not the files."""


@attrs.frozen
class Counts:
    """What is in a set: the files that its bundle names, its values, its series and all their points."""

    files: int
    scalars: int
    series: int
    points: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


@attrs.frozen
class RealSet:
    """One set.

    Attributes
    ----------
    fragment
        Its folder in each tree: provider, diagnostic, case, and 1 as the execution.
    counts
        By reading the JSON as the format says, without emdstore.
    named
        The files that its bundle names, relative to its folder.
    """

    fragment: str
    counts: Counts
    named: frozenset[str]

    @property
    def provider(self) -> str:
        return self.fragment.partition("/")[0]


@attrs.frozen
class RealSets:
    """All sets, twice. Not to be changed.

    Attributes
    ----------
    scratch
        A folder for each run as the run left it, with a log and a file that does not belong to the set.
    results
        What a framework without records published of other runs, on another machine, whose folders the bundles still
        name. Logs and NetCDF files were left behind.
    sets
        What is in each set, by fragment.
    vocabulary
        The file of the dimensions that the sets may have.
    """

    scratch: Path
    results: Path
    sets: Mapping[str, RealSet]
    vocabulary: Path

    def __iter__(self) -> Iterator[RealSet]:
        return iter(self.sets.values())

    @property
    def total(self) -> Counts:
        return sum((each.counts for each in self), Counts(0, 0, 0, 0))


# Read at import: a test may move the variable.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emdstore-tests"


def fetch(folder: Path = CACHE) -> dict[str, Path]:
    """Return the source distributions by provider; download what is not in the folder yet, or not whole.

    Processes that ask at the same time wait for the one that downloads.

    Raises
    ------
    CannotFetchError
        With what pip said. Nothing else than whole files is in the folder.
    """
    archives = {name: folder / f"climate_ref_{name}-{VERSION}.tar.gz" for name in SHA256}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "fetching.lock"):
        absent = [name for name, path in archives.items() if not _is_whole(path, SHA256[name])]
        if absent:
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                _download(absent, Path(fresh))
                for name in absent:
                    Path(fresh, archives[name].name).replace(archives[name])
    return archives


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _download(names: list[str], folder: Path) -> None:
    """Have pip download source distributions of the recorded digests, from the index that it is set up for."""
    pins = "".join(f"climate-ref-{name}=={VERSION} --hash=sha256:{SHA256[name]}\n" for name in names)
    (folder / "requirements.txt").write_text(pins)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # Their Python does not matter, as none of it is run; only they come as sources, not what pip reads them with.
    command += ["--no-deps", "--ignore-requires-python", "--no-binary", ",".join(f"climate-ref-{n}" for n in names)]
    command += ["--requirement", str(folder / "requirements.txt"), "--dest", str(folder)]
    command += ["--retries", "1", "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise CannotFetchError(f"pip cannot download Climate-REF's source distributions: {' '.join(said)[:1000]}")


def make(archives: Mapping[str, Path], folder: Path) -> RealSets:
    """Make both trees in an empty folder."""
    unpacked = dict(_unpack(archives))
    scratch, results = folder / "scratch", folder / "results"
    sets = {}
    for fragment, bundles in sorted(unpacked.items()):
        sets[fragment] = _count(fragment, bundles)
        _write(scratch / fragment, bundles, str(scratch / fragment), {"out.log", *sets[fragment].named})
        (scratch / fragment / UNNAMED).parent.mkdir(exist_ok=True)
        (scratch / fragment / UNNAMED).write_text("left behind by the run\n")
        kept = {key for key in sets[fragment].named if not key.endswith(".nc")}
        _write(results / fragment, bundles, f"{ELSEWHERE}/{fragment}", kept)
    with tarfile.open(archives["core"]) as tar:
        (member,) = (each for each in tar if each.name.endswith("/pycmec/cv_cmip7_aft.yaml"))
        vocabulary = folder / "vocabulary.yaml"
        vocabulary.write_bytes(_content(tar, member))
    return RealSets(scratch, results, sets, vocabulary)


def _unpack(archives: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for provider in PROVIDERS:
        found: dict[str, dict[str, bytes]] = {}
        with tarfile.open(archives[provider]) as tar:
            for member in tar:
                match PurePosixPath(member.name).parts:
                    case (_, "tests", "test-data", diagnostic, case, "regression", name) if name in BUNDLES:
                        found.setdefault(f"{provider}/{diagnostic}/{case}/1", {})[name] = _content(tar, member)
        yield from found.items()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None, member.name
    return opened.read()


def _write(folder: Path, bundles: Mapping[str, bytes], ran_in: str, others: Iterable[str]) -> None:
    folder.mkdir(parents=True)
    for name, data in bundles.items():
        (folder / name).write_bytes(data.replace(RAN_IN.encode(), ran_in.encode()))
    for key in others:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stand_in(key))


def stand_in(key: str) -> bytes:
    """Return what a file holds that the source distributions do not: the same for the same name."""
    if key.endswith(".png"):
        return picture(key, 16, 10)
    if key.endswith(".html"):
        return f"<!doctype html><title>stands in</title><p>{key}</p>\n".encode()
    return f"stands in for {key}\n".encode()


# -- counting, as the format says and not as emdstore does -------------------------------------------------------------


def _count(fragment: str, bundles: Mapping[str, bytes]) -> RealSet:
    metric, output, series = (json.loads(bundles[name]) for name in BUNDLES)
    named = frozenset(
        entry["filename"].removeprefix(f"{RAN_IN}/")
        for kind in ("plots", "data", "html")
        for entry in (output.get(kind) or {}).values()
    )
    depth = len(metric["DIMENSIONS"]["json_structure"])
    scalars = _leaves(metric["RESULTS"], depth) if metric["RESULTS"] else 0
    points = sum(len(one["values"]) for one in series)
    return RealSet(fragment, Counts(len(named), scalars, len(series), points), named)


def _leaves(table: Mapping[str, Any], depth: int) -> int:
    inner = [table[name] for name in table if name != "attributes"]
    return len(inner) if depth == 1 else sum(_leaves(each, depth - 1) for each in inner)
