"""Faults put back into the library, as it is imported: to see that the simulation finds them."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import tomllib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

import attrs


@attrs.frozen
class Fault:
    """A wrong text in place of a right one.

    Attributes
    ----------
    name, file, right, wrong
        What it is called, and what stands where instead of what.
    beside
        Another fault that is put back with it: either alone is made good by what the other one drops.
    equivalent
        Why nothing can show it, if nothing can.
    """

    name: str
    file: str
    right: str
    wrong: str
    beside: str | None = None
    equivalent: str | None = None


def all_faults() -> dict[str, Fault]:
    """Return the faults that are kept, by name."""
    text = (Path(__file__).parent / "faults" / "faults.toml").read_text()
    return {each["name"]: Fault(**each) for each in tomllib.loads(text)["fault"]}


def plant(fault: Fault) -> None:
    """Have the library imported with a fault; nothing of it may have been imported yet."""
    assert "emdstore" not in sys.modules
    planted = [fault] if fault.beside is None else [fault, all_faults()[fault.beside]]
    sys.meta_path.insert(0, _Finder(planted))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, faults: list[Fault]) -> None:
        self._by_module: dict[str, list[Fault]] = {}
        for each in faults:
            module = "emdstore." + each.file.removesuffix(".py").replace("/", ".")
            self._by_module.setdefault(module, []).append(each)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._by_module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._by_module[name])
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, faults: list[Fault]) -> None:
        super().__init__(name, path)
        self._faults = faults

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        text = Path(self.path).read_text(encoding="utf-8")
        for each in self._faults:
            assert text.count(each.right) == 1, f"{each.name}: its text is not in {each.file} once"
            text = text.replace(each.right, each.wrong)
        return compile(text, self.path, "exec")
