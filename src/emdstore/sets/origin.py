"""What a result came from, as values: the datasets that a run read, the versions of what computed it, and its cost.

The record has them as its run told them. Of what nobody told, a bundle's provenance says something: the names of model
data and observations, and the versions of packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from emdstore.identifiers import bare_identifier


def _bare(text: str | None) -> str | None:
    return bare_identifier(text) or None if text is not None else None


@attrs.frozen(kw_only=True)
class Dataset:
    """One dataset that a run read.

    Attributes
    ----------
    name
        What the framework calls it, such as an ESGF instance id. Two datasets are the same if all is equal but the role
        and the variable.
    version
        Of the dataset, such as ``v20191108``.
    pid, doi
        Its persistent identifier (a handle, a tracking id) and its DOI, without a resolver before them.
    sha256
        Of its bytes, where it is one file.
    variable
        What was read of it.
    role
        What it was read as, such as ``model`` or ``reference``.
    """

    name: str
    version: str | None = None
    pid: str | None = attrs.field(default=None, converter=_bare)
    doi: str | None = attrs.field(default=None, converter=_bare)
    sha256: str | None = None
    variable: str | None = None
    role: str | None = None


@attrs.frozen(kw_only=True)
class Resources:
    """What a run took; None for what was not measured.

    Attributes
    ----------
    wall_seconds, cpu_seconds
        How long it took, and how much of all processors.
    peak_memory_bytes
        The most that one of its processes held. Not known of a program that needs less than what started it.
    exit_code
        Of its program, 128 + n if signal n ended it.
    """

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    exit_code: int | None = None


def datasets_in(provenance: Mapping[str, Any]) -> Iterator[Dataset]:
    """Yield the datasets that an output bundle's provenance names: its model data, then its observations.

    Either is a name, a list of them, or an object whose keys are names; what else stands there names nothing.
    """
    for part, role in (("modeldata", "model"), ("obsdata", "reference")):
        told = provenance.get(part)
        names = [told] if isinstance(told, str) else told if isinstance(told, list | Mapping) else []
        for name in names:
            if isinstance(name, str) and name.strip():
                about = told.get(name) if isinstance(told, Mapping) else None
                version = about.get("version") if isinstance(about, Mapping) else None
                yield Dataset(name=name, version=version if isinstance(version, str) else None, role=role)


def software_in(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that an output bundle's provenance tells, by package: its environment, and its packages."""
    found: dict[str, str] = {}
    for part in ("environment", "packages"):
        told = provenance.get(part)
        if isinstance(told, Mapping):
            found |= {name: version for name, version in told.items() if isinstance(version, str) and version}
    return found
