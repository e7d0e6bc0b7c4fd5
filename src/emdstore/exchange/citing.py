"""What to cite for published sets: the datasets that their runs read, and the software that computed them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from emdstore._version import __version__
from emdstore.errors import MissingExtraError
from emdstore.sets.origin import Dataset
from emdstore.sets.record import ExecutionRecord


def cited_datasets(records: Iterable[ExecutionRecord]) -> list[Dataset]:
    """Return each dataset once, whatever it was read for."""
    found = {
        (each.name, each.version): Dataset(name=each.name, version=each.version, pid=each.pid, doi=each.doi)
        for record in records
        for each in record.datasets
    }
    return [found[which] for which in sorted(found, key=lambda each: (each[0], each[1] or ""))]


def cited_software(records: Iterable[ExecutionRecord]) -> dict[str, str | None]:
    """Return each provider and package with its version; of several versions each is named with it."""
    found: dict[str, set[str | None]] = {"emdstore": {__version__}}
    for record in records:
        found.setdefault(record.provider, set()).add(record.provider_version)
        for name, version in record.software.items():
            found.setdefault(name, set()).add(version)
    said = {name: sorted(each for each in versions if each) for name, versions in found.items()}
    return {name: ", ".join(versions) or None for name, versions in sorted(said.items())}


def as_bibtex(records: Mapping[str, ExecutionRecord]) -> str:
    """Return what to cite as BibTeX: one ``@misc`` for each dataset, one ``@software`` for each package."""
    taken: set[str] = set()
    entries = []
    for dataset in cited_datasets(records.values()):
        note = f"persistent identifier: {dataset.pid}" if dataset.pid else None
        fields = {"title": dataset.name, "version": dataset.version, "doi": dataset.doi, "note": note}
        entries.append(_entry("misc", dataset.name, fields, taken))
    for name, version in cited_software(records.values()).items():
        entries.append(_entry("software", name, {"title": name, "version": version}, taken))
    return "\n".join(entries)


def _entry(kind: str, name: str, fields: Mapping[str, str | None], taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9.:-]+", "-", name).strip("-") or "dataset"
    keys = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    key = next(each for each in keys if each.lower() not in taken)
    taken.add(key.lower())
    lines = "".join(f"  {what} = {{{_escaped(value)}}},\n" for what, value in fields.items() if value)
    return f"@{kind}{{{key},\n{lines}}}\n"


def _escaped(text: str) -> str:
    # Braces that do not match would end the entry; the others mean something to TeX.
    return re.sub(r"([#$%&_])", r"\\\1", text.replace("{", "(").replace("}", ")").replace("\\", "/"))


def as_cff(records: Mapping[str, ExecutionRecord], *, title: str) -> str:
    """Return what to cite as a CITATION.cff of the results, with datasets and software as references.

    Parameters
    ----------
    records
        The records; see `choose_records`.
    title
        What the results are called.

    Raises
    ------
    MissingExtraError
        If the extra ``exchange`` is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("a CITATION.cff", "exchange") from error
    references: list[dict[str, Any]] = []
    for dataset in cited_datasets(records.values()):
        about = {"type": "data", "title": dataset.name, "authors": _nobody(), "version": dataset.version}
        identifiers = [{"type": "doi", "value": dataset.doi}] if dataset.doi else []
        identifiers += [{"type": "other", "value": dataset.pid}] if dataset.pid else []
        references.append(_told(about | {"identifiers": identifiers}))
    for name, version in cited_software(records.values()).items():
        references.append(_told({"type": "software", "title": name, "authors": _nobody(), "version": version}))
    whole = {
        "cff-version": "1.2.0",
        "message": "Please cite the datasets and the software behind these results.",
        "type": "dataset",
        "title": title,
        "authors": _nobody(),
        "references": references,
    }
    return str(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))


def _nobody() -> list[dict[str, str]]:
    # Who they are, no record tells; the format wants somebody. A list of its own each time, or YAML would refer to it.
    return [{"name": "unknown"}]


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if value}
