"""The output bundle: which plots, data and html files a run made, and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from emdstore.emds.jsontext import convert, learnt, parse_object, place, reject, render

OutputKind = Literal["plot", "data", "html"]

SECTIONS: Mapping[OutputKind, str] = {"plot": "plots", "data": "data", "html": "html"}
"""The bundle's section for each kind of output, in the order in which sets are promoted."""


@attrs.frozen
class OutputEntry:
    """One entry of an output bundle.

    Attributes
    ----------
    kind
        ``"plot"``, ``"data"`` or ``"html"``.
    name
        The entry's name in its section.
    filename
        The file as the bundle spells it, not resolved: see `emdstore.emds.resolve_name`.
    long_name, description
        What it shows, in short and in full.
    dimensions
        What it is about, such as ``{"region": "arctic"}``.
    extra
        What else the entry says, untouched.
    """

    kind: OutputKind
    name: str
    filename: str
    long_name: str
    description: str
    dimensions: Mapping[str, str] = attrs.field(factory=dict)
    extra: Mapping[str, object] = attrs.field(factory=dict)


def _curated(entries: Iterable[OutputEntry]) -> tuple[OutputEntry, ...]:
    return tuple(sorted(entries, key=lambda entry: list(SECTIONS).index(entry.kind)))


@attrs.frozen
class OutputBundle:
    """What an output bundle says.

    Attributes
    ----------
    entries
        Plots, then data, then html, each section in the bundle's own order.
    index
        The page to open first, as the bundle spells it.
    provenance
        Environment, model and observation data, log, and whatever else the framework adds.
    extra
        The other keys, untouched; ``metrics`` and ``diagnostics`` are among them: nothing they name is promoted.
    """

    entries: tuple[OutputEntry, ...] = attrs.field(converter=_curated)
    index: str | None = None
    provenance: Mapping[str, object] = attrs.field(factory=dict)
    extra: Mapping[str, object] = attrs.field(factory=dict)


@learnt
@attrs.frozen
class _Provenance:
    environment: dict[str, str | None]
    modeldata: str | list[Any] | dict[str, Any]
    obsdata: str | list[Any] | dict[str, Any]
    log: str


@learnt
@attrs.frozen
class _Entry:
    filename: str
    long_name: str
    description: str
    dimensions: dict[str, str] | None = None


@learnt
@attrs.frozen
class _Head:
    provenance: dict[str, Any]
    index: str | None = None
    plots: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    html: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None


def decode_output_bundle(data: bytes, *, name: str = "output.json") -> OutputBundle:
    """Read and check an output bundle.

    Parameters
    ----------
    data
        The file's bytes.
    name
        What to call the file in errors.

    Returns
    -------
    OutputBundle

    Raises
    ------
    BundleError
        With the file and the place in it that is wrong.
    """
    raw = parse_object(data, name)
    head = convert(raw, _Head, name, "$")
    convert(head.provenance, _Provenance, name, "$.provenance")
    for label, entry in (head.metrics or {}).items():
        convert(entry, _Entry, name, place("metrics", label))
    return OutputBundle(
        entries=tuple(
            entry
            for kind, section in SECTIONS.items()
            for entry in _entries(kind, section, getattr(head, section) or {}, name)
        ),
        index=head.index,
        provenance=head.provenance,
        extra={key: raw[key] for key in raw if key not in ("index", "provenance", *SECTIONS.values())},
    )


def encode_output_bundle(bundle: OutputBundle, *, name: str = "output.json") -> bytes:
    """Write an output bundle as JSON; equal bundles give equal bytes, and `decode_output_bundle` reads an equal one.

    Raises
    ------
    BundleError
        Two entries of one section share a name, or a value has no form in JSON.
    """
    sections: dict[str, dict[str, object]] = {section: {} for section in SECTIONS.values()}
    for entry in bundle.entries:
        section = SECTIONS[entry.kind]
        if entry.name in sections[section]:
            reject(name, place(section, entry.name), "two entries of this name; give each its own")
        sections[section][entry.name] = {
            **entry.extra,
            "filename": entry.filename,
            "long_name": entry.long_name,
            "description": entry.description,
            "dimensions": entry.dimensions,
        }
    return render({**bundle.extra, "index": bundle.index, "provenance": bundle.provenance, **sections}, name)


def _entries(kind: OutputKind, section: str, entries: Mapping[str, Any], name: str) -> Iterator[OutputEntry]:
    for label, raw in entries.items():
        entry = convert(raw, _Entry, name, place(section, label))
        yield OutputEntry(
            kind=kind,
            name=label,
            filename=entry.filename,
            long_name=entry.long_name,
            description=entry.description,
            dimensions=entry.dimensions or {},
            extra={key: raw[key] for key in raw if key not in ("filename", "long_name", "description", "dimensions")},
        )
