"""Where a result came from: the datasets that the run read, the versions of the software, and its cost.

The record has what the run reported. If it reported nothing, a bundle's provenance has the names of model data and
observations, and the versions of packages.
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
        The framework's name, such as an ESGF instance id. Two datasets are the same if everything but role and variable
        is equal.
    version
        The dataset's version, such as ``v20191108``.
    pid, doi
        Its persistent identifier (a handle, a tracking id) and its DOI, without a resolver's address.
    sha256
        The digest of its bytes, if it is one file.
    variable
        The variable that was read.
    role
        Its role in the run, such as ``model`` or ``reference``.
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
    """The resources that a run used; None if not measured.

    Attributes
    ----------
    wall_seconds, cpu_seconds
        Elapsed time, and time of all processors.
    peak_memory_bytes
        The peak memory of its largest process. Not known for a program that needs less than the process that started
        it.
    exit_code
        The exit code of its program, 128 + n if signal n ended it.
    """

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    exit_code: int | None = None


def datasets_in(provenance: Mapping[str, Any]) -> Iterator[Dataset]:
    """Yield the datasets that an output bundle's provenance names: its model data, then its observations.

    Each is a name, a list of names, or an object whose keys are names; anything else is ignored.
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
    """Return the versions in an output bundle's provenance, by package: its environment, and its packages."""
    found: dict[str, str] = {}
    for part in ("environment", "packages"):
        told = provenance.get(part)
        if isinstance(told, Mapping):
            found |= {name: version for name, version in told.items() if isinstance(version, str) and version}
    return found
