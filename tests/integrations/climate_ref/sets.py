"""Artifact sets as diagnostics leave them in scratch: written by hand, and generated."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KINDS = ("plots", "data", "html")
USUAL_NAMES = ("diagnostic.json", "output.json", "series.json")

# Columns of every version, so that nothing of a generated set is dropped by any.
_COLUMNS = ("source_id", "variable_id", "experiment_id", "member_id", "metric", "region", "season", "statistic")
_WORDS = ("global", "NINO3.4", "south of 60°S", "été", "été", "50%", "a.b-c_d", "it's", '"q"', "雪", "tas")
_FOLDERS = ("", "plots/", "work/deep/er/", "with space/", "ünï/")


def entries(directory: Path) -> Iterator[Mapping[str, Any]]:
    """Iterate over what the output bundle names."""
    bundle = json.loads((directory / "output.json").read_bytes())
    for kind in KINDS:
        yield from (bundle.get(kind) or {}).values()


def leaves(directory: Path) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Return dimensions and attributes of each scalar, in file order, by reading the bundle as the format says."""
    bundle = json.loads((directory / "diagnostic.json").read_bytes())
    found: list[tuple[dict[str, str], dict[str, Any]]] = []

    def walk(names: list[str], table: dict[str, Any], labels: dict[str, str], outer: dict[str, Any]) -> None:
        attributes = outer | (table.get("attributes") or {})
        for value, inner in table.items():
            if value == "attributes":
                continue
            at = labels | {names[0]: value}
            if len(names) > 1:
                walk(names[1:], inner, at, attributes)
            else:
                found.append((at, attributes))

    if bundle["RESULTS"]:
        walk(bundle["DIMENSIONS"]["json_structure"], bundle["RESULTS"], {}, {})
    return found


def write_set(directory: Path, *, metric: object = None, output: object = None, series: object = None) -> None:
    """Write a set with a log, the bundles given, and a file of a few bytes for each that the output bundle names."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "out.log").write_text("the run's log\n")
    for name, content in zip(USUAL_NAMES, (metric, output, series), strict=True):
        if content is not None:
            (directory / name).write_text(json.dumps(content), encoding="utf-8")


def metric_bundle(results: Mapping[str, Any], **dimensions: list[str]) -> dict[str, Any]:
    declared = {name: {value: {} for value in values} for name, values in dimensions.items()}
    return {"DIMENSIONS": {"json_structure": list(dimensions), **declared}, "RESULTS": results}


def output_bundle(**kinds: Mapping[str, Any] | None) -> dict[str, Any]:
    provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"}
    return {"index": None, "provenance": provenance, "metrics": None, "diagnostics": {}, **kinds}


def entry(filename: str, **dimensions: str) -> dict[str, Any]:
    return {"filename": filename, "long_name": "Long", "description": "What it shows", "dimensions": dimensions}


def write_vocabulary(path: Path) -> Path:
    """Write a vocabulary that generated sets keep to: reading the real one takes longer than all else."""
    about = {"description": "", "required": False, "allow_extra_values": True}
    path.write_text(json.dumps({"dimensions": [{"name": name, "long_name": name, **about} for name in _COLUMNS]}))
    return path


def generate(rng: random.Random, directory: Path) -> dict[str, Any]:
    """Write a set that theirs takes, whatever else it may look like, and return what the run says of itself."""
    write_set(
        directory,
        metric=_metric(rng),
        output=_output(rng, directory) if rng.random() < 0.8 else None,
        series=[_series(rng) for _ in range(rng.randint(0, 4))] if rng.random() < 0.7 else None,
    )
    for name in ("climate_data/in.nc", "run/cmd.sh")[: rng.randint(0, 2)]:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("a working file, which is no part of the set")
    if rng.random() < 0.1:
        return {"successful": False, "retryable": rng.random() < 0.5}
    return {}


def _metric(rng: random.Random) -> dict[str, Any]:
    names = rng.sample(_COLUMNS, rng.choice([0, 2, 2, 3, 4, 5]))
    dimensions = {name: rng.sample(_WORDS, rng.randint(1, 3)) for name in names}

    def table(depth: int) -> dict[str, Any]:
        values = dimensions[names[depth]]
        if depth < len(names) - 1:
            return {value: table(depth + 1) for value in values}
        kept = [value for value in values if rng.random() < 0.9]
        attributes = {"attributes": {"units": rng.choice(_WORDS), "n": 3}} if rng.random() < 0.4 else {}
        return {**attributes, **{value: _number(rng) for value in kept}}

    return metric_bundle(table(0) if names else {}, **dimensions)


def _number(rng: random.Random) -> float | int | None:
    return rng.choice([rng.gauss(0, 1), rng.randint(-9, 9), None, 1e-300, -1.7e308, 0.1 + 0.2])


def _series(rng: random.Random) -> dict[str, Any]:
    length = rng.choice([0, 1, 2, 12, 60])
    index = rng.choice(
        [list(range(length)), [0.5 + each for each in range(length)], [f"{1850 + n}-01-16" for n in range(length)]]
    )
    names = rng.sample(_COLUMNS, rng.randint(0, 3))
    series = {
        "dimensions": {name: rng.choice(_WORDS[:2]) for name in names},
        "values": [_number(rng) for _ in index],
        "index": index,
        "index_name": rng.choice(["time", "month", "plev"]),
    }
    if rng.random() < 0.7:
        series["attributes"] = rng.choice([None, {}, {"units": "K", "missing": None, "count": 2}])
    return series


def _output(rng: random.Random, directory: Path) -> dict[str, Any]:
    bundle: dict[str, Any] = {}
    for kind in KINDS:
        if rng.random() < 0.2:
            bundle[kind] = rng.choice([None, {}])
            continue
        bundle[kind] = {f"{kind} {n}": _entry(rng, directory, n) for n in range(rng.randint(0, 4))}
    return output_bundle(**bundle)


def _entry(rng: random.Random, directory: Path, number: int) -> dict[str, Any]:
    name = rng.choice([f"{rng.choice(_FOLDERS)}{rng.choice(_WORDS)} {number}.png", "the same.nc", "out.log"])
    path = directory / name
    if name != "out.log":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([0, 1, 100, 70_000])))
    named = str(path) if rng.random() < 0.2 else name
    found = entry(named, **{name: rng.choice(_WORDS) for name in rng.sample(_COLUMNS, rng.randint(0, 2))})
    if rng.random() < 0.2:
        found["dimensions"] = None
    return found
