"""Make the documentation site: ``python docs/site/build.py FOLDER``, or ``nox -s docs``. Warnings are errors.

The pages are those of this folder's parent, which read well without a site, too. The site adds what is made from the
program: the API, the commands, the schemas and the contract. It holds the other files that pages link to (the change
log, the examples), so that every link stays within it.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import sys
import zlib
from pathlib import Path, PurePosixPath

from sphinx.cmd.build import main as build_site

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import reference  # noqa: E402 - beside this file, which is in no package

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"^- .*?\]\(([\w/.-]+)\.md\)", re.MULTILINE)


def place_of(file: str) -> str:
    """Return where a file of the repository is in the site."""
    path = PurePosixPath(file)
    if path.parts[0] == "docs":
        return str(PurePosixPath(*path.parts[1:]))
    if path.suffix not in (".md", ".py", ""):
        return f"project/{path.name}"
    if path.parts[0] == "examples":
        return "examples/index.md" if len(path.parts) == 1 else f"{path.with_suffix('')}.md"
    return f"project/{'-'.join(path.parts)}"


def moved(text: str, file: str, linked: set[str]) -> str:
    """Return the text of a page with its links leading to where the site has what they name.

    What they name in the source is added to what is linked.
    """
    here = PurePosixPath(file).parent
    place = PurePosixPath(place_of(file)).parent

    def link(found: re.Match[str]) -> str:
        target, mark, anchor = found[1].partition("#")
        wanted = posixpath.normpath(str(here / target))
        if place_of(wanted).startswith("project/") and (ROOT / wanted).is_file() and not wanted.endswith(".md"):
            linked.add(wanted)
        return posixpath.relpath(place_of(wanted), place) + mark + anchor

    return _LINK.sub(link, text)


MADE = {
    "Look up": ["reference/api/index", "reference/cli/index", "reference/schemas", "reference/contract"],
    "Understand": ["examples/index", "project/index"],
}
"""The pages that only the site has, by the section that they belong to."""


def navigation(index: str) -> str:
    """Return the site's navigation: the sections of the index, with the pages that each lists."""
    _, *parts = _SECTION.split(index)
    trees = []
    for title, section in zip(parts[::2], parts[1::2], strict=True):
        pages = "\n".join([*_PAGE.findall(section), *MADE.get(title, ())])
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```")
    return "\n\n".join(trees)


def assemble(source: Path) -> None:
    """Put the site's sources together in a new folder."""
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")]
    project = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "changelog.d/README.md")]
    project += ROOT.glob("examples/*/README.md")
    made: dict[str, str] = {}
    linked: set[str] = set()
    for path in (*pages, *project):
        file = path.relative_to(ROOT).as_posix()
        made[place_of(file)] = moved(path.read_text(encoding="utf-8"), file, linked)
    made["index.md"] += "\n" + navigation(made["index.md"])
    made["decisions/README.md"] += "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"
    made |= {f"examples/{path.stem}.md": _example(path) for path in ROOT.glob("examples/*.py")}
    made["examples/index.md"] = reference.listing("Examples", "Programs to start from.", _titles(made, "examples/"))
    made |= reference.pages()
    made["project/index.md"] = reference.listing(
        "The project", "How it changes, and how to take part.", _titles(made, "project/")
    )
    for place, text in made.items():
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).write_text(text, encoding="utf-8")
    for file in linked:
        shutil.copy(ROOT / file, source / place_of(file))
    shutil.copytree(ROOT / "docs/images", source / "images")
    for name, schema in reference.schemas().items():
        (source / "files/schemas").mkdir(parents=True, exist_ok=True)
        (source / f"files/schemas/{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n")


def _titles(made: dict[str, str], folder: str) -> dict[str, str]:
    """Return the title of each page of a folder, by its name there."""
    found = {place: re.search(r"^# (.+)$", text, re.MULTILINE) for place, text in sorted(made.items())}
    return {
        place.removeprefix(folder): title[1] if title else place
        for place, title in found.items()
        if place.startswith(folder)
    }


def _example(path: Path) -> str:
    return f"# {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n"


def unlisted(inventory: Path) -> set[str]:
    """Return the public names that other projects cannot link to, as the site's inventory lacks them."""
    entries = zlib.decompress(inventory.read_bytes().split(b"\n", 4)[4]).decode()
    listed = {line.partition(" ")[0] for line in entries.splitlines()}
    return {f"{package}.{name}" for name, package in reference.public_names().items()} - listed


def main(folder: str) -> int:
    """Build the site in a folder, which is made anew; return 1 if anything is wrong with it."""
    target = Path(folder).resolve()
    shutil.rmtree(target, ignore_errors=True)
    source = target / "source"
    assemble(source)
    how = ["-q", "-W", "--keep-going", "-c", str(HERE), "-d", str(target / "doctrees"), "-b", "html"]
    failed = build_site([*how, "-D", f"html_extra_path={source / 'files'}", str(source), str(target / "html")])
    lacking = unlisted(target / "html/objects.inv")
    if lacking:
        sys.stderr.write(f"in no page of the reference: {', '.join(sorted(lacking))}\n")
    return 1 if failed or lacking else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
