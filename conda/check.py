"""Compare the recipe with a wheel: ``python conda/check.py dist/emdstore-0.1.0-py3-none-any.whl``."""

from __future__ import annotations

import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

HERE = Path(__file__).parent
WITH = "cli"
"""The extra whose requirements the package has, too."""


def metadata_of(wheel: Path) -> tuple[Message, str]:
    """Return a wheel's metadata, and its entry points."""
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        told = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        return told, archive.read(f"{folder}/entry_points.txt").decode()


def differences(recipe: dict[str, Any], wheel: Message, entry_points: str) -> list[str]:
    """Return what the recipe says otherwise than the wheel, as sentences."""
    wanted = {f"python {wheel['Requires-Python']}"}
    for text in wheel.get_all("Requires-Dist", ()):
        each = Requirement(text)
        if each.marker is None or each.marker.evaluate({"extra": WITH}):
            wanted.add(f"{each.name} {each.specifier}".strip())
    found = set(recipe["requirements"]["run"])
    said = [f"the recipe lacks {each}" for each in sorted(wanted - found)]
    said += [f"the recipe has {each}, and the wheel does not" for each in sorted(found - wanted)]
    said += [
        f"{what}: {of_recipe!r} in the recipe, {of_wheel!r} in the wheel"
        for what, of_recipe, of_wheel in (
            ("version", recipe["context"]["version"], wheel["Version"]),
            ("summary", recipe["about"]["summary"], wheel["Summary"]),
            ("license", recipe["about"]["license"], wheel["License-Expression"]),
        )
        if of_recipe != of_wheel
    ]
    commands = recipe["build"]["python"]["entry_points"]
    return said + [f"the wheel has no command {each!r}" for each in commands if each not in entry_points.splitlines()]


def main(wheel: str) -> int:
    """Tell the differences; return 1 if there are any."""
    recipe = yaml.safe_load((HERE / "recipe.yaml").read_text())
    said = differences(recipe, *metadata_of(Path(wheel)))
    sys.stderr.writelines(f"{each}\n" for each in said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
