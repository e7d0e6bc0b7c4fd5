"""The commands, and what they have in common: parsing, errors, exit codes.

Commands are grouped in modules, which are imported when they are called. A command takes its arguments, calls the
library once, renders the result, and returns its exit code. Its exceptions are rendered here.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from cyclopts.config import Env

from emdstore._version import __version__
from emdstore.cli.examples import examples_of
from emdstore.cli.exit_codes import BROKEN_PIPE, FAILED, INTERRUPTED, OK, SIGNALLED, WRONG_CALL, exit_code, table
from emdstore.cli.logs import SAID, begin_logging, keep_nothing_said
from emdstore.cli.manners import Manners, behave, manners
from emdstore.cli.options import PLAIN, Output, WrongCallError
from emdstore.cli.paths import understand
from emdstore.cli.render import note, printable, show_document
from emdstore.errors import EmdstoreError, redact, secrets_in

COMMANDS = {  # name: where it is, and its first line; a command is imported when it is called
    "demo": ("demo:demo", "Evaluate a made-up ensemble of climate models: run, publish, load a catalog."),
    "ls": ("stores:ls", "List the artifacts of a store."),
    "tree": ("look:tree", "Show how a store is laid out: folders, with the artifacts in each."),
    "stat": ("look:stat", "Tell what an artifact is, and what the record of its set says of it."),
    "cat": ("look:cat", "Write an artifact's bytes to stdout."),
    "du": ("look:du", "Tell how much room a store's sets take."),
    "transfer": ("stores:transfer_artifacts", "Copy artifacts from one store to another."),
    "rm": ("removing:rm", "Remove sets and keys by their names, as far as nothing is lost."),
    "diff": ("diff:diff", "Tell which sets and keys of two stores differ, and how."),
    "verify": ("results:verify_store", "Hash every artifact again and compare it with its record."),
    "sets": ("sets:show_sets", "List the sets of a results store, each with its state."),
    "events": ("events:events", "Show what happened in a results store, and pass it on."),
    "repair": ("sets:repair_set", "Mend a damaged set from a good copy of its bytes."),
    "check": ("check:check", "Check bundles and series files against the JSON Schemas of EMDS."),
    "retract": ("sets:retract_set", "Say that a published set is not to be used any more."),
    "unretract": ("sets:unretract_set", "Take a set's retraction back."),
    "materialize": ("results:materialize", "Promote one execution's artifact set, and publish it."),
    "replay": ("results:replay_store", "Load every set of a results store into the catalog."),
    "watch": ("watching:watch", "Replay a results store again and again, as a service."),
    "show": ("listing:show", "Show what the catalog holds of one execution."),
    "inputs": ("origins:inputs", "Show what an execution read, and what computed it."),
    "affected": ("origins:affected", "List the executions that read a dataset."),
    "resources": ("origins:resources", "Tell what the runs of each diagnostic took."),
    "export": ("export:export", "Write rows of the catalog to a CSV, JSON lines or Parquet file."),
    "serve": ("web:serve", "Look at what was ingested in a browser."),
    "report": ("web:report", "Write the pages of `serve` as files."),
    "init": ("executions:init", "Write the emdstore.toml of a new workspace."),
    "run": ("running:run", "Run a program as an execution."),
    "commit": ("executions:commit", "Ship executions: bytes, then the record, then the rows."),
    "status": ("status:status", "Tell where the workspace stands: what runs, waits and failed."),
    "logs": ("status:logs", "Write an execution's log to stdout."),
    "history": ("status:history", "Tell what became of an execution group."),
    "list": ("listing:list_executions", "List the executions of the workspace."),
    "abort": ("cleaning:abort", "Abandon executions that were not shipped."),
    "recover": ("cleaning:recover", "Stop running executions whose process is gone."),
    "reingest": ("executions:reingest", "Publish and ingest an execution's set again, as a new execution."),
    "gc": ("cleaning:gc", "Remove scratch folders that are not needed any more, and what was left behind."),
    "config show": ("configuring:show", "Show every setting, with where it comes from."),
    "config check": ("configuring:check", "Read the configuration, and try each named store."),
    "db check": ("database:check", "Tell which schema the catalog has."),
    "db upgrade": ("database:upgrade", "Bring the catalog's schema up to date."),
    "db rebind": ("database:rebind", "Tell the catalog where its results store is now."),
    "forget": ("database:forget", "Remove one execution from the catalog."),
    "manifest": ("releases:manifest", "Print the SHA-256 of what is published, for sha256sum -c."),
    "release create": ("releases:create", "Name exactly these sets, as they are, in a list that never changes."),
    "release list": ("releases:list_all", "List the releases of a results store, and their aliases."),
    "release show": ("releases:show", "Show which sets a release names."),
    "release verify": ("releases:check", "Tell whether all is as it was released, byte by byte."),
    "release diff": ("releases:diff", "List what is different from one release to another."),
    "release alias": ("releases:alias", "Point an alias, such as production, at a release."),
    "release sign": ("releases:sign", "Sign a release with an SSH key."),
    "promote": ("promoting:promote", "Promote results from one target to another, through checks."),
    "adopt": ("adopting:adopt_folder", "Publish what ESMValTool, PMP, ILAMB or CMEC have written."),
    "deposit": ("exchanging:deposit", "Pack published sets for an archive: RO-Crate, BagIt."),
    "cite": ("exchanging:cite", "Print what to cite for published sets."),
    "provenance": ("exchanging:provenance", "Print what made published sets, from what: PROV-JSON."),
    "datastore": ("exchanging:datastore", "Write a datastore of published data files for intake-esm."),
    "snapshot": ("snapshots:snapshot", "Write the catalog as Parquet files beside the results."),
    "compare": ("compare:compare", "Tell what a new run, release or site changes, within tolerances."),
    "doctor": ("doctor:doctor", "Look at this installation, and try a store."),
    "help": ("help:show_help", "Tell about exit codes, filters, URLs, or the environment."),
    "completion": ("help:completion", "Print or install what a shell needs to complete commands and options."),
    "man": ("manual:man", "Print or install the manual pages."),
    "schema": ("schema:show_schema", "Print the JSON Schema of a file, or of what a command prints with --json."),
    "climate-ref retractions": (
        "climate_ref:retractions",
        "Retract in a results store what is retracted in Climate-REF's database.",
    ),
    "climate-ref replay": ("climate_ref:replay", "Load every set of a results store into Climate-REF's database."),
}
_GROUPS = {
    "config": "Look at the configuration: show, check.",
    "db": "Look after the catalog: check, upgrade, rebind.",
    "release": "Name sets, stand behind them, and see that they stay what they were.",
    "climate-ref": "Work with a Climate-REF's own database: replay, retractions.",
}

SECTIONS = {
    "Look at a store": ("ls", "tree", "stat", "cat", "du", "sets", "events", "diff", "manifest"),
    "Move, prove and mend": ("transfer", "materialize", "verify", "repair", "check", "rm", "retract", "unretract"),
    "Run and publish, in a workspace": (
        "init", "run", "commit", "adopt", "status", "logs", "list", "history", "abort", "recover", "reingest", "gc",
    ),
    "Load and ask a catalog": (
        "replay", "watch", "show", "inputs", "affected", "resources", "compare", "export", "snapshot", "datastore",
        "forget", "db",
    ),
    "Stand behind results": ("release", "promote", "cite", "deposit", "provenance"),
    "Look in a browser": ("serve", "report"),
    "About emdstore": ("demo", "doctor", "config", "help", "man", "completion", "schema", "climate-ref"),
}  # fmt: skip
"""The commands by what they are about; a group counts as one."""


def sections() -> dict[str, tuple[str, ...]]:
    """Return `SECTIONS`, with what none of them names as the last one."""
    listed = {name for names in SECTIONS.values() for name in names}
    rest = dict.fromkeys(name.split()[0] for name in COMMANDS if name.split()[0] not in listed)
    return SECTIONS | ({"More": tuple(rest)} if rest else {})


def make_app(called: Sequence[str] = ()) -> App:
    """Return the parser. The called command has its docstring as help, the others one line."""
    app = App(
        name="emdstore",
        help="Promote the artifacts of climate diagnostics between stores, and load a catalog from what was published.",
        help_epilogue=(
            "A STORE is a folder or a URL: results, file:///data/results, s3://bucket/results.\n\n"
            f"Exit codes:\n\n{table()}"
        ),
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        config=Env("EMDSTORE_", command=True),
    )
    section_of: dict[str, Group] = {}
    for position, (title, names) in enumerate(sections().items()):
        section_of |= dict.fromkeys(names, Group(title, sort_key=position))
    groups = {"": app}
    for name, summary in _GROUPS.items():
        groups[name] = App(name=name, help=summary, sort_key=len(COMMANDS), group=section_of.get(name))
        app.command(groups[name])
    for position, (name, (place, summary)) in enumerate(COMMANDS.items()):
        group, _, last = name.rpartition(" ")
        is_called = name.split() == list(called[: name.count(" ") + 1])
        told: dict[str, Any] = {"help_epilogue": examples_of(name)} if is_called else {"help": summary}
        if not group and name in section_of:
            told["group"] = section_of[name]
        groups[group].command(f"emdstore.cli.{place}", name=last, sort_key=position, **told)
    return app


_INSTALL_COMPLETION, _COMPLETE = "--install-completion", "--complete"


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. No user error leaves a traceback."""
    _given[:] = arguments
    if arguments[:1] == [_INSTALL_COMPLETION]:  # as other programs call it
        arguments = ["completion", *arguments[1:], "--install"]
    if arguments[:1] == [_COMPLETE]:  # as the scripts of `emdstore completion` call it
        return _complete(arguments[1:])
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments  # the rest belongs to a program
    keep_nothing_said()
    lines = "--json-lines" in ours
    behave(Manners(json=lines or "--json" in ours, lines=lines))  # what is wrong with the call is told so, too
    for stream in (sys.stdout, sys.stderr):
        # A key that the terminal's encoding cannot show must not end a command.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        with _ended_as_by_ctrl_c(tuple(arguments[:1])) as ended_by:
            try:
                code = _run(arguments)
            except CycloptsError as error:
                code = _fail(WRONG_CALL, "UsageError", _what_is_wrong(error), usage=True)
            except EmdstoreError as error:
                about = {"key": error.key, "store": error.store}
                code = _fail(exit_code(error), type(error).__name__, str(error), about=about)
            except KeyboardInterrupt as error:
                signal.setitimer(signal.ITIMER_REAL, 0)  # nothing is left to do but to say so
                code = _fail(INTERRUPTED, "Interrupted", str(error) or "interrupted")
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 - an error that we did not foresee must not show secrets either
                code = _fail_unexpectedly(error, ours=ours)
            finally:
                sys.stdout.flush()
            code = SIGNALLED + ended_by[0] if code == INTERRUPTED and ended_by else code
            SAID.info("ended with exit code %d", code)
            return code
    except BrokenPipeError:
        # The reader of the output has seen enough. What is still buffered is discarded, without a message at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


