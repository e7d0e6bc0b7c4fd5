"""The output folder of an ESMValTool recipe: ``run/``, ``plots/``, ``work/``, ``preproc/``, ``index.html``.

PROV-XML files beside the outputs say what was made from what (``*_provenance.xml``). They are read as plain XML,
because newer versions of ``prov`` refuse the names that ESMValTool gives to authors and files.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from emdstore.adoption.found import FoundOutput, FoundSet, Source
from emdstore.adoption.netcdf import read_lines
from emdstore.adoption.values import NAMES
from emdstore.emds import Series
from emdstore.errors import BundleError, MissingExtraError
from emdstore.sets.origin import Dataset

_PROV = "{http://www.w3.org/ns/prov#}"
_ATTRIBUTE = "{https://www.esmvaltool.org/attribute}"
_PROVENANCE, _CITATION, _DATA_CITATION = "_provenance.xml", "_citation.bibtex", "_data_citation_info.txt"
_ASIDE = {_PROVENANCE: "Provenance of", _CITATION: "Citation for", _DATA_CITATION: "Citation of the data of"}
_LOG, _INDEX = "run/main_log.txt", "index.html"

_NAME = re.compile(r"(?:recipe_)?(?P<recipe>.*?)_?(?P<time>\d{8}_\d{6})(?P<more>.*)")
_TIME = re.compile(r"(Starting|Ending) the Earth System Model Evaluation Tool at time: (\S+ \S+) UTC")
_SOFTWARE = re.compile(r"(ESMValCore|ESMValTool): v?(\S+)")
_VERSION = re.compile(r"v\d{8}")

_CMIP6 = (
    "mip_era", "activity_id", "institution_id", "source_id", "experiment_id", "variant_label", "table_id",
    "variable_id", "grid_label",
)  # fmt: skip
_CMIP5 = ("project_id", "institute_id", "model_id", "experiment_id", "frequency", "modeling_realm")
_OBSERVED = ("obs4mips", "obs", "obs6", "ana4mips", "native6", "observations")
_FACETS = ("dataset", "exp", "ensemble", "short_name")


@attrs.define
class _Provenance:
    """What all PROV files of a run say: attributes of files, by their paths, and what was derived from what."""

    files: dict[str, dict[str, str]] = attrs.field(factory=dict)
    sources: dict[str, set[str]] = attrs.field(factory=dict)

    def add(self, data: bytes) -> None:
        """Read one file; `ET.ParseError` if it is no XML."""
        for record in ET.fromstring(data):
            if record.tag == f"{_PROV}entity" and (path := _path(record.get(f"{_PROV}id"))) is not None:
                told = {each.tag.removeprefix(_ATTRIBUTE): each.text or "" for each in record}
                self.files.setdefault(path, {}).update(told)
            elif record.tag == f"{_PROV}wasDerivedFrom":
                ends = (record.find(f"{_PROV}{name}") for name in ("generatedEntity", "usedEntity"))
                made, used = (None if each is None else _path(each.get(f"{_PROV}ref")) for each in ends)
                if made is not None and used is not None:
                    self.sources.setdefault(made, set()).add(used)

    def before(self, path: str) -> Iterator[str]:
        """Yield what a file was made from, and what that was made from."""
        seen, waiting = {path}, [path]
        while waiting:
            for each in sorted(self.sources.get(waiting.pop(), ())):
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
                    yield each

    def inputs(self) -> list[str]:
        """Return what was read and not made, in order."""
        used = {each for all_of in self.sources.values() for each in all_of}
        return sorted(used - self.sources.keys())


def _path(name: str | None) -> str | None:
    prefix, _, path = (name or "").partition(":")
    return path if prefix == "file" else None


def find_sets(source: Source) -> Iterable[FoundSet]:
    """Find the one set of a recipe's run.

    Plots and files in ``plots`` and ``work`` are its outputs, with captions and dimensions by their provenance;
    one-dimensional variables of NetCDF files are its series. ESMValTool has no standard form of scalars.
    """
    if _LOG not in source.keys and not any(source.below(name) for name in ("plots", "work")):
        raise BundleError(f"{str(source.path)!r} is no output folder of ESMValTool: there is no {_LOG}")
    log = source.text(_LOG) if _LOG in source.keys else ""
    times = {what: _moment(at) for what, at in _TIME.findall(log)}
    successful = not log or "Run was successful" in log
    provenance = _provenance(source)
    recipe = _recipe(source)
    matched = _NAME.fullmatch(source.path.name)
    title = recipe.get("documentation", {}).get("title")
    recipes = [key.removeprefix("run/").removesuffix(".yml") for key in _recipes(source)]
    named = [each for each in recipes if not each.endswith("_filled")]
    diagnostic = (named[0] if named else matched["recipe"] if matched else source.path.name).removeprefix("recipe_")
    outputs = tuple(_outputs(source, provenance)) if successful else ()
    datasets = tuple(_datasets(provenance))
    common = _common([_facets(each) for each in provenance.files.values() if "dataset" in each and "project" in each])
    if source.below("preproc"):
        source.leave_out("preproc/", "holds preprocessed data, which the run can make again")
    for folder in sorted({key.split("/")[1] for key in source.below("run") if key.count("/") > 1}):
        source.leave_out(f"run/{folder}/", "holds settings and logs of tasks")
    for key in source.below("run"):
        if key.count("/") == 1 and key != _LOG and key not in _recipes(source):
            source.leave_out(key, "is a log of details")
    if not successful:
        for name in ("plots/", "work/", _INDEX, *_recipes(source)):
            if name in source.keys or source.below(name.rstrip("/")):
                source.leave_out(name, "belongs to a run that failed, of which only the log is published")
    yield FoundSet(
        provider="esmvaltool",
        diagnostic=diagnostic,
        group="_".join(common.values()) or "default",
        name=matched["time"] + matched["more"] if matched else source.path.name,
        series=tuple(_series(source, outputs)),
        outputs=outputs,
        index=_INDEX if _INDEX in source.keys else None,
        log=_LOG if log else None,
        successful=successful,
        datasets=datasets,
        software=dict(_SOFTWARE.findall(log)),
        provider_version=dict(_SOFTWARE.findall(log)).get("ESMValTool"),
        selectors=common,
        description=title if isinstance(title, str) else None,
        started_at=times.get("Starting"),
        stopped_at=times.get("Ending"),
    )


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def _provenance(source: Source) -> _Provenance:
    found = _Provenance()
    for key in source.keys:
        if key.endswith(_PROVENANCE) and not key.startswith("preproc/"):
            try:
                found.add(source.read(key))
            except ET.ParseError as error:
                source.leave_out(key, f"is no XML, so its origins are not known: {error}", lost=True)
    return found


def _recipes(source: Source) -> list[str]:
    return [key for key in source.below("run") if key.count("/") == 1 and key.endswith(".yml")]


def _recipe(source: Source) -> Mapping[str, Any]:
    """Return the recipe; nothing if there is none, or it cannot be read."""
    files = sorted(_recipes(source), key=lambda key: key.endswith("_filled.yml"))
    if not files:
        return {}
    try:
        import yaml
    except ImportError:
        raise MissingExtraError.of("reading a recipe", "adopt") from None
    try:
        found = yaml.safe_load(source.text(files[0]))
    except yaml.YAMLError as error:
        source.leave_out(files[0], f"is no YAML, so its title is not known: {str(error).splitlines()[0]}", lost=True)
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("documentation", {}), dict) else {}


def _outputs(source: Source, provenance: _Provenance) -> Iterator[FoundOutput]:
    for key in (*source.below("plots"), *source.below("work")):
        aside = next((end for end in _ASIDE if key.endswith(end)), None)
        folders, name = key.split("/")[1:-1], key.rpartition("/")[2]
        where = ", ".join(f"{what} {one}" for what, one in zip(("diagnostic", "script"), folders, strict=False))
        if aside is not None:
            yield FoundOutput.of(key, f"{_ASIDE[aside]} {name.removesuffix(aside)}", where)
            continue
        path = _original(key, provenance)
        told = {} if path is None else provenance.files.get(path, {})
        before = [] if path is None else list(provenance.before(path))
        dimensions = _common([_facets(provenance.files.get(each, {})) for each in before])
        yield FoundOutput.of(key, told.get("caption", ""), where, dimensions)
    for key in _recipes(source):
        yield FoundOutput.of(key, "The recipe" + (", as it was run" if key.endswith("_filled.yml") else ""))
    if _INDEX in source.keys:
        yield FoundOutput.of(_INDEX, "All of it on one page")


def _original(key: str, provenance: _Provenance) -> str | None:
    """Return the path that a file has in the provenance, which may have been written elsewhere."""
    return next((path for path in provenance.sources if path.endswith(f"/{key}")), None)


def _facets(attributes: Mapping[str, str]) -> dict[str, str]:
    return {NAMES[name]: attributes[name] for name in _FACETS if attributes.get(name)}


def _common(facets: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what all have in common, apart from those that have nothing."""
    told = [each for each in facets if each]
    first = told[0] if told else {}
    return {name: value for name, value in first.items() if all(each.get(name) == value for each in told)}


