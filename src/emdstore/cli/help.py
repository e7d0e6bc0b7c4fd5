"""What is told beside each command's own help: examples, exit codes, how to choose, URLs, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from emdstore.cli.exit_codes import table
from emdstore.cli.options import WrongCallError
from emdstore.cli.render import say

Topic = Literal["exit-codes", "filters", "urls", "environment"]
Shell = Literal["bash", "zsh", "fish"]

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
    "diff": (
        "emdstore diff results s3://bucket/results pmp",
        "emdstore diff results/pmp/enso/h/1 results/pmp/enso/h/2 --values --tolerance 1e-9",
    ),
    "verify": ("emdstore verify results", "emdstore verify s3://bucket/results --newer 1d --json"),
    "sets": ("emdstore sets results --state changed --state publishing", "emdstore sets results pmp --latest --json"),
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
    "show": ("emdstore show pmp/enso/h/1", "emdstore show pmp/enso/h/1 --catalog catalog.db --limit 0"),
    "export": (
        "emdstore export scalars -o scalars.parquet --provider pmp --latest",
        "emdstore export scalars -o - --format csv --where region=global",
    ),
    "serve": ("emdstore serve", "emdstore serve results --catalog catalog.db --port 8000"),
    "report": ("emdstore report -o pages", "emdstore report results --catalog catalog.db -o pages --provider pmp"),
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
        "emdstore release alias production 2026.2 --why 'corrected sign'",
    ),
    "compare": (
        "emdstore compare release:2026.1 release:2026.2 --relative 1e-6",
        "emdstore compare pmp/enso/historical/1 pmp/enso/historical/2 --markdown",
    ),
    "doctor": ("emdstore doctor", "emdstore doctor s3://bucket/results --json"),
    "schema": ("emdstore schema record", "emdstore schema transfer"),
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

_FILTERS = """\
ls, tree, du, transfer, diff, verify, replay, sets, commit --pending, gc,
export and list choose by the same options:

--include PATTERN, --exclude PATTERN
                       may be repeated; exclude wins
--filter-from FILE     lines `+ PATTERN` and `- PATTERN`: the first that
                       matches decides
--files-from FILE      keys and folders, one a line; - is stdin; with -0 each
                       ends in NUL
--min-size, --max-size 500, 20M (of 1000), 4KiB (of 1024)
--newer, --older       7d, 12h, 30min, 2026-05-01
--provider, --diagnostic, --group, --execution, --state, --latest
                       sets, by their records

Patterns are those of .gitignore: without a slash they match at any depth, with
one from the root of the store; * does not match a slash, ** does; what matches
a folder matches all that lies in it.

*.png                  every PNG file
pmp/                   all that lies in a folder pmp, at any depth
/pmp                   pmp at the root
pmp/*/historical       in any diagnostic of pmp
**/plots/*.png         in any folder plots
execution.json         every record

All that is given must hold. Sets are chosen as wholes by size, time and what
they are. What matches nothing ends with exit code 4."""

_URLS = """\
A STORE is a folder or a URL:

results, ./results     a folder of this machine
file:///data/results   the same, as a URL
s3://bucket/prefix     S3 and what speaks it: --endpoint-url, --engine; its
                       credentials come from the environment
ssh://host/path, sftp://host/path
                       another machine
gs://bucket/prefix, abfs://container/prefix, zip://::file:///a.zip
                       what fsspec supports, by the library that it names
memory://name          for trials

A catalog is a SQLite file or a URL such as postgresql://host/name. Secrets do
not belong into URLs: other users of the machine can see arguments."""

_ENVIRONMENT = """\
EMDSTORE_CONFIG        the workspace's file or folder (--config)
EMDSTORE_CATALOG       the database (--catalog)
EMDSTORE_SCRATCH, EMDSTORE_RESULTS, EMDSTORE_VOCABULARY,
EMDSTORE_CLEAN_FOLDER, EMDSTORE_CLEAN_UNNAMED, EMDSTORE_LEASE_SECONDS
                       come before what the workspace's file says
EMDSTORE_TIMEOUT, EMDSTORE_CONNECT_TIMEOUT, EMDSTORE_RETRIES
                       how long to wait for servers
EMDSTORE_SSH           the program that reaches ssh:// URLs (--rsh)
EMDSTORE_TOKEN         the token of `emdstore serve` for other machines
EMDSTORE_COMMAND_OPTION
                       any other option: EMDSTORE_TRANSFER_ORDER=smallest,
                       EMDSTORE_DB_CHECK_VERBOSE=1; what is given as an option
                       comes before
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL
                       how to reach S3
REF_DATABASE_URL       Climate-REF's own database
NO_COLOR, COLUMNS      as everywhere
EMDSTORE_OUTPUT_DIR    is told to the program of `emdstore run`"""


def examples_of(command: str) -> str:
    """Return the examples of a command, for the end of its help."""
    return "Examples:\n\n" + "\n\n".join(EXAMPLES.get(command, ()))


def show_help(topic: Topic | None = None, /) -> int:
    """Tell about exit codes, filters, URLs, or the environment.

    Parameters
    ----------
    topic
        What to tell about; without it the topics are listed.
    """
    if topic is None:
        say("`emdstore --help` lists the commands, `emdstore COMMAND --help` explains one;")
        say("`emdstore help TOPIC` tells about one of")
        for each in get_args(Topic):
            say(f"  {each}")
        return 0
    say({"exit-codes": table(), "filters": _FILTERS, "urls": _URLS, "environment": _ENVIRONMENT}[topic])
    return 0


def completion(shell: Shell | None = None, /, *, install: bool = False) -> int:
    """Print what a shell needs to complete commands and options, or install it for this user.

    Parameters
    ----------
    shell
        Which shell; by default the one that SHELL names.
    install
        Write it where the shell looks for it, and tell where that is.
    """
    from emdstore.cli.app import make_app

    name = shell or Path(os.environ.get("SHELL", "")).name
    wanted = next((each for each in get_args(Shell) if each == name), None)
    if wanted is None:
        shells = ", ".join(get_args(Shell))
        raise WrongCallError(f"{name or 'SHELL'!r} is no shell that can complete: name one of {shells}")
    app = make_app()
    if not install:
        print(app.generate_completion(shell=wanted))
        return 0
    say(f"{app.install_completion(shell=wanted, add_to_startup=True)} is read by new shells")
    return 0
