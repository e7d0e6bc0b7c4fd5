"""What `import emdstore` promises."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import emdstore
import emdstore.emds

SOURCE = Path(emdstore.__file__).parent
ROOT = Path(__file__).parents[1]

# Engines and faces: whoever does not use them need not have them.
OPTIONAL = {
    "obstore",
    "s3fs",
    "psycopg",
    "cyclopts",
    "rich",
    "yaml",
    "pytest",
    "hypothesis",
    "climate_ref_core",
    "pandas",
    "pyarrow",
    "xarray",
}
HEAVY = OPTIONAL | {"sqlalchemy", "alembic", "fsspec", "stamina"}


def in_a_new_process(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_importing_the_package_loads_no_engine_and_no_database() -> None:
    loaded = in_a_new_process("import sys, emdstore; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert HEAVY & set(loaded) == set()


def test_importing_the_package_takes_less_than_150_ms_beyond_the_interpreter() -> None:
    # Processor time, and the best of several: neither waiting for a busy machine nor a cold cache counts.
    def seconds(code: str) -> float:
        before = os.times()
        in_a_new_process(code)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    best = min(seconds("import emdstore") for _ in range(7))
    assert best - min(seconds("pass") for _ in range(7)) < 0.150


@pytest.mark.parametrize("name", sorted(emdstore.__all__))
def test_every_public_name_resolves_and_says_what_it_is(name: str) -> None:
    found = getattr(emdstore, name)
    assert name == "__version__" or found.__doc__


def test_the_public_names_are_listed_once_and_sorted() -> None:
    listed = re.findall(r"^    (\w+) as \1,$", (SOURCE / "__init__.pyi").read_text(), re.MULTILINE)
    assert sorted([*listed, "__version__"]) == emdstore.__all__ == dir(emdstore)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("package", [emdstore, emdstore.emds], ids=lambda package: package.__name__)
def test_what_is_imported_when_it_is_used_has_no_modules_name(package: ModuleType) -> None:
    # Whoever imports the module puts it in the place of what is called like it.
    assert set(package.__all__).isdisjoint(each.name for each in pkgutil.iter_modules(package.__path__))


def test_every_error_of_the_library_is_public_and_lies_in_errors() -> None:
    errors = {
        name
        for name, found in vars(importlib.import_module("emdstore.errors")).items()
        if isinstance(found, type) and issubclass(found, emdstore.EmdstoreError)
    }
    assert errors <= set(emdstore.__all__)
    public = {name for name in emdstore.__all__ if name.endswith("Error")}
    assert public == errors


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        emdstore.no_such_name  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    try:
        installed = metadata.version("emdstore")
    except metadata.PackageNotFoundError:
        pytest.skip("emdstore runs from its source tree here")
    assert emdstore.__version__ == installed


def test_the_package_is_typed_and_has_its_data() -> None:
    for name in ("py.typed", "catalog/migrations/versions/v0001_baseline.py"):
        assert (SOURCE / name).is_file(), name


def test_the_core_works_without_any_extra() -> None:
    in_a_new_process(
        f"""
import sys
for name in {sorted(OPTIONAL)!r}:
    sys.modules[name] = None
import emdstore
scratch, results = emdstore.InMemoryArtifactStore(), emdstore.InMemoryArtifactStore()
scratch.write_bytes("out.log", b"")
scratch.write_bytes("diagnostic.json", b'{{"DIMENSIONS": {{"json_structure": []}}, "RESULTS": {{}}}}')
result = emdstore.ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json")
outcome = emdstore.materialize_outputs(result, source=scratch, dest=results)
assert emdstore.resolve_status(result, outcome).status == "uploaded"
with emdstore.Catalog("sqlite://") as catalog:
    assert emdstore.replay(results, catalog).counts["ingested"] == 1
"""
    )


@pytest.mark.parametrize(
    ("call", "extra"),
    [("emdstore.open_store('s3://bucket', engine='obstore').read_bytes('k')", "s3"),
     ("emdstore.open_store('s3://bucket', engine='s3fs')", "s3fs"),
     ("emdstore.Catalog('postgresql://127.0.0.1/x').check()", "postgres"),
     ("emdstore.load_vocabulary('words.yaml')", "vocabulary")],
)  # fmt: skip
def test_a_missing_extra_is_named_with_the_command_that_installs_it(call: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("dimensions: []")
    said = in_a_new_process(
        f"""
import os, sys
os.chdir({str(tmp_path)!r})
for name in {sorted(OPTIONAL)!r}:
    sys.modules[name] = None
import emdstore
try:
    {call}
except emdstore.MissingExtraError as error:
    print(error)
"""
    )
    assert f"pip install 'emdstore[{extra}]'" in said


def test_no_module_needs_an_extra_to_be_imported() -> None:
    """The command line, the testing kit, integrations and adapters of a library's classes are the extras' own faces."""
    faces = ("cli", "testing", "integrations", "migrations", "webdav.py")
    modules = [
        ".".join(("emdstore", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in sorted(SOURCE.rglob("*.py"))
        if not any(face in path.relative_to(SOURCE).parts for face in faces) and path.name != "__init__.py"
    ]
    assert "emdstore.stores.s3.store" in modules
    in_a_new_process(
        f"import sys\nfor name in {sorted(OPTIONAL)!r}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    )
    assert importlib.import_module("emdstore.cli")


def test_how_to_cite_it_names_this_version() -> None:
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == emdstore.__version__
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


def test_the_extra_all_brings_every_feature() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (brought,) = extras["all"]
    named = set(brought.partition("[")[2].rstrip("]").split(","))
    assert named == extras.keys() - {"all", "climate-ref", "testing", "test", "test-all", "dev", "docs"}