def _series(source: Source, outputs: Iterable[FoundOutput]) -> Iterator[Series]:
    for output in outputs:
        if not output.key.endswith((".nc", ".nc4")):
            continue
        try:
            _, lines = read_lines(source.path / output.key)
        except OSError as error:
            source.leave_out(output.key, f"cannot be read, so its series are not known: {error}", lost=True)
            continue
        for line in lines:
            where = {**output.dimensions, "metric": line.name}
            yield Series(0, where, line.index_name, line.index, line.values, {**line.attributes, "file": output.key})


def _datasets(provenance: _Provenance) -> Iterator[Dataset]:
    """Yield the datasets that were read, each once, under the names that ESGF has for them."""
    files: dict[tuple[str, str | None], list[tuple[str, dict[str, str]]]] = {}
    for path in provenance.inputs():
        told = provenance.files.get(path, {})
        version = told.get("version") or next(iter(_VERSION.findall(path)), None)
        name = next((".".join(told[one] for one in parts) for parts in (_CMIP6, _CMIP5) if _has(told, parts)), None)
        files.setdefault((name or path.rpartition("/")[2], version), []).append((path, told))
    for (name, version), of_it in files.items():
        told = of_it[0][1]
        project = (told.get("activity_id") or told.get("project_id") or told.get("project") or "").lower()
        is_reference = project in _OBSERVED or told.get("product", "").lower() in _OBSERVED
        identifiers = {each.get("tracking_id") for _, each in of_it}
        yield Dataset(
            name=name,
            version=version,
            pid=next(iter(identifiers)) if len(of_it) == 1 else None,
            doi=told.get("doi"),
            variable=told.get("variable_id"),
            role="reference" if is_reference else "model",
        )


def _has(told: Mapping[str, str], names: Sequence[str]) -> bool:
    return all(told.get(name) for name in names)
