"""Commands on what results came from: what an execution read, what depends on a dataset, and what runs took."""

from __future__ import annotations

from typing import Any

from emdstore.catalog import ExecutionRow, InputRow
from emdstore.catalog.resources import Percentiles, resources_by_diagnostic
from emdstore.cli.options import PATIENT, PLAIN, Config, Folder, Latest, OptionalCatalogURL, Output, Patience
from emdstore.cli.render import note, say, show_document, show_fields, show_table, size_text
from emdstore.cli.workspaces import open_catalog_of


def inputs(
    execution: Folder,
    /,
    *,
    catalog: OptionalCatalogURL = None,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Show what an execution came from: what it read, the versions of what computed it, and what that took.

    Parameters
    ----------
    execution
        Its fragment, or the end of it, or its id.
    """
    with open_catalog_of(catalog, config, patience) as database:
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
        note("nobody told what it read")
    if row.software:
        say("")
        show_table(("software", "version"), sorted(row.software.items()))
    return 0


def affected(
    *datasets: str,
    latest: Latest = False,
    retracted: bool = False,
    catalog: OptionalCatalogURL = None,
    config: Config = None,
    patience: Patience = PATIENT,
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
    filters: dict[str, Any] = {"dataset": list(datasets), "retracted": None if retracted else False}
    if latest:
        filters["latest"] = True
    with open_catalog_of(catalog, config, patience) as database:
        rows = {row.fragment: row for row in database.executions(**filters)}
        read = list(database.inputs(**filters))
    if output.json:
        return show_document("affected", {"executions": list(rows.values()), "inputs": read})
    columns = ("execution", "state", "published", "input", "version", "role")
    show_table(columns, [_affected(rows[each.fragment], each) for each in read if each.fragment in rows])
    if not rows:
        note(f"no execution is known to have read {', '.join(datasets)}")
    return 0


def resources(
    *,
    provider: tuple[str, ...] = (),
    diagnostic: tuple[str, ...] = (),
    latest: Latest = False,
    catalog: OptionalCatalogURL = None,
    config: Config = None,
    patience: Patience = PATIENT,
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
    with open_catalog_of(catalog, config, patience) as database:
        found = resources_by_diagnostic(database.executions(**filters))
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
