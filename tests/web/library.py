"""What the site is tested on: real sets with pictures that can be decoded, sets that are not well, and hostile ones."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.emds import artifact_set, decode_output_bundle
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

SETS = {
    "_scratch-trees/esmvaltool/sea-ice-sensitivity/cmip6_historical": "esmvaltool/sea-ice-sensitivity/cmip6_ACCESS/1",
    "_scratch-trees/ilamb/nbp-hoffman/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5": "ilamb/nbp-hoffman/cmip6_ACCESS/2",
    "ilamb/nbp-hoffman/cmip6": "ilamb/nbp-hoffman/cmip6_CanESM5/7",
    "_scratch-trees/esmvaltool/transient-climate-response/cmip6_gn_r1i1p1f1_ACCESS-ESM1-5": (
        "esmvaltool/transient-climate-response/cmip6_ACCESS/12"
    ),
    "esmvaltool/transient-climate-response/cmip6": "esmvaltool/transient-climate-response/cmip6_CanESM5/14",
    "esmvaltool/regional-historical-timeseries/cmip6": "esmvaltool/regional-historical-timeseries/cmip6_CanESM5/3",
    "_scratch-trees/ilamb/csoil-hwsd2/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5": "ilamb/csoil-hwsd2/cmip6_ACCESS/4",
    "ilamb/csoil-hwsd2/cmip6": "ilamb/csoil-hwsd2/cmip6_CanESM5/5",
    "ilamb/gpp-fluxnet2015/cmip7": "ilamb/gpp-fluxnet2015/cmip7_CanESM5/6",
    "pmp/annual-cycle/cmip6-ta": "pmp/annual-cycle/cmip6_ta/8",
    "pmp/annual-cycle/cmip6-pr": "pmp/annual-cycle/cmip6_pr/9",
}
"""The samples, and the fragments that they get."""

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
LINK = "javascript:alert(1)"


def picture(seed: str, width: int = 160, height: int = 100) -> bytes:
    """Draw a picture that is nobody else's: a PNG of a smooth field."""
    shade = zlib.crc32(seed.encode())
    red, green = 90 + shade % 100, 90 + shade // 100 % 100
    rows = b"".join(
        b"\0" + bytes(v for x in range(width) for v in (min(255, red + x), min(255, green + y), 190))
        for y in range(height)
    )
    parts = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@attrs.frozen
class Library:
    """A results store and its catalog."""

    results: ArtifactStore
    catalog: Catalog

    def id_of(self, ending: str) -> int:
        """Return an execution's id by the end of its fragment."""
        return self.catalog.execution(ending).execution_id


def fill(
    samples: Path,
    root: Path,
    results: ArtifactStore,
    catalog: Catalog,
    sets: dict[str, str] = SETS,
    *,
    hostile: bool = True,
) -> Library:
    """Publish the samples, the demo's sets that are not well, and a hostile set; and load the catalog from there."""
    for number, (case, fragment) in enumerate(sets.items()):
        scratch = lay_out(samples / case, root / "scratch" / fragment, fragment)
        publish(scratch, results, fragment, number)
    if hostile:
        lay_out_hostile(root / "scratch" / "hostile")
        publish(root / "scratch" / "hostile", results, "tests/hostile/names/1", len(sets))
    for name, result in (
        ("pmp/enso_tel/historical/10", ExecutionResult(successful=False, retryable=True)),
        ("pmp/enso_tel/historical/11", SUCCESS),
    ):
        folder = root / "scratch" / name
        folder.mkdir(parents=True)
        (folder / "out.log").write_text("reading sst.nc\n" * 80 + "ValueError: 3 time steps are not enough\n")
        publish(folder, results, name, 20, result)
    replay(results, catalog)
    catalog.create_execution(
        ExecutionContent(
            fragment="pmp/enso_tel/historical/12", provider="pmp", diagnostic="enso_tel", group="historical",
            status="upload_failed", error="the disk of the results store is full", created_at=START,
        )
    )  # fmt: skip
    catalog.create_execution(
        ExecutionContent(
            fragment="pmp/enso_tel/historical/13", provider="pmp", diagnostic="enso_tel", group="historical",
            status="stopped", created_at=START, started_at=START, stopped_at=START + timedelta(minutes=2),
        )
    )  # fmt: skip
    catalog.claim("pmp/enso_tel/historical/13", owner="gone", lease_seconds=-1, allowed_from=["stopped"])
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


def lay_out(sample: Path, folder: Path, fragment: str) -> Path:
    """Lay out a sample as its run left it, with stand-ins for what the samples lack."""
    shutil.copytree(sample, folder)
    for name in ("diagnostic.json", "output.json", "series.json"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data.replace(b"<OUTPUT_DIR>", str(folder).encode()))
    if not (folder / "out.log").exists():
        (folder / "out.log").write_text("it ran\n")
    bundle = decode_output_bundle((folder / "output.json").read_bytes())
    for key in artifact_set(bundle=bundle, ran_in=str(folder), fragment=fragment).keys:
        path = folder / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(key) if path.suffix == ".png" else f"<p>stands in for {key}</p>\n".encode())
    return folder


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
