"""Writing the three bundles of a diagnostic.

::

    writer = OutputWriter(directory)
    writer.add_plot("trend.png", long_name="Sea ice trend", dimensions={"region": "arctic"})
    writer.add_scalar(-0.87, region="arctic", metric="r_value")
    writer.add_series([1.0, None, 3.0], [1850, 1851, 1852], index_name="year", dimensions={"region": "arctic"})
    result = writer.write()

Mistakes raise at the call that makes them, not when the file is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Required, TypedDict, Unpack

import attrs

from emdstore.emds.curating import RECORD_NAME, RETRACTION_NAME, Rejection, resolve_name
from emdstore.emds.jsontext import parse, render
from emdstore.emds.layout import Point, arrange, spell
from emdstore.emds.metric import ATTRIBUTES, STRUCTURE, encode_metric_bundle
from emdstore.emds.output import OutputBundle, OutputEntry, OutputKind, encode_output_bundle
from emdstore.emds.saving import dataset_saver, figure_saver, staged, table_saver
from emdstore.emds.series import Series, encode_series
from emdstore.errors import ArtifactNotFoundError, BundleError, InvalidKeyError, UnsafePathError
from emdstore.keys import validate_key


class Described(TypedDict, total=False):
    """What each method that adds a file is told about it; see `OutputWriter.add_plot`."""

    long_name: Required[str]
    description: str
    dimensions: Mapping[str, str] | None
    name: str | None


@attrs.frozen
class WrittenBundles:
    """The names of the three files that `OutputWriter.write` wrote, relative to its directory.

    Attributes
    ----------
    metric, output, series
        The names, as in an execution's result.
    """

    metric: str
    output: str
    series: str


class OutputWriter:
    """Collect a run's results, and write its metric, output and series files.

    Parameters
    ----------
    directory
        The run's output directory. Plots, data and html files must be in it before they are added.
    metric, output, series
        The names of the three files to write.
    dimensions
        The scalars' dimensions, outermost first. By default those of the first scalar, and `write` may move one of
        them to the deepest level if the bundle is valid only that way.
    index
        The page to open first.
    provenance
        Keys of the output bundle's provenance, in addition to the empty defaults or instead of them.

    Raises
    ------
    InvalidKeyError
        A file name is a path, is not a valid key, or occurs twice.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        metric: str = "diagnostic.json",
        output: str = "output.json",
        series: str = "series.json",
        dimensions: Sequence[str] | None = None,
        index: str | None = None,
        provenance: Mapping[str, object] | None = None,
    ) -> None:
        self._directory = Path(directory).absolute()
        self._files = WrittenBundles(metric, output, series)
        names = (metric, output, series)
        for name in names:
            validate_key(name)
            if "/" in name or name in (RECORD_NAME, RETRACTION_NAME) or names.count(name) > 1:
                raise InvalidKeyError(f"each of the three files needs a plain name of its own: {name!r}", key=name)
        self._fixed = dimensions is not None
        self._dimensions = None if dimensions is None else _dimension_names(dimensions)
        self._points: dict[tuple[str, ...], Point] = {}
        self._entries: dict[tuple[OutputKind, str], OutputEntry] = {}
        self._series: list[Series] = []
        self._index = index
        self._provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log", **(provenance or {})}

    def add_plot(self, path: Path | str, **about: Unpack[Described]) -> str:
        """Register a plot.

        Parameters
        ----------
        path
            The file, in the writer's directory: relative to it or absolute.
        long_name, description
            What it shows, in short and in full.
        dimensions
            What it shows, such as ``{"region": "arctic"}``.
        name
            The entry's name; by default the file's key.

        Returns
        -------
        str
            The file's key.

        Raises
        ------
        InvalidKeyError
            The path points outside the directory, or is not a valid key.
        UnsafePathError
            The path leads through a link that points outside the directory.
        ArtifactNotFoundError
            The file does not exist.
        BundleError
            There already is a plot of this name, or an argument is not text. After any of these errors the writer is
            unchanged.
        """
        return self._add_output("plot", path, **about)

    def add_data(self, path: Path | str, **about: Unpack[Described]) -> str:
        """Register a data file; see `add_plot`."""
        return self._add_output("data", path, **about)

    def add_html(self, path: Path | str, **about: Unpack[Described]) -> str:
        """Register an HTML page; see `add_plot`."""
        return self._add_output("html", path, **about)

    def add_figure(
        self,
        figure: object,
        path: Path | str,
        **about: Unpack[Described],
    ) -> str:
        """Save a figure in the directory, and register it.

        Parameters
        ----------
        figure
            A figure of matplotlib (or its axes) or of plotly.
        path
            Where to, in the writer's directory; an existing file is replaced. The suffix decides: an image for a plot,
            ``.html`` for a page of plotly's.
        long_name, description, dimensions, name
            See `add_plot`.

        Returns
        -------
        str
            The file's key.

        Raises
        ------
        BundleError
            The figure cannot be saved so. Nothing was written.
        InvalidKeyError, UnsafePathError
            See `add_plot`. Nothing was written.
        """
        kind, save = figure_saver(figure, Path(path).suffix.lower())
        return self._save(save, kind, path, **about)

    def add_dataset(
        self,
        dataset: object,
        path: Path | str,
        **about: Unpack[Described],
    ) -> str:
        """Save an xarray dataset or array as NetCDF (``.nc``), and register it as data; see `add_figure`."""
        save = dataset_saver(dataset, Path(path).suffix.lower())
        return self._save(save, "data", path, **about)

    def add_table(
        self,
        table: object,
        path: Path | str,
        **about: Unpack[Described],
    ) -> str:
        """Save a frame of pandas or Polars as data (``.csv``, ``.parquet``) or as a page (``.html``, of pandas); see
        `add_figure`.
        """
        kind, save = table_saver(table, Path(path).suffix.lower())
        return self._save(save, kind, path, **about)

    def add_scalar(
        self,
        value: object,
        /,
        *,
        attributes: Mapping[str, object] | None = None,
        dimensions: Mapping[str, str] | None = None,
        **named: str,
    ) -> None:
        """Add one value.

        Parameters
        ----------
        value
            A number, also of numpy; None, NaN and numpy's masked value mean that it was computed but does not exist.
        attributes
            Additional information, such as units.
        dimensions, named
            The dimensions and their values: ``dimensions={"region": "arctic"}`` or ``region="arctic"``. All scalars
            have the same dimensions.

        Raises
        ------
        BundleError
            The value is not a number, the dimensions differ from the first scalar's, or they already have a value. The
            writer is unchanged.
        """
        if twice := named.keys() & (dimensions or {}).keys():
            raise BundleError(f"dimension {sorted(twice)[0]!r} is given twice")
        given = _texts({**(dimensions or {}), **named}, "dimensions")
        at = spell(given)
        expected = _dimension_names(given) if self._dimensions is None else self._dimensions
        if not given:
            raise BundleError("a scalar needs at least one dimension, such as metric='bias'")
        if set(expected) != given.keys():
            raise BundleError(f"scalars of one bundle have the same dimensions: {', '.join(expected)}; not {at}")
        if ATTRIBUTES in given.values():
            raise BundleError(f"{ATTRIBUTES!r} cannot be a dimension's value, the format reserves it: {at}")
        place = tuple(given[name] for name in expected)
        if place in self._points:
            raise BundleError(f"there already is a scalar with these dimensions: {at}")
        number = _number(value, at)
        self._points[place] = Point({name: given[name] for name in expected}, number, _plain(attributes or {}))
        self._dimensions = expected

    def add_series(
        self,
        values: Iterable[object],
        index: Iterable[object],
        *,
        index_name: str,
        dimensions: Mapping[str, str],
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Add a one-dimensional series.

        Parameters
        ----------
        values
            Numbers, as in `add_scalar`.
        index
            The same number of texts or finite numbers.
        index_name
            The index's name, such as ``"time"``.
        dimensions
            The dimensions and their values.
        attributes
            Additional information. ``kind``, ``reference_id``, ``value_units``, ``value_long_name``, ``index_units``
            and ``calendar`` are written where newer readers look for them.

        Raises
        ------
        BundleError
            The lengths differ, or a value is of another type. The writer is unchanged.
        """
        at = f"series {len(self._series)}"
        if isinstance(values, str) or isinstance(index, str):
            raise BundleError(f"{at}: values and index are lists, not one text")
        series = Series(
            position=len(self._series),
            dimensions=_texts(dimensions, "dimensions"),
            index_name=_text(index_name, "index_name"),
            index=tuple(_index(one, f"{at}, index {i}") for i, one in enumerate(index)),
            values=tuple(_number(one, f"{at}, value {i}") for i, one in enumerate(values)),
            attributes=_plain(attributes or {}),
        )
        if len(series.values) != len(series.index):
            raise BundleError(f"{at}: {len(series.values)} values, but {len(series.index)} in the index")
        self._series.append(series)

    def write(self) -> WrittenBundles:
        """Write the three files, replacing each atomically.

        All three are created and checked before the first is written. You can call it again after adding more.

        Returns
        -------
        WrittenBundles

        Raises
        ------
        BundleError
            The scalars do not fit the format; the message has the missing combination and advice. No file was
            touched.
        OSError
            A file cannot be written. Each of the three is either the old one or the new one.
        """
        points = list(self._points.values())
        metric = arrange(points, self._dimensions or (), fixed=self._fixed, name=self._files.metric)
        output = OutputBundle(tuple(self._entries.values()), self._index, self._provenance)
        contents = {
            self._files.series: encode_series(self._series, name=self._files.series),
            self._files.output: encode_output_bundle(output, name=self._files.output),
            self._files.metric: encode_metric_bundle(metric, name=self._files.metric),
        }
        for name, data in contents.items():
            with staged(self._directory / name) as path:  # a link at the path is replaced, never followed
                path.write_bytes(data)
        return self._files

    # -- outputs -----------------------------------------------------------------------------------------------------

    def _add_output(self, kind: OutputKind, path: Path | str, **about: Unpack[Described]) -> str:
        entry = self._entry(kind, self._key(path), **about)
        self._entries[kind, entry.name] = entry
        return entry.filename

    def _entry(
        self,
        kind: OutputKind,
        key: str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> OutputEntry:
        entry = OutputEntry(
            kind=kind,
            name=key if name is None else _text(name, "name"),
            filename=key,
            long_name=_text(long_name, "long_name"),
            description=_text(description, "description"),
            dimensions=_texts(dimensions or {}, "dimensions"),
        )
        if (there := self._entries.get((kind, entry.name))) is not None:
            what = "was already added" if there.filename == key else f"is already {there.filename!r}, not {key!r}"
            raise BundleError(f"{kind} {entry.name!r} {what}; give each entry a name of its own", key=key)
        return entry

    def _save(
        self, save: Callable[[Path], object], kind: OutputKind, path: Path | str, **about: Unpack[Described]
    ) -> str:
        key = self._place(path)
        entry = self._entry(kind, key, **about)  # before anything is written
        (self._directory / key).parent.mkdir(parents=True, exist_ok=True)
        with staged(self._directory / key) as file:
            save(file)
        self._entries[kind, entry.name] = entry
        return key

    def _key(self, path: Path | str) -> str:
        """Return the key of an existing file that lies in the directory, also by its real path."""
        key = self._place(path)
        if not (self._directory / key).is_file():
            raise ArtifactNotFoundError(f"no file {key!r} in {str(self._directory)!r}; write it first", key=key)
        return key

    def _place(self, path: Path | str) -> str:
        """Return the key of a place in the directory, which a file may have or not."""
        real = self._directory.resolve()
        key = resolve_name(os.fspath(path), ran_in=str(self._directory))
        if isinstance(key, Rejection) and Path(path).is_absolute():
            key = resolve_name(os.fspath(path), ran_in=str(real))
        if isinstance(key, Rejection):
            raise InvalidKeyError(f"{str(path)!r} cannot be added from {str(self._directory)!r}: {key.reason}")
        if not (self._directory / key).resolve().is_relative_to(real):
            raise UnsafePathError(f"{key!r} is reached by a link that points outside {str(self._directory)!r}", key=key)
        return key


# -- what authors hand over ------------------------------------------------------------------------------------------


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise BundleError(f"{what} must be text, not {value!r}; write str(...) around it")
    return value


def _texts(values: Mapping[str, str], what: str) -> dict[str, str]:
    return {_text(key, what): _text(value, f"{what}[{key!r}]") for key, value in values.items()}


def _dimension_names(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(_text(name, "a dimension's name") for name in names)
    if len(set(found)) != len(found):
        raise BundleError(f"a dimension is listed twice: {', '.join(found)}")
    if STRUCTURE in found:
        raise BundleError(f"{STRUCTURE!r} cannot be a dimension's name, the format reserves it")
    return found


def _plain(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return an independent copy, as a reader of the file will see it."""
    copy: dict[str, object] = parse(render(dict(attributes), "attributes"), "attributes")
    return copy


def _number(value: object, at: str) -> float:
    if not isinstance(value, Real) and getattr(value, "ndim", None) == 0:
        # A single value of numpy or xarray. A masked one would otherwise become the number under the mask.
        value = None if getattr(value, "mask", False) else value.item()  # type: ignore[attr-defined]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BundleError(f"{at}: a value is a number or None, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise BundleError(f"{at}: {value!r:.40} is too large for a number") from None


def _index(value: object, at: str) -> str | int | float:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise BundleError(f"{at}: an index holds text and finite numbers, not {value!r}; write dates as text")
