"""The output bundle: the plots, data and html files of a run, and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from emdstore.emds.jsontext import as_object, convert, learnt, parse, place, reject, render
from emdstore.emds.warning import BundleWarning

OutputKind = Literal["plot", "data", "html"]

SECTIONS: Mapping[OutputKind, str] = {"plot": "plots", "data": "data", "html": "html"}
"""The bundle's section for each kind of output, in the order in which sets are promoted."""

_METRICS = "metrics"


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
        The file name as in the bundle, not resolved: see `emdstore.emds.resolve_name`.
    long_name, description
        What it shows, in short and in full.
    dimensions
        What it shows, such as ``{"region": "arctic"}``.
    extra
        The entry's other keys, unchanged.
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
    """The content of an output bundle.

    Attributes
    ----------
    entries
        Plots, then data, then html, each section in the bundle's order.
    index
        The page to open first, as in the bundle.
    provenance
        Environment, model and observation data, log, and anything else that the framework adds.
    extra
        The other keys, unchanged, including ``metrics`` and ``diagnostics``.
    metrics
        The entries of ``metrics``: files with numbers, which belong to the set like its data files.
    warnings
        A missing or incomplete provenance.
    """

    entries: tuple[OutputEntry, ...] = attrs.field(converter=_curated)
    index: str | None = None
    provenance: Mapping[str, object] = attrs.field(factory=dict)
    extra: Mapping[str, object] = attrs.field(factory=dict)
    metrics: tuple[OutputEntry, ...] = ()
    warnings: tuple[BundleWarning, ...] = ()


@learnt
@attrs.frozen
class _Provenance:
    environment: dict[str, str | None] | None = None
    modeldata: str | list[Any] | dict[str, Any] | None = None
    obsdata: str | list[Any] | dict[str, Any] | None = None
    log: str | None = None


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
    provenance: dict[str, Any] | None = None
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
        The file's name in errors.

    Returns
    -------
    OutputBundle

    Raises
    ------
    BundleError
        The bundle is not valid; the message names the file and the position.
    """
    return output_bundle_in(parse(data, name), name)


def output_bundle_in(value: Any, name: str) -> OutputBundle:
    """Check JSON that was read; see `decode_output_bundle`."""
    raw = as_object(value, name)
    head = convert(raw, _Head, name, "$")
    provenance = head.provenance or {}
    convert(provenance, _Provenance, name, "$.provenance")
    return OutputBundle(
        entries=tuple(
            entry
            for kind, section in SECTIONS.items()
            for entry in _entries(kind, section, getattr(head, section) or {}, name)
        ),
        index=head.index,
        provenance=provenance,
        metrics=tuple(_entries("data", _METRICS, head.metrics or {}, name)),
        warnings=tuple(_lacking(provenance)),
        extra={key: raw[key] for key in raw if key not in ("index", "provenance", *SECTIONS.values())},
    )


def encode_output_bundle(bundle: OutputBundle, *, name: str = "output.json") -> bytes:
    """Write an output bundle as JSON; equal bundles give equal bytes, and `decode_output_bundle` reads an equal one.

    Raises
    ------
    BundleError
        Two entries of one section have the same name, or a value cannot be written as JSON.
    """
    sections: dict[str, dict[str, object]] = {section: {} for section in SECTIONS.values()}
    for entry in bundle.entries:
        section = SECTIONS[entry.kind]
        if entry.name in sections[section]:
            reject(name, place(section, entry.name), "two entries have this name; give each its own")
        sections[section][entry.name] = {
            **entry.extra,
            "filename": entry.filename,
            "long_name": entry.long_name,
            "description": entry.description,
            "dimensions": entry.dimensions,
        }
    return render({**bundle.extra, "index": bundle.index, "provenance": bundle.provenance, **sections}, name)


def _lacking(provenance: Mapping[str, Any]) -> Iterator[BundleWarning]:
    if not provenance:
        yield BundleWarning("no-provenance", "the bundle does not name its input data and software", "$")
        return
    lacking = [field.name for field in attrs.fields(_Provenance) if field.name not in provenance]
    if lacking:
        yield BundleWarning("no-provenance", f"the provenance lacks {', '.join(lacking)}", "$.provenance")


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
