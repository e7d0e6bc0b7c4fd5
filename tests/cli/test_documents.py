"""What `--json` prints: every command's document is in one envelope, and as its JSON Schema says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from tests.adoption.outputs import cmec, write
from tests.cli.conftest import Here
from tests.ensembles import GOOD, INCOMPLETE

from emdstore.cli import app, documents
from emdstore.sets.schema import record_schema

NOT_RUN_HERE = {"serve", "watch", "climate-ref replay", "climate-ref retractions", "demo"}
"""Servers, Climate-REF's database, and what takes long: their layouts are tested by a document each."""


@pytest.fixture(scope="module")
def places(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's results and catalog that may be changed."""
    folder = tmp_path_factory.mktemp("places")
    shutil.copytree(demo_folder / "results", folder / "results")
    shutil.copy(demo_folder / "catalog.db", folder / "catalog.db")
    return folder


def calls(here: Here, places: Path) -> Iterator[tuple[str, int, list[Any]]]:
    """Iterate over calls, each with the name of its command and its exit code."""
    results, catalog = places / "results", ("--catalog", places / "catalog.db")
    here("init")
    run = ("run", "--provider", "p", "--diagnostic", "d", "--input", "ERA5", "--json", "--")
    fine, broken = here(*run, "true"), here(*run, "false", code=1)
    one, two = (answer.json["execution"]["fragment"] for answer in (fine, broken))
    yield "init", 0, ["init", "another"]
    yield "init", 2, ["init"]
    yield "run", 1, ["run", "--provider", "p", "--diagnostic", "d", "--", "false"]
    yield "list", 0, ["list"]
    yield "status", 0, ["status"]
    yield "logs", 0, ["logs", one]
    yield "history", 0, ["history", "default"]
    yield "commit", 0, ["commit", one]
    yield "commit", 2, ["commit"]
    yield "affected", 0, ["affected", "ERA5"]
    yield "affected", 1, ["affected", "ERA5", "ERA6"]
    yield "affected", 4, ["affected", "ERA6"]
    yield "reingest", 0, ["reingest", one]
    yield "abort", 0, ["abort", two]
    yield "abort", 1, ["abort", one]
    yield "recover", 0, ["recover"]
    yield "gc", 0, ["gc"]
    yield "gc", 0, ["gc", "--yes"]
    yield "config show", 0, ["config", "show"]
    Path("emdstore.toml").write_text(Path("emdstore.toml").read_text() + f'[stores.archive]\nurl = "{results}"\n')
    yield "config check", 0, ["config", "check"]
    yield "db check", 0, ["db", "check"]
    yield "db check", 2, ["db", "check", "--catalog", "mysql://h/x"]
    yield "db upgrade", 0, ["db", "upgrade"]
    yield "db rebind", 0, ["db", "rebind", results, *catalog]
    yield "compare", 0, ["compare", results, catalog[1]]
    yield "compare", 1, ["compare", results, results / GOOD.partition("/")[0]]
    yield "adopt", 0, ["adopt", "cmec", cmec(places), "adopted"]
    yield "adopt", 0, ["adopt", "cmec", cmec(places), "--dry-run"]
    write(Path("lost"), {"output.json": '{"plots": {"a": {"filename": "a.png", "long_name": "", "description": ""}}}'})
    yield "adopt", 1, ["adopt", "cmec", "lost", "adopted"]
    yield "deposit", 0, ["deposit", results, "-o", "crate"]
    yield "deposit", 2, ["deposit", "nowhere", "-o", "crate-of-nothing"]
    yield "datastore", 0, ["datastore", results, "-o", "catalogs"]
    yield "snapshot", 0, ["snapshot", results, "--list"]
    yield "doctor", 0, ["doctor", results]
    yield "ls", 0, ["ls", results]
    yield "ls", 2, ["ls", "nowhere"]
    yield "transfer", 0, ["transfer", results, "copy"]
    yield "transfer", 0, ["transfer", results, "dry", "--dry-run"]
    yield "transfer", 1, ["transfer", results, "copy", "no/such"]
    yield "diff", 0, ["diff", results, "copy"]
    (Path("empty")).mkdir()
    yield "diff", 1, ["diff", results, "empty"]
    yield "diff", 1, ["diff", results / GOOD, results / INCOMPLETE, "--values"]
    yield "du", 0, ["du", results]
    yield "stat", 0, ["stat", results, f"{GOOD}/out.log"]
    yield "stat", 0, ["stat", results, GOOD]
    yield "stat", 4, ["stat", results, "nowhere"]
    yield "cat", 0, ["cat", results, f"{GOOD}/out.log"]
    yield "cat", 0, ["cat", results, f"{GOOD}/diagnostic.json", "--pretty"]
    yield "cat", 0, ["cat", places, "catalog.db"]
    yield "manifest", 0, ["manifest", results]
    yield "cite", 0, ["cite", results, GOOD]
    yield "provenance", 0, ["provenance", results, GOOD]
    yield "help", 0, ["help"]
    yield "help", 0, ["help", "urls"]
    yield "man", 0, ["man", "db", "check"]
    yield "man", 0, ["man", "--install", "--folder", "pages-of-manual"]
    yield "completion", 0, ["completion", "fish"]
    yield "schema", 0, ["schema"]
    yield "schema", 0, ["schema", "db", "check"]
    yield "schema", 2, ["schema", "nothing"]
    yield "tree", 0, ["tree", results, "-d", "2"]
    yield "tree", 0, ["tree", results]
    yield "sets", 0, ["sets", results]
    yield "sets", 4, ["sets", results, "--provider", "nobody"]
    yield "events", 0, ["events", results, "--begin", "--since", "1h", "--trim", "90d"]
    yield "repair", 0, ["repair", results, GOOD, "--from", results]
    yield "verify", 0, ["verify", results]
    yield "verify", 2, ["verify"]
    yield "replay", 0, ["replay", results, "--catalog", "new.db"]
    yield "show", 0, ["show", GOOD, *catalog]
    yield "show", 4, ["show", "nowhere", *catalog]
    yield "inputs", 0, ["inputs", GOOD, *catalog]
    yield "resources", 0, ["resources", *catalog]
    yield "export", 0, ["export", "scalars", "-o", "x.csv", *catalog]
    yield "materialize", 0, ["materialize", results / GOOD, "a/b/c/d", "--metric", "diagnostic.json"]
    yield "check", 0, ["check", results / GOOD / "diagnostic.json"]
    yield "report", 0, ["report", results, *catalog, "-o", "pages"]
    at = ("--results", results)
    yield "release create", 0, ["release", "create", "2026.1", GOOD, *at]
    yield "release create", 0, ["release", "create", "2026.2", *at]
    yield "release list", 0, ["release", "list", *at]
    yield "release show", 0, ["release", "show", "2026.1", *at]
    yield "release verify", 0, ["release", "verify", "2026.1", *at]
    yield "release diff", 1, ["release", "diff", "2026.1", "2026.2", *at]
    yield "release alias", 0, ["release", "alias", "production", "2026.1", *at]
    key = places / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    yield "release sign", 0, ["release", "sign", "2026.1", key, *at]
    yield "release sign", 4, ["release", "sign", "nowhere", key, *at]
    settings = Path("emdstore.toml").read_text()
    Path("emdstore.toml").write_text(f'{settings}[targets.staging]\nstore = "{results}"\n[targets.production]\n')
    yield "promote", 0, ["promote", "staging", "production", "--release", "2026.1", "--yes"]
    yield "promote", 2, ["promote", "staging", "nowhere"]
    yield "retract", 0, ["retract", GOOD, "--reason", "wrong", "--results", results]
    yield "unretract", 0, ["unretract", GOOD, "--results", results]
    yield "forget", 0, ["forget", GOOD, *catalog]
    yield "rm", 1, ["rm", results, GOOD]
    yield "rm", 0, ["rm", "copy", GOOD, "--copy", results, "--yes"]
    yield "rm", 4, ["rm", results, "nowhere"]


def test_every_command_prints_a_document_in_the_envelope_as_its_schema_says(here: Here, places: Path) -> None:
    seen = set()
    for name, code, call in calls(here, places):
        at = call.index("--") if "--" in call else len(call)
        document = here(*call[:at], "--json", *call[at:], code=code).json
        told = "error" if "error" in document else name
        seen.add(name)
        assert list(document)[:5] == ["schema", "ok", "counts", "items", "errors"]
        assert (document["schema"], document["ok"]) == (f"emdstore/{told.replace(' ', '-')}/1", code == 0), call
        assert told == name or document["exit_code"] == code
        assert code or not document["errors"], call
        Draft202012Validator(documents.document_schema(told)).validate(document)
    assert set(app.COMMANDS) == set(documents.LAYOUTS) - {"error"}
    assert seen == set(app.COMMANDS) - NOT_RUN_HERE


def test_what_went_wrong_is_among_the_errors_of_every_command_that_goes_on(here: Here, demo_folder: Path) -> None:
    shutil.copytree(demo_folder / "results", "results")
    (Path("results") / "nowhere").symlink_to("gone")
    bundle = Path("results") / GOOD / "diagnostic.json"
    bundle.write_bytes(bundle.read_bytes().replace(b"0", b"1"))
    for call in (["verify", "results"], ["transfer", "results", "copy"], ["replay", "results", "--catalog", "c.db"]):
        errors = here(*call, "--json", code=1).json["errors"]
        assert all(set(each) == {"type", "name", "message"} for each in errors)
        assert {"type": "left-out", "name": "nowhere", "message": "is a link that leads nowhere"} in errors
        assert any(each["type"] != "left-out" for each in errors), call


def test_a_document_that_lacks_a_part_of_the_envelope_is_not_as_its_schema_says() -> None:
    whole = documents.envelope("serve", {"url": "http://h/"}, 0)
    Draft202012Validator(documents.document_schema("serve")).validate(whole)
    for name in whole:
        with pytest.raises(ValidationError):
            Draft202012Validator(documents.document_schema("serve")).validate(
                {other: value for other, value in whole.items() if other != name}
            )


@pytest.mark.parametrize("name", documents.LAYOUTS)
def test_every_layout_has_a_schema_in_the_package_which_schema_prints(here: Here, name: str) -> None:
    schema = here("schema", *name.split()).json
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"emdstore/{name.replace(' ', '-')}/{documents.LAYOUT}"


def test_schema_prints_those_of_files_and_lists_all_names(here: Here) -> None:
    assert here("schema", "record").json == record_schema()
    assert here("schema").out.splitlines() == ["record", "retraction", "lines", *documents.LAYOUTS]
    assert "there is no document of 'nothing'" in here("schema", "nothing", code=2).err
