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
    """A wrong text in place of a right one."""

    name: str
    file: str
    right: str
    wrong: str


def all_faults() -> dict[str, Fault]:
    """Return the faults that are kept, by name."""
    text = (Path(__file__).parent / "faults" / "faults.toml").read_text()
    return {each["name"]: Fault(**each) for each in tomllib.loads(text)["fault"]}


def plant(fault: Fault) -> None:
    """Have the library imported with a fault; nothing of it may have been imported yet."""
    assert "emdstore" not in sys.modules
    sys.meta_path.insert(0, _Finder(fault))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._module = "emdstore." + fault.file.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._fault)
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, fault: Fault) -> None:
        super().__init__(name, path)
        self._fault = fault

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        text = Path(self.path).read_text(encoding="utf-8")
        assert text.count(self._fault.right) == 1, f"{self._fault.name}: its text is not in {self._fault.file} once"
        return compile(text.replace(self._fault.right, self._fault.wrong), self.path, "exec")
