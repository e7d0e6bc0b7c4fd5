"""What the PCMDI Metrics Package writes: JSON files with ``RESULTS`` and ``json_structure``, and plots and data beside.

Each model and realization of a file becomes a set of its own, with its values. The files, and plots of several models,
become one more set of the group ``all``; if there is only one model, everything is in its set.
"""

from __future__ import annotations

import json
import os.path
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

import attrs

from emdstore.adoption.found import FoundOutput, FoundSet, Source, assign
from emdstore.adoption.values import NAMES, ValueTree, read_tree, split
from emdstore.emds import Series
from emdstore.errors import BundleError
from emdstore.sets.origin import Dataset

_BY = ("source_id", "member_id")
_DRIVER = re.compile(r"([\w.-]+?)\.py\b")
_VERSION = re.compile(r"v\d{8}")
_PLACEHOLDERS = ("default", "alternate1", "alternate2", "alternate3")
_CMEC = "_cmec.json"


@attrs.frozen
class MetricsFile:
    """One JSON file with metrics, of PMP or of CMEC.

    Attributes
    ----------
    key
        The file.
    content
        Everything in it.
    structure
        The names of its dimensions.
    """

    key: str
    content: Mapping[str, Any]
    structure: tuple[str, ...]

    @property
    def stem(self) -> str:
        """Its name, without suffixes."""
        return self.key.rpartition("/")[2].removesuffix(".json").removesuffix("_cmec")

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What it says about its origin."""
        return _object(self.content, "provenance")

    @property
    def diagnostic(self) -> str:
        """The driver that wrote it, as far as the file says so; otherwise its name."""
        command = self.provenance.get("commandLine")
        driver = _DRIVER.search(command) if isinstance(command, str) else None
        name = driver[1].removeprefix("driver_").removesuffix("_driver") if driver else ""
        return name or self.stem

    @property
    def date(self) -> datetime | None:
        """When it was written."""
        told = self.provenance.get("date")
        try:
            found = datetime.fromisoformat(told) if isinstance(told, str) else None
        except ValueError:
            return None
        return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)

    @property
    def software(self) -> dict[str, str]:
        """The versions of packages."""
        told = _object(self.provenance, "packages")
        return {name: version for name, version in told.items() if isinstance(version, str) and " " not in version}

    def tree(self) -> ValueTree:
        """Return its values, with the dimensions of the EMDS vocabulary."""
        tree = read_tree(self.content["RESULTS"], self.structure, index_name="month")
        variable = self.variable
        tree.points = [attrs.evolve(each, **_named(each, variable)) for each in tree.points]
        tree.series = [attrs.evolve(each, **_named(each, variable)) for each in tree.series]
        return tree

    @property
    def described(self) -> dict[str, Mapping[str, object]]:
        """What it says about the values of its dimensions."""
        told = _object(self.content, "DIMENSIONS")
        told = _object(told, "dimensions") or told
        return {NAMES.get(name, name): about for name, about in told.items() if isinstance(about, dict)}

    @property
    def variable(self) -> str | None:
        """The variable that all of it is about."""
        told = _object(self.content, "Variable").get("id")
        return told if isinstance(told, str) and told else None

    def references(self) -> Iterator[Dataset]:
        """Yield the references that it names."""
        for name, about in _object(self.content, "References").items():
            told = about if isinstance(about, dict) else {}
            file = next(
                (told[key] for key in ("filename", "template", "source") if isinstance(told.get(key), str)), name
            )
            version = next(iter(_VERSION.findall(f"{told.get('template', '')} {file}")), None)
            yield Dataset(name=os.path.basename(file), version=version, variable=self.variable, role="reference")


def _object(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _named(value: Any, variable: str | None) -> dict[str, Any]:
    """Return the dimensions of a value with what the file says elsewhere: which variable, and which reference."""
    dimensions = dict(value.dimensions)
    reference = value.attributes.get("source")
    if dimensions.get("reference_source_id") in _PLACEHOLDERS and isinstance(reference, str):
        dimensions["reference_source_id"] = reference
    told = {} if variable is None or "variable_id" in dimensions else {"variable_id": variable}
    return {"dimensions": {"kind": "model", **told, **dimensions}}


def find_sets(source: Source) -> Iterable[FoundSet]:
    """Find the sets in a folder of PMP's results."""
    files = list(read_metrics(source, source.keys))
    if not files:
        raise BundleError(f"{str(source.path)!r} holds nothing of PMP: no JSON with RESULTS and json_structure")
    for diagnostic in dict.fromkeys(file.diagnostic for file in files):
        of_it = [file for file in files if file.diagnostic == diagnostic]
        others = (key for key in source.keys if not key.endswith(".json"))
        near = [key for key in others if _nearest(key, files).diagnostic == diagnostic]
        copies = [key for key in source.keys if key.endswith(_CMEC) and _twin(key) in {file.key for file in of_it}]
        yield from sets_of(source, "pmp", diagnostic, of_it, [*near, *copies])


