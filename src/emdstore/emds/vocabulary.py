"""Controlled vocabularies: the dimensions and values that a project has agreed on.

A vocabulary only warns: a value with an unlisted dimension is stored anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec

from emdstore.emds.jsontext import learnt
from emdstore.emds.warning import BundleWarning
from emdstore.errors import MissingExtraError, VocabularyError
from emdstore.shown import Shown


@attrs.frozen
class DimensionValue:
    """A value that a dimension may have.

    Attributes
    ----------
    name
        The value in bundles.
    long_name, description, units
        For people.
    """

    name: str
    long_name: str
    description: str | None = None
    units: str | None = None


@attrs.frozen
class Dimension:
    """A dimension that bundles may use.

    Attributes
    ----------
    name
        The dimension's name in bundles.
    long_name, description
        For people.
    allow_extra_values
        Whether values that are not listed are allowed.
    required
        Whether every scalar and series must have it.
    values
        The listed values.
    """

    name: str
    long_name: str
    description: str
    allow_extra_values: bool
    required: bool
    values: tuple[DimensionValue, ...] = ()


@attrs.frozen(repr=False)
class Vocabulary(Shown):
    """The dimensions and values that a project has agreed on. Load it once and use it for every execution.

    Attributes
    ----------
    dimensions
        In the order of the file; names are unique.
    """

    dimensions: tuple[Dimension, ...]
    # Computed once, so that a check is one look-up for each dimension: None stands for "any value".
    _values: Mapping[str, frozenset[str] | None] = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(lambda self: _listed(self.dimensions), takes_self=True)
    )
    # The findings so far: many scalars share a few of them.
    _found: dict[tuple[str, str], BundleWarning] = attrs.field(init=False, repr=False, eq=False, factory=dict)

    def check(self, dimensions: Mapping[str, str]) -> tuple[BundleWarning, ...]:
        """Compare the dimensions of one scalar, series or output with the vocabulary.

        Parameters
        ----------
        dimensions
            Names and values.

        Returns
        -------
        tuple of BundleWarning
            Unknown dimensions and values, then required dimensions that are missing. Equal findings compare equal, so
            a set removes duplicates.
        """
        warnings: list[BundleWarning] = []
        for name, value in dimensions.items():
            values = self._values.get(name, frozenset())
            if values is not None and value not in values:
                warnings.append(self._finding(name, value))
        missing = [one.name for one in self.dimensions if one.required and one.name not in dimensions]
        return (*warnings, *map(_missing, missing))

    def _finding(self, name: str, value: str) -> BundleWarning:
        if name not in self._values:
            value = ""
        if (name, value) not in self._found:
            if name not in self._values:
                finding = BundleWarning("unknown-dimension", f"dimension {name!r} is not in the vocabulary", name)
            else:
                finding = BundleWarning("unknown-value", f"{name} {value!r} is not in the vocabulary", name)
            self._found[name, value] = finding
        return self._found[name, value]


def _listed(dimensions: tuple[Dimension, ...]) -> dict[str, frozenset[str] | None]:
    return {
        dimension.name: None if dimension.allow_extra_values else frozenset(value.name for value in dimension.values)
        for dimension in dimensions
    }


def _missing(name: str) -> BundleWarning:
    return BundleWarning("missing-dimension", f"the vocabulary requires dimension {name!r}", name)


@learnt
@attrs.frozen
class _File:
    dimensions: tuple[Dimension, ...]


def load_vocabulary(source: Path | str | bytes) -> Vocabulary:
    """Read a vocabulary from YAML.

    Parameters
    ----------
    source
        The file's path, or its bytes.

    Returns
    -------
    Vocabulary

    Raises
    ------
    VocabularyError
        The file cannot be read, is not YAML, or does not follow the format; the message names file and position.
    MissingExtraError
        PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError.of("reading a vocabulary", "vocabulary") from error

    name = "vocabulary" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).expanduser().read_bytes()
        raw: Any = yaml.safe_load(data)
        dimensions = msgspec.convert(raw, _File).dimensions
    except OSError as error:
        raise VocabularyError(f"{name}: cannot be read: {error.strerror or error}", key=name) from error
    except msgspec.ValidationError as error:
        what = str(error).replace("`", "'").replace(" - at ", " at ")
        raise VocabularyError(f"{name}: {what}; values that YAML takes for numbers need quotes", key=name) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise VocabularyError(f"{name}: not valid YAML: {error}", key=name) from None
    names = [dimension.name for dimension in dimensions]
    for dimension in names:
        if names.count(dimension) > 1:
            raise VocabularyError(f"{name}: dimension {dimension!r} is described twice", key=name)
    return Vocabulary(dimensions)
