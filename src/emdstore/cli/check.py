"""The command that checks bundles on request."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import attrs
from cyclopts import Parameter

from emdstore.cli.options import PLAIN, Output, WrongCallError
from emdstore.cli.render import say, show_document
from emdstore.emds import Vocabulary, load_vocabulary
from emdstore.emds.checking import BundleCheck, check_bundle
from emdstore.errors import MissingExtraError
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME

_CLIMATE_REF = "climate-ref"
_USUAL = (METRIC_NAME, OUTPUT_NAME, SERIES_NAME)


def check(
    *files: Path,
    kind: Annotated[Literal["metric", "output", "series"] | None, Parameter()] = None,
    vocabulary: str | None = None,
    strict: bool = False,
    output: Output = PLAIN,
) -> int:
    """Check metric bundles, output bundles and series files against the JSON Schemas of EMDS. Nothing is changed.

    Exit code 1 if a bundle cannot be read or does not match its schema. Oddities that are accepted are shown.

    Parameters
    ----------
    files
        The files; for a folder, those with the usual names in it.
    kind
        The kind of the files; by default their content decides.
    vocabulary
        A controlled vocabulary to check dimensions and values against: a YAML file, or climate-ref for that of the
        Climate-REF that is installed.
    strict
        Exit code 1 for oddities, too, so that a pipeline stops there.
    """
    if not files:
        raise WrongCallError("name the files to check, or an execution's folder")
    terms = _vocabulary(vocabulary) if vocabulary is not None else None
    checked = {
        str(file): check_bundle(_read(file), name=str(file), kind=kind, vocabulary=terms)
        for given in files
        for file in _files(given)
    }
    code = 0 if all(each.ok and not (strict and each.warnings) for each in checked.values()) else 1
    if output.json:
        bundles = [{"file": name, "ok": each.ok, **attrs.asdict(each)} for name, each in checked.items()]
        return show_document("check", {"bundles": bundles}, code)
    for name, each in checked.items():
        _show(name, each)
    return code


def _vocabulary(told: str) -> Vocabulary:
    """Return the vocabulary in a file, or that of the installed Climate-REF, which need not be imported for it."""
    if told != _CLIMATE_REF:
        return load_vocabulary(Path(told))
    spec = find_spec("climate_ref_core")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        for file in sorted((Path(folder) / "pycmec").glob("cv_*.yaml")):
            return load_vocabulary(file)
    raise MissingExtraError.of("the vocabulary of Climate-REF", _CLIMATE_REF)


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = [given / name for name in _USUAL if (given / name).is_file()]
    if not found:
        raise WrongCallError(f"there is none of {', '.join(_USUAL)} in {str(given)!r}: name the file")
    return found


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WrongCallError(f"{str(file)!r} cannot be read: {error.strerror}") from error


def _show(name: str, check: BundleCheck) -> None:
    verdict = "as its schema says" if check.ok else "cannot be read" if check.error else "not as its schema says"
    say(f"{name}: {check.kind}, {verdict}", style=None if check.ok else "red")
    if check.error is not None:
        say(f"   error    {check.error}")
    for kind, found in (("schema", check.deviations), ("warning", check.warnings)):
        for each in found:
            say(f"   {kind:7}  {f'{each.place}: ' if each.place else ''}{each.message}")
