"""What is copied: made from fixed seeds, so that every machine measures the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from benchmarks.places import Folder, Manifest
from emdstore.demo import Ensemble, write_set

_MIB = 1024 * 1024
# Older than anything that is measured: a second run must see by the times that there is nothing to do.
_WRITTEN = 1_600_000_000

_DIMENSIONS = ("model", "variable", "region", "statistic")


@attrs.frozen
class Workload:
    """A folder of files, and what is in them."""

    name: str
    folder: Folder
    manifest: Manifest

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.manifest.values())


def make(name: str, cache: Path, *, quick: bool) -> Workload:
    """Make a workload in the cache, unless it is there.

    Parameters
    ----------
    name
        ``W1``: 5,000 files of 1 to 64 KiB in 250 folders. ``W2``: 4 files of 512 MiB. ``W3``: 200 EMDS executions,
        3,400 files, 1.5 GB. ``W4``: 800 executions of the demo's ensemble, some 8,000 files, small as bundles are.
    cache
        Where workloads are kept.
    quick
        A tenth of it, or a fifth of W4, to try things out.
    """
    full = f"{name}-quick" if quick else name
    root = cache / "workloads" / full
    noted = root.with_suffix(".json")
    if not noted.exists():
        shutil.rmtree(root, ignore_errors=True)
        manifest = {key: _write(root / key, content) for key, content in _WORKLOADS[name](10 if quick else 1)}
        noted.write_text(json.dumps(manifest))
    manifest = {key: (size, digest) for key, (size, digest) in json.loads(noted.read_text()).items()}
    return Workload(full, Folder(root), manifest)


def _write(path: Path, content: Iterator[bytes]) -> tuple[int, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in content:
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    os.utime(path, (_WRITTEN, _WRITTEN))
    return size, digest.hexdigest()


def _small_files(less: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    draw = random.Random(1)
    for folder in range(250 // less):
        for file in range(20):
            data = draw.randbytes(draw.randint(1024, 64 * 1024))
            yield f"group-{folder // 10:02}/run-{folder:03}/file-{file:02}.bin", iter([data])


def _large_files(less: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    for number in range(4):
        yield f"large-{number}.nc", _noise(number, 512 // less)


def _noise(seed: int, mebibytes: int) -> Iterator[bytes]:
    """Yield mebibytes that differ from each other and cannot be compressed, faster than they could be drawn."""
    block = random.Random(seed).randbytes(_MIB)
    for number in range(mebibytes):
        yield number.to_bytes(16) + block[16:]


def _executions(less: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    for number in range(200 // less):
        fragment = f"provider-{number % 4}/diagnostic-{number % 20:02}/group-{number % 50:02}/{number:06}"
        for key, content in emds_set(random.Random(1000 + number), plots=10, data=3):
            yield f"{fragment}/{key}", content


def _ensemble(less: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    with TemporaryDirectory() as folder:
        for run in Ensemble(executions=800 if less == 1 else None).runs():
            here = Path(folder) / run.fragment
            write_set(here, run)
            for path in sorted(each for each in here.rglob("*") if each.is_file()):
                yield path.relative_to(folder).as_posix(), iter([path.read_bytes()])
            shutil.rmtree(here)


def emds_set(draw: random.Random, *, plots: int, data: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the files of a valid set: log, three bundles, plots of some 100 KB, data of some 2 MB."""
    named = {f"plots/map of field {n} (°C).png": draw.randint(20_000, 250_000) for n in range(plots)}
    named |= {f"data/field-{n}.nc": draw.randint(500_000, 3_600_000) for n in range(data)}
    entries = {
        name: {"filename": name, "long_name": f"Field {name}", "description": "", "dimensions": {"region": "global"}}
        for name in named
    }
    output = {
        "provenance": {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"},
        "plots": {name: entry for name, entry in entries.items() if name.endswith(".png")},
        "data": {name: entry for name, entry in entries.items() if name.endswith(".nc")},
        "html": {},
        "metrics": None,
    }
    line = "2026-01-01 00:00:00 INFO diagnostic: computed one more field\n"
    yield "out.log", iter([line.encode() * draw.randint(100, 2000)])
    yield "diagnostic.json", iter([json.dumps(metric_bundle(draw, 2, 3, 4)).encode()])
    yield "output.json", iter([json.dumps(output).encode()])
    yield "series.json", iter([json.dumps(series_list(draw, 2, 120)).encode()])
    for name, size in named.items():
        yield name, iter([draw.randbytes(size)])


def metric_bundle(draw: random.Random, *shape: int, names: Sequence[str] = _DIMENSIONS) -> dict[str, object]:
    """Return a metric bundle with so many values of each dimension, every combination of which has a scalar."""
    names = names[: len(shape)]
    values = {name: [f"{name}-{n:03}" for n in range(count)] for name, count in zip(names, shape, strict=True)}

    def nest(left: Sequence[str]) -> object:
        return {value: nest(left[1:]) for value in values[left[0]]} if left else draw.uniform(-1, 1)

    dimensions = {name: {value: {"name": value} for value in each} for name, each in values.items()}
    return {"DIMENSIONS": {"json_structure": list(names), **dimensions}, "RESULTS": nest(names)}


def series_list(
    draw: random.Random, count: int, points: int, *, names: tuple[str, str] = ("model", "region")
) -> list[dict[str, object]]:
    """Return so many series of so many points, with two dimensions each."""
    index = [f"{1850 + n // 12}-{n % 12 + 1:02}" for n in range(points)]
    return [
        {
            "dimensions": {names[0]: f"model-{n:04}", names[1]: "global"},
            "values": [draw.uniform(200, 300) for _ in range(points)],
            "index": index,
            "index_name": "time",
            "attributes": {"units": "K"},
        }
        for n in range(count)
    ]


_WORKLOADS: dict[str, Callable[[int], Iterator[tuple[str, Iterator[bytes]]]]] = {
    "W1": _small_files,
    "W2": _large_files,
    "W3": _executions,
    "W4": _ensemble,
}
