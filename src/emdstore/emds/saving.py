"""Saving what libraries make (figures, datasets, tables) as a file of a set. None of these libraries is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emdstore import system
from emdstore.emds.output import OutputKind
from emdstore.errors import BundleError
from emdstore.keys import STAGING_PREFIX

_IMAGES = (".png", ".svg", ".jpg", ".jpeg", ".webp", ".pdf")


def figure_saver(figure: Any, suffix: str) -> tuple[OutputKind, Callable[[Path], object]]:
    """Return what a figure becomes, and how it is saved: matplotlib's (also by its axes), or plotly's."""
    drawn = getattr(figure, "figure", None) if not hasattr(figure, "write_html") else figure
    if suffix == ".html" and hasattr(figure, "write_html"):
        return "html", lambda path: figure.write_html(
            path
        )  # plotly's script is in it: nothing is loaded from elsewhere
    for each, name in ((figure, "savefig"), (drawn, "savefig"), (figure, "write_image")):
        save = getattr(each, name, None)
        if save is not None and suffix in _IMAGES:
            return "plot", save
    raise _not_as("figure of matplotlib or plotly", figure, suffix, (*_IMAGES, ".html (plotly)"))


def dataset_saver(dataset: Any, suffix: str) -> Callable[[Path], object]:
    """Return how a dataset or array of xarray is saved."""
    if suffix != ".nc" or not hasattr(dataset, "to_netcdf"):
        raise _not_as("dataset of xarray", dataset, suffix, (".nc",))
    save: Callable[[Path], object] = dataset.to_netcdf
    return save


def table_saver(table: Any, suffix: str) -> tuple[OutputKind, Callable[[Path], object]]:
    """Return what a table becomes, and how it is saved: a frame of pandas or Polars."""
    names: Mapping[str, tuple[str, ...]] = {
        ".csv": ("to_csv", "write_csv"),
        ".parquet": ("to_parquet", "write_parquet"),
        ".html": ("to_html",),
    }
    save = next((getattr(table, name) for name in names.get(suffix, ()) if hasattr(table, name)), None)
    if save is None:
        raise _not_as("frame of pandas or Polars", table, suffix, tuple(names))
    return ("html" if suffix == ".html" else "data"), save


def _not_as(what: str, given: object, suffix: str, suffixes: tuple[str, ...]) -> BundleError:
    kind = type(given)
    return BundleError(
        f"{kind.__module__}.{kind.__qualname__} cannot be saved as {suffix or 'a file without a suffix'!r}: give a "
        f"{what}, and a name that ends in {', '.join(suffixes)}"
    )


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a path to write to, with the same suffix; afterwards the file takes its place, whole or not at all."""
    beside = path.with_name(f"{STAGING_PREFIX}{system.current().token(8)}{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
