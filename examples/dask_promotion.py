"""Push a results tree, and load a catalog from it, with the workers of a Dask cluster.

    python dask_promotion.py [FOLDER]

Needs the extra ``dask``. Everything goes to FOLDER, by default a temporary one. The cluster is made here, of two worker
processes; on a real one pass its address to `Client`, and see that emdstore is installed and the stores can be reached
on its nodes. On the command line: ``emdstore transfer scratch results --dask tcp://head-node:8786``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from distributed import Client, LocalCluster

from emdstore import Catalog, LocalArtifactStore, replay, transfer, verify
from emdstore.demo import Ensemble, write_ensemble


def main(root: Path) -> None:
    write_ensemble(root / "site", Ensemble(models=5, diagnostics=3))  # results as another site has them, but made up
    theirs, ours = LocalArtifactStore(root / "site" / "results"), LocalArtifactStore(root / "results")

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        Catalog(root / "catalog.db") as catalog,
    ):
        executor = client.get_executor()

        # Keys go out in small batches, a few ahead. A worker that dies costs a retry.
        report = transfer(theirs, ours, executor=executor)
        report.raise_for_failures()
        print(f"{report.counts['copied']} artifacts copied")

        # Sets are hashed and read by the workers; rows are written here, so no worker needs the database.
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
