"""The command that exports rows of the catalog for other programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, BinaryIO, Literal, get_args

from cyclopts import Parameter

from emdstore.catalog.choosing import chosen_executions
from emdstore.catalog.export import Format
from emdstore.catalog.rows import Status
from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import (
    PLAIN,
    Access,
    Folder,
    NothingMatchedError,
    OptionalCatalogURL,
    Output,
    WrongCallError,
    open_dest,
    refuse_empty,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.render import note, show_document, size_text, sum_up
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores, OwnCatalog
from emdstore.errors import redact_url
from emdstore.stores import SupportsStreaming
from emdstore.stores.port import ArtifactWriter
from emdstore.web.text import count_text

Kind = Literal["executions", "artifacts", "outputs", "scalars", "series", "inputs", "warnings"]

_WITH_DIMENSIONS = ("outputs", "scalars", "series")
_STDOUT = "-"


def export(
    kind: Kind,
    /,
    *,
    file: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)],
    format: Format | None = None,
    where: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    index: tuple[str, ...] = (),
    status: tuple[Status, ...] = (),
    choosing: Choosing = ANYTHING,
    fragment: Folder = "",
    release: str | None = None,
    dataset: tuple[str, ...] = (),
    retracted: bool = False,
    superseded: bool = False,
    outliers: Literal["flag", "hide"] | None = None,
    catalog: OptionalCatalogURL = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Write rows of the catalog to a file, each dimension a column. However many there are, memory is bounded.

    The file appears only when everything is written. An option that is given several times selects any of its values.

    Parameters
    ----------
    kind
        Which rows.
    file
        Where to: a file, a URL in any store (s3://bucket/scalars.parquet), or - for stdout.
    format
        How to write it; by default what the file's name ends in.
    where
        Only rows with this value of a dimension, as NAME=VALUE; conditions on several dimensions must all hold.
    index
        Only series along the index of this name, such as time: NetCDF and Zarr hold those of one.
    status
        Only rows of executions in this state.
    fragment
        Only rows of the executions in this folder.
    release
        Only rows of the sets of this release, or of the one that this alias points at; refused if one of them has
        changed.
    dataset
        Only rows of executions that read this dataset: its name, PID or DOI; `*` stands for any text.
    retracted
        Also rows of retracted sets.
    superseded
        Also values of sets after which another version was published in the same execution group.
    outliers
        Tell of each scalar whether its model's values lie far from those of the others, or leave those out; by the
        interquartile range over models, for each metric.
    """
    chosen = format or _format_of(file)
    if file == _STDOUT and output.json:
        raise WrongCallError("--json and -o - both write to stdout: give a file")
    selection = choosing.of_sets()
    given = (("status", status), ("fragment", fragment), ("release", release), ("dataset", list(dataset)))
    filters: dict[str, Any] = {name: value for name, value in given if value}
    if retracted:
        filters["retracted"] = None
    if where and kind not in _WITH_DIMENSIONS:
        raise WrongCallError(f"{kind} have no dimensions: --where is for {', '.join(_WITH_DIMENSIONS)}")
    if where:
        filters["dimensions"] = _dimensions(where)
    if index:
        if kind != "series":
            raise WrongCallError(f"--index is about series, not {kind}")
        filters["index_name"] = list(index)
    if kind in _WITH_DIMENSIONS and release is None:
        filters["superseded"] = True if superseded else None
    if outliers is not None:
        if kind != "scalars":
            raise WrongCallError(f"--outliers is about scalars, not {kind}")
        filters["outliers"] = outliers
    with OwnCatalog(catalog, own).open() as database:
        if fragment:
            refuse_empty(
                database.executions(fragment=fragment, retracted=None).count(),
                fragment,
                "execution",
                store=database.url,
            )
        if not selection.is_all:
            chosen_rows = chosen_executions(database, selection)
            filters["ids"] = [row.execution_id for row in chosen_rows]
            if kind in _WITH_DIMENSIONS:
                filters["superseded"] = superseded or release is not None
            refuse_unmatched(len(filters["ids"]), selection, "execution", store=database.url)
        query = getattr(database, kind)(**filters)
        is_chosen = bool(where or index or status or dataset or fragment or not selection.is_all)
        if is_chosen and not query.count():
            raise NothingMatchedError(f"no {kind} in {database.url} match", store=database.url)
        rows, size = _write(query, chosen, file, own.reach)
        of_release = database.executions(release=release, retracted=True) if release and not retracted else None
        left_out = 0 if of_release is None else of_release.count()
    if output.json:
        document = {"kind": kind, "file": redact_url(file), "format": chosen, "rows": rows, "bytes": size}
        return show_document("export", document)
    if file != _STDOUT:
        sum_up(f"{rows} {kind} ({size_text(size)}) written to {redact_url(file)}")
    if left_out:
        note(f"{count_text(left_out, 'set')} of the release left out, because retracted: --retracted takes them, too")
    if not rows:
        note("no rows were found")
    return 0


def _write(query: Any, format: Format, file: str, access: Access) -> tuple[int, int]:
    """Export a query to a file and return the numbers of rows and bytes."""
    rows = size = 0
    # A progress bar among the rows on a terminal would not help.
    shown = nullcontext() if file == _STDOUT and sys.stdout.isatty() else set_progress("export")
    try:
        with shown as update:

            def on_progress(done: int, total: int) -> None:
                nonlocal rows
                rows = done
                if update is not None:
                    update(None, done, total)

            pieces = query.export(format, on_progress=on_progress)
            with _open_file(file, access) as writer:
                for piece in pieces:
                    writer.write(piece)
                    size += len(piece)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {redact_url(file)} was not written" if file != _STDOUT else "") from None
    return rows, size


@contextmanager
def _open_file(file: str, access: Access) -> Iterator[ArtifactWriter | BinaryIO]:
    if file == _STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if "://" in file:
        folder, _, name = file.rpartition("/")
    else:
        file = os.path.expanduser(file)
        if os.path.exists(file) and not os.path.isfile(file):
            raise WrongCallError(f"{file!r} is there and is not a file: give another name, or - for stdout")
        folder, name = os.path.split(os.path.realpath(file))  # through a link, as a redirection would
    store = open_dest(folder, access)
    if not isinstance(store, SupportsStreaming):
        raise WrongCallError(f"{store!r} takes no streams: export to a folder of this machine, and copy it", key=name)
    with store.open_writer(name) as writer:
        yield writer


_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".nc": "nc",
    ".zarr.zip": "zarr",
}


def _format_of(file: str) -> Format:
    for suffix, format in _FORMATS.items():
        if file.lower().endswith(suffix):
            return format
    what = "stdout tells no format" if file == _STDOUT else f"{file!r} ends in none of {', '.join(_FORMATS)}"
    raise WrongCallError(f"{what}: give --format, one of {', '.join(get_args(Format))}")


def _dimensions(where: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for each in where:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise WrongCallError(f"--where takes NAME=VALUE, such as region=global, not {each!r}")
        wanted.setdefault(name, []).append(value)
    return wanted
