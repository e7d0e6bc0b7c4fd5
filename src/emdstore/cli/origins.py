"""Commands on what results came from: what an execution read, what depends on a dataset, and what runs took."""

from __future__ import annotations

from typing import Any

from emdstore.catalog import ExecutionRow, InputRow
from emdstore.catalog.resources import Percentiles, resources_by_diagnostic
from emdstore.cli.options import PLAIN, Folder, Latest, NothingMatchedError, Output, WrongCallError
from emdstore.cli.render import note, say, show_document, show_fields, show_table, size_text
from emdstore.cli.workspaces import OWN_CATALOG, OwnCatalog
from emdstore.web.text import count_text


def inputs(
    execution: Folder,
    /,
    *,
    catalog: OwnCatalog = OWN_CATALOG,
    output: Output = PLAIN,
) -> int:
    """Show what an execution came from: what it read, the versions of what computed it, and what that took.

    Parameters
    ----------
    execution
        Its fragment, or the end of it, or its id.
    """
    with catalog.open() as database:
        row = database.execution(execution)
        read = [
            each for each in database.inputs(fragment=row.fragment, retracted=None) if each.fragment == row.fragment
        ]
    if output.json:
        return show_document("inputs", {"execution": row, "inputs": read})
    show_fields(
        {
            "execution": row.fragment,
            "provider": _with_version(row.provider, row.provider_version),
            "diagnostic": _with_version(row.diagnostic, row.diagnostic_version),
            "host": row.host,
            "wall seconds": row.wall_seconds,
            "cpu seconds": row.cpu_seconds,
            "peak memory": None if row.peak_memory_bytes is None else size_text(row.peak_memory_bytes),
            "exit code": row.exit_code,
        }
    )
    if read:
        say("")
        show_table(("role", "input", "version", "variable", "identifier"), map(_listed, read))
    else:
        note("what it read was not reported")
    if row.software:
        say("")
        show_table(("software", "version"), sorted(row.software.items()))
    return 0


_NOBODY_READ = "no execution is known to have read"


def affected(
    *datasets: str,
    latest: Latest = False,
    retracted: bool = False,
    catalog: OwnCatalog = OWN_CATALOG,
    output: Output = PLAIN,
) -> int:
    """List the executions that read a dataset, and so depend on it.

    Parameters
    ----------
    datasets
        Names, PIDs or DOIs of datasets, or keys of staged files; `*` stands for any text: 'CMIP6.*.ACCESS-ESM1-5.*'.
    retracted
        Also executions that were retracted.
    """
    if not datasets:
        raise WrongCallError("name the datasets: `emdstore inputs EXECUTION` lists those of an execution")
    filters: dict[str, Any] = {"dataset": list(datasets), "retracted": None if retracted else False}
    if latest:
        filters["latest"] = True
    with catalog.open() as database:
        rows = {row.fragment: row for row in database.executions(**filters)}
        read = list(database.inputs(**filters))
        left_out = 0 if retracted else database.executions(dataset=list(datasets), retracted=True).count()
        unknown = [each for each in datasets if not database.executions(dataset=[each], retracted=None).count()]
        if len(unknown) == len(datasets):
            raise NothingMatchedError(f"{_NOBODY_READ} {', '.join(unknown)}", store=database.url)
    code = 1 if unknown else 0
    if output.json:
        document = {"executions": list(rows.values()), "inputs": read, "unknown": unknown}
        return show_document("affected", document, code)
    columns = ("execution", "state", "published", "input", "version", "role")
    show_table(columns, [_affected(rows[each.fragment], each) for each in read if each.fragment in rows])
    if unknown:
        note(f"{_NOBODY_READ} {', '.join(unknown)}")
    if left_out:
        note(
            f"{count_text(left_out, 'execution')} that read it left out, because retracted: --retracted shows them, too"
        )
    return code


def resources(
    *,
    provider: tuple[str, ...] = (),
    diagnostic: tuple[str, ...] = (),
    latest: Latest = False,
    catalog: OwnCatalog = OWN_CATALOG,
    output: Output = PLAIN,
) -> int:
    """Tell what the runs of each diagnostic took: the median, what nine out of ten stay below, and the most.

    Parameters
    ----------
    provider
        Only of this provider; may be given several times.
    diagnostic
        Only of this diagnostic; may be given several times.
    """
    filters: dict[str, Any] = {
        name: value for name, value in (("provider", provider), ("diagnostic", diagnostic)) if value
    }
    if latest:
        filters["latest"] = True
    with catalog.open() as database:
        found = resources_by_diagnostic(database.executions(**filters))
        if not found and (provider or diagnostic):
            raise NothingMatchedError(f"no run of {', '.join((*provider, *diagnostic))} is known", store=database.url)
    if output.json:
        return show_document("resources", {"diagnostics": found})
    columns = (
        "diagnostic",
        "runs",
        "wall s: median",
        "90 %",
        "most",
        "cpu s: median",
        "most",
        "memory: median",
        "most",
    )
    show_table(
        columns,
        [
            (
                f"{each.provider}/{each.diagnostic}",
                each.executions,
                *_spread(each.wall_seconds),
                *_spread(each.cpu_seconds)[::2],
                *(None if size is None else size_text(size) for size in _spread(each.peak_memory_bytes)[::2]),
            )
            for each in found
        ],
    )
    return 0


def _spread(measured: Percentiles | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if measured is None else (measured.median, measured.p90, measured.most)


def _with_version(name: str, version: str | None) -> str:
    return name if version is None else f"{name} {version}"


def _listed(row: InputRow) -> tuple[object, ...]:
    return row.role, _name(row), row.version, row.variable, row.doi or row.pid or row.dataset_sha256 or row.sha256


def _affected(execution: ExecutionRow, row: InputRow) -> tuple[object, ...]:
    return execution.fragment, execution.state, execution.published_at, _name(row), row.version, row.role


def _name(row: InputRow) -> str | None:
    return row.dataset or row.key