def read_metrics(source: Source, keys: Iterable[str]) -> Iterator[MetricsFile]:
    """Read those of some files that hold metrics. A copy in the form of CMEC says the same, and is not read."""
    for key in keys:
        if not key.endswith(".json") or (key.endswith(_CMEC) and _twin(key) in source.keys):
            continue
        try:
            content = json.loads(source.read(key))
        except ValueError as error:
            source.leave_out(key, f"is no JSON: {error}", lost=True)
            continue
        results = content.get("RESULTS") if isinstance(content, dict) else None
        if not isinstance(results, dict):
            source.leave_out(key, "holds no RESULTS")
            continue
        dimensions = _object(content, "DIMENSIONS")
        structure = content.get("json_structure", dimensions.get("json_structure"))
        if not isinstance(structure, list) or not all(isinstance(each, str) for each in structure):
            source.leave_out(key, "has RESULTS, but no json_structure that says what they are", lost=True)
            continue
        yield MetricsFile(key, content, tuple(structure))


def _twin(key: str) -> str:
    return key.removesuffix(_CMEC) + ".json"


def _nearest(key: str, files: list[MetricsFile]) -> MetricsFile:
    """Return the file that shares most folders with a key."""

    def shared(file: MetricsFile) -> int:
        pairs = zip(key.split("/"), file.key.split("/"), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(files, key=shared)


def sets_of(
    source: Source, provider: str, diagnostic: str, files: list[MetricsFile], others: list[str]
) -> Iterator[FoundSet]:
    """Yield the sets of some files with metrics, and of plots and data beside them."""
    found: list[FoundSet] = []
    for file in files:
        tree = file.tree()
        for odd in tree.odd:
            source.leave_out(f"{file.key}: {odd}", "is not as deep as json_structure says", lost=True)
        if not tree.points and not tree.series:
            source.leave_out(f"{file.key}: RESULTS", "holds no values as deep as json_structure says", lost=True)
        series = tree.series
        for chosen, metric in split(tree.points, _BY, file.described):
            mine = [each for each in series if all(each.dimensions.get(name, of) == of for name, of in chosen.items())]
            series = [each for each in series if each not in mine]
            found.append(attrs.evolve(_found(provider, diagnostic, file, chosen, mine), metric=metric))
        if series:
            found.append(_found(provider, diagnostic, file, {}, series))
    own = [file.key for file in files]
    if len(found) == 1:
        yield attrs.evolve(found[0], outputs=tuple(map(FoundOutput.of, (*others, *own))))
        return
    models = Counter(each.selectors.get("source_id") for each in found)
    of_each = assign(others, [_label(each, models) for each in found])
    for one, keys in zip(found, of_each, strict=False):
        yield attrs.evolve(one, outputs=tuple(map(FoundOutput.of, keys)))
    everything = _found(provider, diagnostic, files[0], {}, [])
    yield attrs.evolve(everything, group="all", outputs=tuple(map(FoundOutput.of, (*of_each[-1], *own))))


def _label(one: FoundSet, models: Mapping[str | None, int]) -> list[str]:
    """Return the words that the names of a set's files contain: its model, and if that has several sets the rest."""
    model = one.selectors.get("source_id")
    return [] if model is None else [model] if models[model] == 1 else list(one.selectors.values())


def _found(
    provider: str, diagnostic: str, file: MetricsFile, chosen: Mapping[str, str], series: list[Series]
) -> FoundSet:
    date = file.date
    models = (Dataset(name=chosen["source_id"], role="model", variable=file.variable),) if "source_id" in chosen else ()
    return FoundSet(
        provider=provider,
        diagnostic=diagnostic,
        group=f"{file.stem}/{'_'.join(chosen.values())}" if chosen else file.stem,
        name=None if date is None else f"{date:%Y%m%dT%H%M%S}",
        series=tuple(series),
        datasets=(*models, *file.references()),
        software=file.software,
        provider_version=file.software.get("PMP"),
        selectors=dict(chosen),
        stopped_at=date,
    )
