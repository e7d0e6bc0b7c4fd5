"""Calls to begin with, for the help of each command."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("emdstore demo", "emdstore demo ensemble --models 40 --executions 2000 --seed 7"),
    "ls": ("emdstore ls results pmp -l", "emdstore ls s3://bucket/results --include '*.png' --newer 7d"),
    "tree": ("emdstore tree results -d 3", "emdstore tree results pmp/enso --include '*.png'"),
    "stat": ("emdstore stat results pmp/enso/h/1/plots/map.png", "emdstore stat s3://bucket/results pmp/enso/h/1"),
    "cat": (
        "emdstore cat results pmp/enso/h/1/out.log",
        "emdstore cat results pmp/enso/h/1/diagnostic.json --pretty",
    ),
    "du": ("emdstore du results", "emdstore du s3://bucket/results pmp --by role"),
    "transfer": (
        "emdstore transfer results s3://bucket/results pmp/enso --dry-run",
        "emdstore transfer results /archive/results --provider pmp --latest --max-transfer 200G",
    ),
    "rm": (
        "emdstore rm results pmp/enso/h/1 --copy s3://archive/results --dry-run",
        "emdstore rm results pmp/enso/h -r --copy s3://archive/results --yes",
    ),
    "diff": (
        "emdstore diff results s3://bucket/results pmp",
        "emdstore diff results/pmp/enso/h/1 results/pmp/enso/h/2 --values --tolerance 1e-9",
    ),
    "verify": ("emdstore verify results", "emdstore verify s3://bucket/results --newer 1d --json"),
    "sets": ("emdstore sets results --state changed --state publishing", "emdstore sets results pmp --latest --json"),
    "events": (
        "emdstore events results --since 7d",
        "emdstore events results --cursor read.json --json-lines",
        "emdstore events s3://bucket/results --follow --sink webhook=https://example.org/hook",
    ),
    "repair": (
        "emdstore repair results pmp/enso/h/1 --from s3://bucket/results",
        "emdstore repair results pmp/enso/h/1 --from scratch/pmp/enso/h/1",
    ),
    "check": ("emdstore check diagnostic.json output.json", "emdstore check results/pmp/enso/h/1 --vocabulary cv.yaml"),
    "retract": (
        "emdstore retract pmp/enso/h/1 --reason 'wrong sign' --successor pmp/enso/h/2",
        "emdstore retract pmp/enso/h/1 --reason 'wrong sign' --results s3://bucket/results",
    ),
    "unretract": (
        "emdstore unretract pmp/enso/h/1",
        "emdstore unretract pmp/enso/h/1 --reason 'the sign was right' --results results",
    ),
    "materialize": (
        "emdstore materialize run results/pmp/enso/h/1 --metric diagnostic.json --output output.json",
        "emdstore materialize run results/pmp/enso/h/1 --failed --retryable",
    ),
    "replay": (
        "emdstore replay results --catalog catalog.db",
        "emdstore replay s3://bucket/results --catalog postgresql://host/name --watch 300",
    ),
    "watch": ("emdstore watch", "emdstore watch results --catalog catalog.db --every 1m --json"),
    "show": ("emdstore show pmp/enso/h/1", "emdstore show pmp/enso/h/1 --catalog catalog.db --limit 0"),
    "export": (
        "emdstore export scalars -o scalars.parquet --provider pmp --latest",
        "emdstore export scalars -o - --format csv --where region=global",
    ),
    "serve": ("emdstore serve", "emdstore serve results --catalog catalog.db --port 8000"),
    "report": ("emdstore report -o pages", "emdstore report results --catalog catalog.db -o pages --provider pmp"),
    "adopt": (
        "emdstore adopt esmvaltool recipe_tcr_20260716_140604 --dry-run",
        "emdstore adopt pmp metrics_results s3://bucket/results --json",
    ),
    "init": ("emdstore init", "emdstore init project --results s3://bucket/results --catalog postgresql://host/name"),
    "run": (
        "emdstore run --provider pmp --diagnostic enso -- python enso.py",
        "emdstore run --provider pmp --diagnostic enso --no-catalog -- ./enso.sh",
    ),
    "commit": ("emdstore commit --pending", "emdstore commit pmp/enso/h/1 --clean-folder"),
    "status": ("emdstore status", "emdstore status --config /project/emdstore.toml --json"),
    "logs": ("emdstore logs pmp/enso/h/1", "emdstore logs pmp/enso/h/1 --follow"),
    "history": ("emdstore history historical", "emdstore history pmp/enso/historical --catalog catalog.db"),
    "list": ("emdstore list --status failed", "emdstore list --provider pmp --latest --catalog catalog.db"),
    "inputs": ("emdstore inputs pmp/enso/h/1", "emdstore inputs pmp/enso/h/1 --catalog catalog.db --json"),
    "affected": (
        "emdstore affected 'CMIP6.*.ACCESS-ESM1-5.*'",
        "emdstore affected 10.22033/ESGF/CMIP6.2281 --latest",
    ),
    "resources": ("emdstore resources", "emdstore resources --provider pmp --catalog catalog.db"),
    "abort": ("emdstore abort pmp/enso/h/1", "emdstore abort pmp/enso/h/1 --reason 'the wrong input'"),
    "recover": ("emdstore recover", "emdstore recover --older-than 1d --no-catalog"),
    "reingest": ("emdstore reingest pmp/enso/h/1", "emdstore reingest pmp/enso/h/1 --json"),
    "gc": ("emdstore gc --older-than 30d", "emdstore gc --provider pmp --status uploaded --yes"),
    "config show": ("emdstore config show", "emdstore config show --config /project/emdstore.toml --json"),
    "config check": ("emdstore config check", "emdstore config check --timeout 5 --retries 0"),
    "db check": ("emdstore db check", "emdstore db check --catalog postgresql://host/name"),
    "db upgrade": ("emdstore db upgrade", "emdstore db upgrade --catalog catalog.db"),
    "db rebind": ("emdstore db rebind", "emdstore db rebind /new/disk/results --catalog catalog.db"),
    "forget": ("emdstore forget pmp/enso/h/1", "emdstore forget pmp/enso/h/1 --catalog catalog.db"),
    "release create": (
        "emdstore release create 2026.1 --latest --note 'for the report'",
        "emdstore release create 2026.1 pmp/enso/h/1 pmp/enso/h/2 --results results",
    ),
    "release list": ("emdstore release list", "emdstore release list --results s3://bucket/results --json"),
    "release show": ("emdstore release show 2026.1", "emdstore release show production --json"),
    "release verify": ("emdstore release verify 2026.1", "emdstore release verify production --results /copy/results"),
    "release diff": ("emdstore release diff 2026.1 2026.2", "emdstore release diff production 2026.2 --json"),
    "release alias": (
        "emdstore release alias production 2026.1",
        "emdstore release alias production 2026.2 --reason 'corrected sign'",
    ),
    "release sign": (
        "emdstore release sign 2026.1 ~/.ssh/id_ed25519",
        "emdstore release sign 2026.1 ~/.ssh/id_ed25519.pub --results s3://bucket/results",
    ),
    "promote": (
        "emdstore promote staging production --dry-run",
        "emdstore promote staging production --name 2026.1 --note 'reviewed by the panel' --yes",
    ),
    "manifest": ("emdstore manifest results", "emdstore manifest results --release 2026.1"),
    "compare": (
        "emdstore compare release:2026.1 release:2026.2 --relative 1e-6",
        "emdstore compare pmp/enso/historical/1 pmp/enso/historical/2 --markdown",
    ),
    "deposit": (
        "emdstore deposit results -o crate --release 2026.1",
        "emdstore deposit s3://bucket/results pmp/enso -o bag --bag --title 'ENSO metrics'",
    ),
    "cite": ("emdstore cite results pmp/enso", "emdstore cite results --release 2026.1 --format cff"),
    "provenance": ("emdstore provenance results pmp/enso", "emdstore provenance s3://bucket/results --latest"),
    "snapshot": (
        "emdstore snapshot results --catalog catalog.db --keep 7",
        "emdstore snapshot results --list",
    ),
    "datastore": (
        "emdstore datastore results -o catalogs",
        "emdstore datastore s3://bucket/results pmp -o catalogs --name pmp",
    ),
    "doctor": ("emdstore doctor", "emdstore doctor s3://bucket/results --json"),
    "schema": ("emdstore schema record", "emdstore schema transfer"),
    "man": ("emdstore man transfer", "emdstore man --install"),
    "help": ("emdstore help filters", "emdstore help exit-codes"),
    "completion": ("emdstore completion bash", "emdstore completion zsh --install"),
    "climate-ref retractions": (
        "emdstore climate-ref retractions results --database ref.db --dry-run",
        "emdstore climate-ref retractions results --database ref.db --reason 'flagged upstream'",
    ),
    "climate-ref replay": (
        "emdstore climate-ref replay results --database ref.db",
        "emdstore climate-ref replay s3://bucket/results --database postgresql://host/ref --prefix pmp",
    ),
}
"""Calls to begin with, for each command."""


def examples_of(command: str) -> str:
    """Return the examples of a command, for the end of its help."""
    return "Examples:\n\n" + "\n\n".join(EXAMPLES.get(command, ()))
