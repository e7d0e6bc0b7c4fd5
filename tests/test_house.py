"""The house has no circle of imports: neither between rooms nor in one, and what only a type checker imports counts."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import emdstore

SOURCE = Path(emdstore.__file__).parent


def sources_of(folder: Path) -> dict[str, str]:
    """Return the text of each module of a package by its dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules each module imports, wherever in it the import stands."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            named: list[str] = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                # `from a.b import c` is of the module `a.b.c` if there is one.
                named = [each if (each := f"{node.module}.{a.name}") in sources else node.module for a in node.names]
            graph[name].update(each for each in named if each in sources and each != name)
    return graph


def refuse_circles(graph: Mapping[str, set[str]]) -> None:
    TopologicalSorter(graph).prepare()


def test_no_module_imports_what_imports_it() -> None:
    graph = imports_of(sources_of(SOURCE))
    assert len(graph) > 150
    refuse_circles(graph)


def test_a_circle_would_be_found_also_where_only_a_type_checker_imports() -> None:
    sources = {
        "house.room": "from house.room.a import value",
        "house.room.a": "from house.room import b",
        "house.room.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.room.a import value",
    }
    with pytest.raises(CycleError):
        refuse_circles(imports_of(sources))
    with pytest.raises(CycleError):
        refuse_circles(imports_of(sources | {"house.room.b": "def late():\n    import house.room.a"}))
    refuse_circles(imports_of(sources | {"house.room.b": ""}))