_OWN_SIGNALS = {("run",), ("serve",)}
"""Commands that handle signals themselves: one passes them on to its program, the other is a server."""

_SECONDS_TO_END = 2.0
"""How many seconds unfinished work may take to be finished or undone. A waiting engine cannot be interrupted."""


@contextmanager
def _ended_as_by_ctrl_c(command: tuple[str, ...]) -> Iterator[list[int]]:
    """Treat the signals that end a batch job, or report a lost connection, like Ctrl-C; remember which one came.

    They are handled like SIGINT, so that code that defers it also defers these. After the first one, unfinished work is
    finished or undone, for some seconds at most; what is cut off then is as if the process had been killed, and the
    same command continues from there. The second one ends the process at once.
    """
    came: list[int] = []
    interrupts = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
            leave()
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_TO_END)
        signal.default_int_handler(number, frame)

    def end(number: int, _: object) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    def leave(*_: object) -> NoReturn:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(each, signal.SIG_IGN)  # what is said now is said whole
        code = SIGNALLED + came[0] if came else INTERRUPTED
        try:
            said = "interrupted before the work in hand came to its end; run the command again to finish"
            _fail(code, "Interrupted", said)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    before = {}
    if command not in _OWN_SIGNALS and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` makes SIGHUP ignored, and it stays so
                before[number] = signal.signal(number, end)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
            before[signal.SIGALRM] = signal.signal(signal.SIGALRM, leave)
    try:
        yield came
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: Sequence[str]) -> int:
    app = make_app(arguments)
    try:
        command, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    except ValueError as error:  # from a class that takes several options, and refuses the combination
        raise WrongCallError(_without_values(str(error))) from error
    understand(bound.arguments)
    output = next((value for value in bound.arguments.values() if isinstance(value, Output)), PLAIN)
    behave(output.manners())
    begin_logging(output, arguments, printable, lambda text: redact(text, _known_secrets()))
    call: Callable[..., Any] = command
    return call(*bound.args, **bound.kwargs) or OK


def _complete(words: Sequence[str]) -> int:
    from emdstore.cli.completing import complete

    with suppress(Exception):
        for each in complete(words[0], words[1:], make_app(), list(COMMANDS)):
            print(each)
    return OK


def _fail(
    code: int,
    kind: str,
    message: str,
    *,
    usage: bool = False,
    about: Mapping[str, str | None] | None = None,
) -> int:
    message = redact(message, _known_secrets())
    if manners().json:
        error = {"type": kind, "message": message, **(about or {})}
        return show_document("error", {"error": error, "exit_code": code}, code)
    note(f"error: {message}", style="red")
    if usage:
        note("`emdstore --help` lists the commands, `emdstore COMMAND --help` what each takes.")
    return code


def _fail_unexpectedly(error: Exception, *, ours: Sequence[str]) -> int:
    what = str(error).strip()
    message = f"unexpected {type(error).__name__}{': ' if what else ''}{what}"
    if any(each.startswith("-v") or each == "--verbose" for each in ours):
        note(redact("".join(traceback.format_exception(error)), _known_secrets()))
    else:
        message += " (this is a fault of emdstore; with -v it shows where)"
    return _fail(FAILED, type(error).__name__, message)


_SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_SAS_TOKEN", "EMDSTORE_TOKEN", "PGPASSWORD",
)  # fmt: skip


_given: list[str] = []
"""The arguments of the command that runs."""


def _known_secrets() -> list[str]:
    """Return the secrets in the arguments and the environment."""
    ours = [value for name, value in os.environ.items() if name.startswith(("EMDSTORE_", "AWS_ENDPOINT", "REF_"))]
    urls = [text.partition("=")[2] if text.startswith("--") else text for text in _given]
    given = [secret for url in (*urls, *ours) for secret in secrets_in(url)]
    return [*given, *(os.environ[name] for name in _SECRET_VARIABLES if os.environ.get(name))]


# Somebody may try `--secret-access-key=...`, whose value is a secret, too.
_VALUE_OF_OPTION = re.compile(r"(--[\w-]+=)[^\s\"']+")


def _what_is_wrong(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"there is no use for {', '.join(map(repr, error.unused_tokens))}"
    return _without_values(str(error))


def _without_values(message: str) -> str:
    return redact(_VALUE_OF_OPTION.sub(r"\1***", message))
