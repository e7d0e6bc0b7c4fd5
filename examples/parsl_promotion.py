"""Run diagnostics, and let Parsl commit them: bytes, record and rows, each execution on one worker.

    python parsl_promotion.py [FOLDER]

Needs the extra ``parsl``. Everything goes to FOLDER, by default a temporary one. The workers are two processes on this
machine. On a cluster, use the provider for its batch system (`SlurmProvider`, `PBSProProvider`, ...), and a catalog on
PostgreSQL, so that many nodes can write to it. On the command line: ``emdstore commit --pending --parsl config.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from parsl import Config
from parsl.concurrent import ParslPoolExecutor
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from emdstore import Workspace


def parsl_config(run_dir: Path) -> Config:
    workers = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=2, heartbeat_period=2, provider=LocalProvider(max_blocks=1)
    )
    return Config(executors=[workers], run_dir=str(run_dir), initialize_logging=False)


def main(root: Path) -> None:
    with Workspace(scratch=root / "scratch", results=root / "results", catalog=root / "catalog.db") as workspace:
        for model in ("ACCESS-ESM1-5", "CanESM5", "UKESM1-0-LL"):
            with workspace.start_execution(provider="mytool", diagnostic="bias", group=model) as execution:
                (execution.output_directory / "bias.csv").write_text("region,bias\nglobal,0.5\n")
                execution.add_data("bias.csv", long_name="Bias", description="Of the mean temperature, in K.")
                execution.add_scalar(0.5, region="global", metric="bias", attributes={"units": "K"})

        # Workers get the configuration of the workspace. If one dies, another takes over its claim.
        with ParslPoolExecutor(parsl_config(root / "parsl")) as executor:
            report = workspace.commit_pending_executions(executor=executor)
        print(f"{len(report.statuses)} executions committed, {report.uploaded} artifacts uploaded")
        for row in workspace.list_executions():
            print(f"{row.group}: {row.status}, {row.scalars} values")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
