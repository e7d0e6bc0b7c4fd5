"""The main job on a handful of real sets that come with the package: promote, publish, load a catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import attrs

from emdstore.catalog import Catalog
from emdstore.ingestion.replay import ReplayReport, replay
from emdstore.sets.publish import Publication, publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME, ExecutionResult
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped
from emdstore.transfers import transfer

_OUTPUT_DIR = b"<OUTPUT_DIR>"

_GOOD = ExecutionResult(
    successful=True,
    metric_bundle_filename=METRIC_NAME,
    output_bundle_filename=OUTPUT_NAME,
    series_filename=SERIES_NAME,
)

RUNS: dict[str, tuple[ExecutionResult, str]] = {
    "esmvaltool/sea-ice-sensitivity/cmip6_historical/1": (_GOOD, "names its html by an absolute path"),
    "esmvaltool/transient-climate-response/cmip6_gn_r1i1p1f1_ACCESS-ESM1-5/1": (_GOOD, "has a scalar and a series"),
    "ilamb/csoil-hwsd2/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5/1": (_GOOD, "lacks a plot that its bundle names"),
    "ilamb/nbp-hoffman/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5/1": (_GOOD, "is small"),
    "pmp/enso_proc/historical_gn_r1i1p1f1_ACCESS-ESM1-5_obs4MIPs_g58_v1_d905ddf2/23": (
        ExecutionResult(successful=False, retryable=True),
        "failed, and left a log",
    ),
}
"""What each run said of itself, by fragment, and what the set is an example of."""


@attrs.frozen
class DemoReport:
    """What `run_demo` did.

    Attributes
    ----------
    scratch, results, catalog
        Where everything is.
    publications
        One for each run, in the order of `RUNS`.
    replayed
        What the catalog took.
    """

    scratch: Path
    results: Path
    catalog: Path
    publications: tuple[Publication, ...]
    replayed: ReplayReport

    @property
    def changed(self) -> bool:
        """Whether anything was copied, published or ingested; the second time nothing is."""
        copied = any(each.outcome.artifacts_copied or each.record_written for each in self.publications)
        return copied or bool(self.replayed.outcomes)


def run_demo(folder: str | os.PathLike[str]) -> DemoReport:
    """Lay out the sets as their runs left them, promote them, and load a catalog.

    Parameters
    ----------
    folder
        Gets ``scratch/``, ``results/`` and ``catalog.db``. Files of other names in it are left alone.

    Returns
    -------
    DemoReport
        A second call does nothing, unless something was changed meanwhile.

    Raises
    ------
    StoreError, CatalogError
        If the folder cannot be used. Running it again goes on from there.
    """
    root = Path(folder).absolute()
    scratch, results = LocalArtifactStore(root / "scratch"), LocalArtifactStore(root / "results")
    with _shipped_sets() as shipped:
        for fragment in RUNS:
            _lay_out(scoped(shipped, fragment), scoped(scratch, fragment), scratch.local_path(fragment))
    publications = tuple(
        publish_set(
            ExecutionRecord.at(fragment, description=f"A set that {what}."),
            result,
            source=scoped(scratch, fragment),
            dest=scoped(results, fragment),
        )
        for fragment, (result, what) in RUNS.items()
    )
    with Catalog(root / "catalog.db") as catalog:
        replayed = replay(results, catalog)
    return DemoReport(scratch.local_path(), results.local_path(), root / "catalog.db", publications, replayed)


@contextmanager
def _shipped_sets() -> Iterator[ArtifactStore]:
    with as_file(files(__name__) / "sets") as folder:
        yield LocalArtifactStore(folder)


def _lay_out(shipped: ArtifactStore, scratch: ArtifactStore, ran_in: Path) -> None:
    """Do what the run did: write its files, the bundle with the absolute name of the folder that it ran in."""
    plain = [key for key in shipped.iter_keys() if key != OUTPUT_NAME]
    transfer(shipped, scratch, plain).raise_for_failures()
    if shipped.exists(OUTPUT_NAME):
        bundle = shipped.read_bytes(OUTPUT_NAME).replace(_OUTPUT_DIR, os.fsencode(ran_in))
        if not scratch.exists(OUTPUT_NAME) or scratch.read_bytes(OUTPUT_NAME) != bundle:
            scratch.write_bytes(OUTPUT_NAME, bundle)
