"""Content for catalogs, and what the tests' child processes do."""

from __future__ import annotations

import contextlib
import math
import random
import time
from datetime import UTC, datetime
from typing import Any

import attrs

from emdstore.catalog import Catalog, Claim, ExecutionContent, RecordStamp
from emdstore.errors import ClaimLostError, ExecutionNotFoundError

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)

FULL = ExecutionContent(
    fragment="pmp/enso/historical_g58_v1/23",
    provider="pmp",
    provider_name="PCMDI Metrics Package",
    diagnostic="enso",
    group="historical/g58",
    selectors={"source_id": ["ACCESS-ESM1-5", "Ünïcode"]},
    dataset_hash="d905ddf2",
    description="El Niño",
    status="uploaded",
    failure="none",
    reason="complete",
    retryable=False,
    dirty=False,
    host="node7",
    pid=4711,
    provider_version="3.9",
    diagnostic_version="2",
    software={"numpy": "2.3", "PMP": "3.9 (Ü)"},
    wall_seconds=61.5,
    cpu_seconds=240.25,
    peak_memory_bytes=2**33,
    exit_code=0,
    created_at=NOON,
    started_at=NOON.replace(microsecond=123456),
    stopped_at=NOON.replace(hour=13),
    published_at=NOON.replace(hour=14),
    uploaded_at=NOON.replace(hour=14, microsecond=1),
    upload_duration=1.5,
    record_digest="ab" * 32,
    record_size=4321,
    record_modified=1748779200.123456,
    record_version='"etag"',
    artifacts=[
        ("out.log", "log", 12, "cd" * 32, "text/plain", "the log"),
        ("plots/tas (°C).png", "plot", 2**40, "ef" * 32, None, None),
        ("unhashed.nc", "data", None, None, None, None),
    ],
    outputs=[
        ("plots", "map", "plots/tas (°C).png", "plots/../plots/tas (°C).png", "Map", "A map", {"region": "global"}),
        ("html", "page", None, "/other/machine/index.html", "Page", "", {}),
    ],
    scalars=[
        (1.25, {"region": "global", "season": "DJF"}, {"units": "K"}),
        (math.nan, {"region": "NINO3.4", "season": "DJF"}, {"units": "K"}),
        (None, {"region": "NINO3.4", "season": "JJA"}, None),
        (-math.inf, {"region": 'quo"ted', "a.b": "$.x[0]"}, {"nested": {"list": [1, None, "°"]}}),
        (0, {}, {}),
        (1e300, {"région": "côte d'Ivoire"}, {}),
    ],
    series=[
        ({"region": "global"}, "time", ["1850-01", "1850-02"], [1.0, None], {"units": "K"}),
        ({"region": "global"}, "time", ["1850-01", "1850-02"], [math.inf, math.nan], None),
        ({"region": "NINO3.4"}, "lat", [-90, 0.5, 1e300], [1, -math.inf, 1e300], {}),
    ],
    inputs=[
        (("CMIP6.CMIP.x.tas_1%", "v20191108", "21.14100/AbC", "10.22033/ESGF/x", None), "model", "tas", None),
        (("ERA5", None, None, None, "ab" * 32), "reference", None, None),
        (None, "mask", None, ("s3://in", "masks/land.nc", 2**40, "cd" * 32)),
    ],
    warnings=[("vocabulary", "unknown dimension 'a.b'", "diagnostic.json"), ("path", "no such file", None)],
)


def execution_of(fragment: str, **changes: Any) -> ExecutionContent:
    """Return a small execution."""
    small = ExecutionContent(fragment=fragment, provider="pmp", diagnostic="enso", group="g", status="uploaded")
    return attrs.evolve(small, **changes)


def numbered(fragment: str) -> ExecutionContent:
    """Return one of several executions in four groups, of which the latest leave two dirty."""
    number = int(fragment.rpartition("/")[2])
    scalars = [(float(number), {"n": str(n)}, None) for n in range(50)]
    started_at = NOON.replace(minute=number)
    return execution_of(fragment, group=f"g{number % 4}", scalars=scalars, started_at=started_at, dirty=number % 8 < 3)


def everything(catalog: Catalog) -> list[Any]:
    """Return all rows of all kinds."""
    queries = (
        catalog.executions(),
        catalog.artifacts(),
        catalog.outputs(),
        catalog.scalars(),
        catalog.series(),
        catalog.inputs(),
        catalog.warnings(),
    )
    return [row for query in queries for row in query]


# -- what child processes do (top-level functions, so that they can be sent there) -------------------------------------


def create(url: str, start_at: float) -> str:
    time.sleep(max(0.0, start_at - time.time()))
    with Catalog(url) as catalog:
        catalog.replace_execution(execution_of("run/a"))
        return catalog.check().state


def write(url: str, fragments: list[str]) -> None:
    with Catalog(url) as catalog:
        for fragment in fragments:
            catalog.replace_execution(numbered(fragment))


def claim_each(url: str, owner: str, fragments: list[str]) -> list[str]:
    with Catalog(url) as catalog:
        tried = [catalog.claims.claim(f, owner=owner, lease_seconds=60, allowed_from=["stopped"]) for f in fragments]
    return [one.fragment for one in tried if isinstance(one, Claim)]


def arrive_first(url: str, start_at: float, number: int) -> int:
    """Be one of many who bring in what nobody has brought before, each in an order of its own."""
    order = list(range(12))
    random.Random(number).shuffle(order)
    with Catalog(url) as catalog:
        catalog.executions().count()
        time.sleep(max(0.0, start_at - time.time()))
        for n in order:
            fragment = f"run/{n:02}"
            place = {"provider": f"p{n % 3}", "diagnostic": f"d{n % 4}", "group": f"g{n % 2}"}
            named = f"Provider {n % 3} by {number}"
            content = execution_of(fragment, **place, provider_name=named, scalars=[(float(n), {}, None)], dirty=True)
            catalog.replace_execution(content)
    return number


def do_everything_at_once(url: str, start_at: float, number: int) -> int:
    """Do all that one can do to a few executions, in an order of its own, and return how many steps that were."""
    chance = random.Random(number)
    fragments = [f"run/{n}" for n in range(4)]
    steps = 0
    with Catalog(url) as catalog:
        stamps = [RecordStamp(fragment, "d", 1, 1.0, "v") for fragment in fragments]
        catalog.executions().count()
        time.sleep(max(0.0, start_at - time.time()))
        while steps < 30:
            steps += 1
            fragment = chance.choice(fragments)
            group = chance.choice(["g", "h"])  # an execution may even move to another group
            content = execution_of(fragment, group=group, record_digest="d", dirty=chance.random() < 0.5)
            chance.shuffle(stamps)
            with contextlib.suppress(ExecutionNotFoundError, ClaimLostError):
                match chance.randrange(6):
                    case 0:
                        catalog.records.drop(fragment)
                    case 1:
                        catalog.records.note(stamps)
                    case 2:
                        catalog.claims.set_dirty("pmp", "enso", group, True)
                    case 3:
                        claim = catalog.claims.claim(
                            fragment, owner=str(number), lease_seconds=0.01, allowed_from=["uploaded"]
                        )
                        if isinstance(claim, Claim):
                            catalog.replace_execution(content, claim=claim)
                    case _:
                        catalog.replace_execution(content)
    return steps


def rows_in(catalog: Catalog) -> int:
    return catalog.executions().count()
