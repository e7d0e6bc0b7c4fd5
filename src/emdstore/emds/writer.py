"""The author's side: a diagnostic says what it made, and the three bundles are written.

::

    writer = OutputWriter(directory)
    writer.add_plot("trend.png", long_name="Sea ice trend", dimensions={"region": "arctic"})
    writer.add_scalar(-0.87, region="arctic", metric="r_value")
    writer.add_series([1.0, None, 3.0], [1850, 1851, 1852], index_name="year", dimensions={"region": "arctic"})
    result = writer.write()

What is wrong is said at the call that is wrong, not by the reader of the file a month later.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path

import attrs

from emdstore import system
from emdstore.emds.artifact_set import RECORD_NAME, RETRACTION_NAME, Rejection, resolve_name
from emdstore.emds.jsontext import parse, render
from emdstore.emds.layout import Point, arrange, spell
from emdstore.emds.metric import ATTRIBUTES, STRUCTURE, encode_metric_bundle
from emdstore.emds.output import OutputBundle, OutputEntry, OutputKind, encode_output_bundle
from emdstore.emds.series import Series, encode_series
from emdstore.errors import ArtifactNotFoundError, BundleError, InvalidKeyError, UnsafePathError
from emdstore.keys import STAGING_PREFIX, validate_key


@attrs.frozen
class WrittenBundles:
    """The names of the three files that `OutputWriter.write` wrote, relative to its directory.

    Attributes
    ----------
    metric, output, series
        As an execution's result names them.
    """

    metric: str
    output: str
    series: str


class OutputWriter:
    """Collect what a run made, and write its metric, output and series files.

    Parameters
    ----------
    directory
        The run's output directory. Every plot, data and html file lies in it already when it is added.
    metric, output, series
        The names of the three files to write.
    dimensions
        The scalars' dimensions, outermost first. Without it, the first scalar's, and `write` may move one of them to
        the deepest level if only so the bundle comes out valid.
    index
        The page to open first.
    provenance
        Keys for the output bundle's provenance, beside or instead of the empty ones.

    Raises
    ------
    InvalidKeyError
        A file name that is a path, is not a valid key, or is there twice.
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
                raise InvalidKeyError(f"the three files need a plain name of their own each: {name!r}", key=name)
        self._fixed = dimensions is not None
        self._dimensions = None if dimensions is None else _dimension_names(dimensions)
        self._points: dict[tuple[str, ...], Point] = {}
        self._entries: dict[tuple[OutputKind, str], OutputEntry] = {}
        self._series: list[Series] = []
        self._index = index
        self._provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log", **(provenance or {})}

    def add_plot(
        self,
        path: Path | str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Register a plot.

        Parameters
        ----------
        path
            The file, in the writer's directory: relative to it or absolute.
        long_name, description
            What it shows, in short and in full.
        dimensions
            What it is about, such as ``{"region": "arctic"}``.
        name
            The entry's name; the file's, if not given.

        Returns
        -------
        str
            The file's key.

        Raises
        ------
        InvalidKeyError
            The path leads out of the directory, or is no valid key.
        UnsafePathError
            A link on the way leads out of the directory.
        ArtifactNotFoundError
            No file is there.
        BundleError
            There is a plot of this name already, or the texts are not texts. After any of these errors the writer is
            as it was before.
        """
        return self._add_output("plot", path, long_name, description, dimensions, name)

    def add_data(
        self,
        path: Path | str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Register a data file; as `add_plot`."""
        return self._add_output("data", path, long_name, description, dimensions, name)

    def add_html(
        self,
        path: Path | str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Register an HTML page; as `add_plot`."""
        return self._add_output("html", path, long_name, description, dimensions, name)

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
            A number, also numpy's; None, NaN and numpy's masked value mean that it was computed and does not exist.
        attributes
            What else there is to say, such as its units.
        dimensions, named
            What it is a value of: ``dimensions={"region": "arctic"}`` or ``region="arctic"``. The same dimensions for
            every scalar.

        Raises
        ------
        BundleError
            Not a number, other dimensions than the first scalar's, or dimensions that have a value already. The writer
            is as it was before.
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
            raise BundleError(f"{ATTRIBUTES!r} cannot be a dimension's value, the format keeps it: {at}")
        place = tuple(given[name] for name in expected)
        if place in self._points:
            raise BundleError(f"there is a scalar with these dimensions already: {at}")
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
            Numbers as in `add_scalar`.
        index
            As many texts or finite numbers.
        index_name
            What the index is, such as ``"time"``.
        dimensions
            What it is a series of.
        attributes
            What else there is to say. ``kind``, ``reference_id``, ``value_units``, ``value_long_name``, ``index_units``
            and ``calendar`` are written where newer readers look for them.

        Raises
        ------
        BundleError
            Lengths that differ, or something that is not of the kinds above. The writer is as it was before.
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
        """Write the three files, each whole or not at all, over what was there.

        All three are made and checked before the first is written. It may be called again after more was added.

        Returns
        -------
        WrittenBundles

        Raises
        ------
        BundleError
            The scalars do not fit the format, with the combination that is missing and what to do. No file was
            touched.
        OSError
            A file cannot be written. Each of the three is the old one or the new one, whole.
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
            _replace(self._directory / name, data)
        return self._files

    # -- outputs -----------------------------------------------------------------------------------------------------

    def _add_output(
        self,
        kind: OutputKind,
        path: Path | str,
        long_name: str,
        description: str,
        dimensions: Mapping[str, str] | None,
        name: str | None,
    ) -> str:
        key = self._key(path)
        entry = OutputEntry(
            kind=kind,
            name=key if name is None else _text(name, "name"),
            filename=key,
            long_name=_text(long_name, "long_name"),
            description=_text(description, "description"),
            dimensions=_texts(dimensions or {}, "dimensions"),
        )
        if (there := self._entries.get((kind, entry.name))) is not None:
            what = "is added already" if there.filename == key else f"is {there.filename!r} already, not {key!r}"
            raise BundleError(f"{kind} {entry.name!r} {what}; give each entry a name of its own", key=key)
        self._entries[kind, entry.name] = entry
        return key

    def _key(self, path: Path | str) -> str:
        """Return the key of a file that lies in the directory, also by its real path, and is there."""
        real = self._directory.resolve()
        key = resolve_name(os.fspath(path), ran_in=str(self._directory))
        if isinstance(key, Rejection) and Path(path).is_absolute():
            key = resolve_name(os.fspath(path), ran_in=str(real))
        if isinstance(key, Rejection):
            raise InvalidKeyError(f"{str(path)!r} cannot be added from {str(self._directory)!r}: {key.reason}")
        file = self._directory / key
        if not file.resolve().is_relative_to(real):
            raise UnsafePathError(f"{key!r} is reached by a link that leads out of {str(self._directory)!r}", key=key)
        if not file.is_file():
            raise ArtifactNotFoundError(f"no file {key!r} in {str(self._directory)!r}; write it first", key=key)
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
        raise BundleError(f"{STRUCTURE!r} cannot be a dimension's name, the format keeps it")
    return found


def _plain(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return a copy that no later change reaches, as a reader of the file will see it."""
    copy: dict[str, object] = parse(render(dict(attributes), "attributes"), "attributes")
    return copy


def _number(value: object, at: str) -> float:
    if not isinstance(value, Real) and getattr(value, "ndim", None) == 0:
        # A single value of numpy or xarray. A masked one would otherwise come out as the number under the mask.
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


def _replace(path: Path, data: bytes) -> None:
    """Put the whole file in place at once; a link at the path is replaced, never written through."""
    staged = path.with_name(f"{STAGING_PREFIX}{system.current().token(8)}")
    try:
        with staged.open("xb") as file:
            file.write(data)
        staged.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise
