"""What the site is tested on: an ensemble, runs that are not well, and a set that is hostile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from tests.pictures import picture

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.demo import Ensemble, Run, write_set
from emdstore.ingestion.replay import replay
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import ExecutionResult
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped

SUCCESS = ExecutionResult(
    successful=True,
    metric_bundle_filename="diagnostic.json",
    output_bundle_filename="output.json",
    series_filename="series.json",
)
START = datetime(2025, 10, 7, 9, 30, tzinfo=UTC)

RUNS = tuple(Ensemble(models=2, diagnostics=5, regions=4, years=40, pixels=2, troubles=0).runs())
"""Two models, evaluated by five diagnostics: each run has six plots, a table, a page, 80 scalars and 16 series."""


def runs_of(diagnostic: str) -> list[str]:
    """Return the fragments of a diagnostic's runs, one for each model."""
    return [run.fragment for run in RUNS if run.diagnostic.name == diagnostic]


TEMPERATURE, OTHER_TEMPERATURE = runs_of("surface-temperature")
PRODUCTION, _ = runs_of("gross-primary-production")
"""One of its values is missing."""

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
LINK = "javascript:alert(1)"


@attrs.frozen
class Library:
    """A results store and its catalog."""

    results: ArtifactStore
    catalog: Catalog

    def id_of(self, ending: str) -> int:
        """Return an execution's id by the end of its fragment."""
        return self.catalog.execution(ending).execution_id


def fill(
    root: Path, results: ArtifactStore, catalog: Catalog, runs: Sequence[Run] = RUNS, *, hostile: bool = True
) -> Library:
    """Publish an ensemble, runs that are not well, and a hostile set; and load the catalog from there."""
    for number, run in enumerate(runs):
        folder = root / "scratch" / run.fragment
        result = write_set(folder, run)
        if run.fragment == PRODUCTION:
            lose_a_value(folder)
        publish(folder, results, run.fragment, number, result)
    if hostile:
        lay_out_hostile(root / "scratch" / "hostile")
        publish(root / "scratch" / "hostile", results, "tests/hostile/names/1", len(runs))
    for name, result in (
        ("tideline/enso/historical/10", ExecutionResult(successful=False, retryable=True)),
        ("tideline/enso/historical/11", SUCCESS),
    ):
        folder = root / "scratch" / name
        folder.mkdir(parents=True)
        (folder / "out.log").write_text("reading sst.nc\n" * 80 + "ValueError: 3 time steps are not enough\n")
        publish(folder, results, name, 20, result)
    replay(results, catalog)
    catalog.claims.create(
        ExecutionContent(
            fragment="tideline/enso/historical/12", provider="tideline", diagnostic="enso", group="historical",
            status="upload_failed", error="the disk of the results store is full", created_at=START,
        )
    )  # fmt: skip
    catalog.claims.create(
        ExecutionContent(
            fragment="tideline/enso/historical/13", provider="tideline", diagnostic="enso", group="historical",
            status="stopped", created_at=START, started_at=START, stopped_at=START + timedelta(minutes=2),
        )
    )  # fmt: skip
    catalog.claims.claim("tideline/enso/historical/13", owner="gone", lease_seconds=-1, allowed_from=["stopped"])
    return Library(results, catalog)


def publish(
    folder: Path, results: ArtifactStore, fragment: str, number: int, result: ExecutionResult = SUCCESS
) -> None:
    """Publish a folder as an execution that ran some time after the first one."""
    started = START + timedelta(hours=3 * number)
    identity = ExecutionRecord.at(
        fragment,
        created_at=started - timedelta(seconds=4),
        started_at=started,
        stopped_at=started + timedelta(minutes=4 + 7 * number),
        host="node-12",
    )
    publish_set(
        identity,
        attrs.evolve(result, output_directory=str(folder)),
        source=LocalArtifactStore(folder),
        dest=scoped(results, fragment),
    )


def lose_a_value(folder: Path) -> None:
    """Have a metric come to nothing, as it does where there are no observations."""
    path = folder / "diagnostic.json"
    bundle = json.loads(path.read_bytes())
    table = bundle["RESULTS"]
    while any(isinstance(inner, dict) for name, inner in table.items() if name != "attributes"):
        table = next(inner for name, inner in table.items() if name != "attributes")
    table[next(name for name in table if name != "attributes")] = None
    path.write_text(json.dumps(bundle))


def lay_out_hostile(folder: Path) -> None:
    """Write a set that tries to become more than text."""
    files: dict[str, Any] = {
        "diagnostic.json": {
            "DIMENSIONS": {"json_structure": ["region", "metric"], "region": {HOSTILE: {}}, "metric": {LINK: {}}},
            "RESULTS": {HOSTILE: {LINK: 1.5}},
        },
        "output.json": {
            "provenance": {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"},
            "plots": {
                "p": {"filename": "a 'quoted' (°C) #1?.png", "long_name": HOSTILE, "description": LINK},
                "s": {"filename": "drawn.svg", "long_name": "drawn", "description": ""},
            },
            "html": {"h": {"filename": "pages/intruder.html", "long_name": HOSTILE, "description": ""}},
            "data": {"d": {"filename": "data/long file.csv", "long_name": "numbers", "description": ""}},
        },
        "series.json": [
            {
                "dimensions": {"region": HOSTILE, "metric": LINK},
                "index_name": HOSTILE,
                "index": [1, 2, 3],
                "values": [1.0, None, 3.0],
                "attributes": {"value_long_name": HOSTILE, "caption": HOSTILE, "value_units": "°C"},
            }
        ],
    }
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "out.log").write_text(HOSTILE)
    (folder / "a 'quoted' (°C) #1?.png").write_bytes(picture("hostile"))
    (folder / "drawn.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3" width="400" height="300">'
        "<script>parent.document.title = document.title = 'owned'</script><circle cx='2' cy='1.5' r='1'/></svg>"
    )
    (folder / "data").mkdir()
    (folder / "data" / "long file.csv").write_text("".join(f"{n},{n * n}\n" for n in range(200_000)))
    (folder / "pages").mkdir()
    (folder / "pages" / "beside.png").write_bytes(picture("beside"))
    (folder / "pages" / "intruder.html").write_text(INTRUDER)


INTRUDER = """<!doctype html><title>intruder</title><p id="said">nothing</p><img id="beside" src="../drawn.svg">
<script>
const tried = {ran: true};
try { tried.parent = parent.document.title } catch (error) { tried.parent = error.name }
try { tried.cookie = document.cookie } catch (error) { tried.cookie = error.name }
try { localStorage.setItem("a", "b"); tried.storage = "kept" } catch (error) { tried.storage = error.name }
try { if (top !== self) top.location = "about:blank#gone"; } catch (error) { tried.top = error.name }
tried.origin = self.origin;
fetch("/").then((r) => r.text(), (e) => e.name).then((body) => { tried.fetched = body.slice(0, 40); tell() });
function tell() { document.getElementById("said").textContent = JSON.stringify(tried) }
tell();
</script>
"""
