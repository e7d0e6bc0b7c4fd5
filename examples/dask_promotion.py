"""Copy a results tree, and load a catalog from it, with the workers of a Dask cluster.

    python dask_promotion.py [FOLDER]

Needs the extra ``dask``. Everything goes to FOLDER, by default a temporary one. The cluster here is local, with two
worker processes. For a real one, pass its address to `Client`, install emdstore on its nodes, and make sure that they
reach the stores. On the command line: ``emdstore transfer scratch results --dask tcp://head-node:8786``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from distributed import Client, LocalCluster

from emdstore import Catalog, LocalArtifactStore, replay, transfer, verify
from emdstore.demo import Ensemble, write_ensemble


def main(root: Path) -> None:
    write_ensemble(root / "site", Ensemble(models=5, diagnostics=3))  # made-up results of another site
    theirs, ours = LocalArtifactStore(root / "site" / "results"), LocalArtifactStore(root / "results")

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        Catalog(root / "catalog.db") as catalog,
    ):
        executor = client.get_executor()

        # Keys are sent in small batches. If a worker dies, its batch is repeated.
        report = transfer(theirs, ours, executor=executor)
        report.raise_for_failures()
        print(f"{report.counts['copied']} artifacts copied")

        # Workers hash and read the sets; this process writes the rows, so no worker needs the database.
        checked = verify(ours, executor=executor)
        print(f"{checked.artifacts} artifacts are as recorded: {checked.ok}")
        loaded = replay(ours, catalog, executor=executor)
        print(f"{loaded.counts['ingested']} executions loaded")


if __name__ == "__main__":  # worker processes import this file
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
