"""Help that is not about one command: exit codes, how to choose, URLs, the environment; and completion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

from emdstore.cli.completing import SCRIPTS, Shell
from emdstore.cli.exit_codes import table
from emdstore.cli.options import PLAIN, Output, WrongCallError
from emdstore.cli.render import say, show_document

Topic = Literal["exit-codes", "filters", "urls", "environment"]

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
gs://bucket/prefix, az://container/prefix, zip://::file:///a.zip
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
EMDSTORE_PROGRESS, EMDSTORE_LOG_FILE, EMDSTORE_LOG_FORMAT
                       how to report (--progress, --log-file, --log-format)
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


def show_help(topic: Topic | None = None, /, *, output: Output = PLAIN) -> int:
    """Tell about exit codes, filters, URLs, or the environment.

    Parameters
    ----------
    topic
        What to tell about; without it the topics are listed.
    """
    texts = {"exit-codes": table(), "filters": _FILTERS, "urls": _URLS, "environment": _ENVIRONMENT}
    if output.json:
        topics = [{"topic": name, "text": text} for name, text in texts.items() if topic in (name, None)]
        return show_document("help", {"topics": topics})
    if topic is None:
        say("`emdstore --help` lists the commands, `emdstore COMMAND --help` explains one;")
        say("`emdstore help TOPIC` explains one of")
        for each in texts:
            say(f"  {each}")
        return 0
    say(texts[topic])
    return 0


def completion(shell: Shell | None = None, /, *, install: bool = False, output: Output = PLAIN) -> int:
    """Print what a shell needs to complete commands, options, stores and sets, or install it for this user.

    Parameters
    ----------
    shell
        Which shell; by default the one that SHELL names.
    install
        Write it where the shell looks for it, and tell where that is.
    """
    from cyclopts.completion.install import add_to_rc_file, get_default_completion_path

    name = shell or Path(os.environ.get("SHELL", "")).name
    wanted = next((each for each in get_args(Shell) if each == name), None)
    if wanted is None:
        shells = ", ".join(get_args(Shell))
        raise WrongCallError(f"{name or 'SHELL'!r} is no shell that can complete: name one of {shells}")
    if not install:
        if output.json:
            return show_document("completion", {"shell": wanted, "script": SCRIPTS[wanted], "file": None})
        print(SCRIPTS[wanted], end="")
        return 0
    file = get_default_completion_path(wanted, "emdstore").absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SCRIPTS[wanted], encoding="utf-8")
    if wanted != "fish":  # which looks there by itself
        add_to_rc_file(file, "emdstore", wanted)
    if output.json:
        return show_document("completion", {"shell": wanted, "script": SCRIPTS[wanted], "file": str(file)})
    say(f"{file} is read by new shells")
    return 0
