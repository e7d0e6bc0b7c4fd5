"""`emdstore check`: bundles against the schemas, in a process of its own."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cli.conftest import CLI, Here
from tests.ensembles import GOOD


def test_a_published_sets_bundles_are_as_the_schemas_say(cli: CLI, demo_folder: Path) -> None:
    folder = demo_folder / "results" / GOOD
    said = cli("check", folder)
    assert said.out.count("as its schema says") == 3
    document = cli("check", folder / "diagnostic.json", "--json").json
    assert (document["schema"], document["ok"]) == ("emdstore/check/1", True)
    assert [each["kind"] for each in document["items"]] == ["metric"]


def test_what_is_odd_is_shown_and_what_is_wrong_is_exit_code_1(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps({"plots": {}}))
    odd = cli("check", "odd.json", code=1)
    assert "not as its schema says" in odd.out
    assert "'provenance' is a required property" in odd.out
    assert "does not name its input data" in odd.out
    (tmp_path / "cut.json").write_text('{"DIMENSIONS": {')
    assert "the file looks truncated" in cli("check", "cut.json", "--kind", "metric", code=1).out
    (tmp_path / "v.yaml").write_text(
        "dimensions: [{name: a, long_name: a, description: '', allow_extra_values: false, required: true, values: []}]"
    )
    (tmp_path / "series.json").write_text(
        json.dumps([{"dimensions": {"b": "c"}, "values": [], "index": [], "index_name": "t"}])
    )
    assert "dimension 'b' is not in the vocabulary" in cli("check", ".", "--vocabulary", "v.yaml").out
    cli("check", ".", "--vocabulary", "v.yaml", "--strict", code=1)
    cli("check", "series.json", "--strict", code=0)


def test_the_vocabulary_of_the_installed_climate_ref_is_a_gate(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("series.json").write_text(
        json.dumps([{"dimensions": {"b": "c"}, "values": [], "index": [], "index_name": "t"}])
    )
    gate = ("check", "series.json", "--vocabulary", "climate-ref", "--strict")
    if find_spec("climate_ref_core") is None:
        assert "emdstore[climate-ref]" in here(*gate, code=2).err
    package = Path("site/climate_ref_core/pycmec")
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "cv_cmip7_aft.yaml").write_text("dimensions: []\n")
    monkeypatch.syspath_prepend("site")
    assert "dimension 'b' is not in the vocabulary" in here(*gate, code=1).out


def test_a_wrong_call_is_told(cli: CLI, tmp_path: Path) -> None:
    assert "name the files" in cli("check", code=2).err
    assert "nowhere.json" in cli("check", "nowhere.json", code=2).err
    (tmp_path / "empty").mkdir()
    assert "name the file" in cli("check", "empty", code=2).err
