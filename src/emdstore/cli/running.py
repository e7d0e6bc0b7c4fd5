"""The command that runs a program as an execution."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import attrs
import msgspec
from cyclopts import Parameter

from emdstore.cli.options import PLAIN, Output, WrongCallError
from emdstore.cli.render import note, show_document, show_fields, sum_up
from emdstore.cli.workspaces import OWN, NoCatalog, Own
from emdstore.errors import EmdstoreError
from emdstore.sets.origin import Dataset
from emdstore.sets.result import METRIC_NAME

if TYPE_CHECKING:
    from emdstore.executions.execution import Execution


def run(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    provider: str,
    diagnostic: str,
    group: str = "default",
    description: str | None = None,
    dataset_hash: str | None = None,
    selector: tuple[str, ...] = (),
    reads: Annotated[tuple[str, ...], Parameter(name="--input")] = (),
    inputs: Path | None = None,
    provider_version: str | None = None,
    diagnostic_version: str | None = None,
    software: tuple[str, ...] = (),
    prefix: bool = False,
    no_catalog: NoCatalog = False,
    own: Own = OWN,
    output: Output = PLAIN,
) -> int:
    """Run a program as an execution: emdstore run --provider pmp --diagnostic enso -- python enso.py.

    The program writes to the folder that EMDSTORE_OUTPUT_DIR names; what it prints becomes out.log; the bundles
    diagnostic.json, output.json and series.json that it leaves there make its result. Signals are passed on to it.
    Nothing is shipped: `emdstore commit` does that. The exit code is 0 if the program's is, otherwise 1.

    Parameters
    ----------
    command
        The program and its arguments, after `--`.
    provider
        The diagnostic's provider.
    diagnostic
        Its name.
    group
        The group of input datasets that it runs over.
    description
        What the execution is about, in a sentence.
    dataset_hash
        Identifies the exact input datasets.
    selector
        What the group's datasets have in common, as NAME=VALUE; may be given several times.
    reads
        A dataset that the program reads, by its name; may be given several times.
    inputs
        A JSON file with a list of such datasets: each an object with name and, where known, version, pid, doi, sha256,
        variable and role.
    provider_version
        The version of the provider's software.
    diagnostic_version
        The version of the diagnostic.
    software
        The version of a package that it computes with, as NAME=VERSION; may be given several times.
    prefix
        Begin each line of the program's output with the name of the execution, to tell apart what several print in one
        terminal; with --quiet only the log has it. The log is always as the program printed it.
    no_catalog
        Do not use the catalog: the execution is known only in scratch, until `emdstore commit --no-catalog` publishes
        it and `emdstore replay` loads it.
    """
    if not command:
        raise WrongCallError("give the program to run, and its arguments, after --")
    if shutil.which(command[0]) is None:
        raise WrongCallError(f"there is no program {command[0]!r} that can be run")
    selectors = dict(_name_and_value(each, "a selector is NAME=VALUE") for each in selector)
    versions = dict(_name_and_value(each, "--software is NAME=VERSION") for each in software)
    datasets = [*(Dataset(name=name) for name in reads), *(_datasets_in(inputs) if inputs is not None else ())]
    with own.open(no_catalog=no_catalog) as workspace:
        execution = workspace.start_execution(
            provider=provider,
            diagnostic=diagnostic,
            group=group,
            selectors=selectors,
            dataset_hash=dataset_hash,
            description=description,
            provider_version=provider_version,
            diagnostic_version=diagnostic_version,
            software=versions,
        )
        for dataset in datasets:
            execution.add_input(**attrs.asdict(dataset))
        code: int | None = None
        try:
            with _program_shown(execution.fragment if prefix else None, output), execution:
                code = execution.run(command)
        except EmdstoreError:
            raise
        except OSError as error:
            note(f"error: {command[0]!r} could not be run: {error}")
        except KeyboardInterrupt:
            note(f"interrupted: {execution.fragment} is {execution.status}; {_next_step(execution, no_catalog)}")
            raise
        return _show_run(execution, code, no_catalog, output)


@contextmanager
def _program_shown(name: str | None, output: Output) -> Iterator[None]:
    """Show what a program prints in the block as it is wanted. If stdout gets JSON, it gets nothing else."""
    stream = sys.stderr if output.json else sys.stdout
    if output.quiet:
        with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing):
            yield
    elif name is None:
        with redirect_stdout(stream):
            yield
    else:
        lines = _Prefixed(stream, f"{name}  ")
        with redirect_stdout(lines):
            try:
                yield
            finally:
                lines.close()


class _Prefixed(io.TextIOBase):
    """Writes whole lines, each after a prefix, at once, so that lines of several processes do not mix."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._rest = stream, prefix, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def close(self) -> None:
        if self._rest:
            self.write("\n")
        super().close()


def _name_and_value(text: str, rule: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise WrongCallError(f"{rule}, not {text!r}")
    return name, value


def _datasets_in(file: Path) -> list[Dataset]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Dataset])
    except OSError as error:
        raise WrongCallError(f"--inputs {str(file)!r} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WrongCallError(f"--inputs {str(file)!r} is no list of datasets: {error}") from error


def _next_step(execution: Execution, no_catalog: bool) -> str:
    return f"next: emdstore commit {'--no-catalog ' if no_catalog else ''}{shlex.quote(execution.fragment)}"


def _show_run(execution: Execution, code: int | None, no_catalog: bool, output: Output) -> int:
    row, folder, exit_code = execution.row, execution.output_directory, 0 if code == 0 else 1
    if output.json:
        document = {"execution": row, "program_exit_code": code, "output_directory": str(folder)}
        return show_document("run", document, exit_code)
    show_fields(
        {"execution": row.fragment, "status": row.status, "exit code of the program": code, "output directory": folder}
    )
    if code == 0 and not (folder / METRIC_NAME).is_file():
        note(f"the program left no {METRIC_NAME}: committed as it is, this counts as a failure of the diagnostic")
    sum_up(_next_step(execution, no_catalog))
    return exit_code
