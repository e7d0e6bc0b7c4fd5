"""A vocabulary warns of what nobody agreed on, and of nothing else."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emdstore.emds import Vocabulary, load_vocabulary
from emdstore.errors import VocabularyError

YAML = b"""
dimensions:
- name: region
  long_name: Region
  description: Where
  allow_extra_values: false
  required: true
  values:
  - {name: global, long_name: Everywhere, units: "1"}
  - {name: arctic, long_name: Arctic, description: North of 60 degrees}
- name: source_id
  long_name: Model
  description: Which
  allow_extra_values: true
  required: false
"""


@pytest.fixture
def vocabulary() -> Vocabulary:
    return load_vocabulary(YAML)


def test_what_the_vocabulary_lists_is_fine(vocabulary: Vocabulary) -> None:
    assert vocabulary.check({"region": "arctic", "source_id": "any model"}) == ()


@pytest.mark.parametrize(
    ("dimensions", "findings"),
    [
        ({"region": "Arctic"}, [("unknown-value", "region")]),
        ({"region": "global", "season": "DJF"}, [("unknown-dimension", "season")]),
        ({"source_id": "x"}, [("missing-dimension", "region")]),
        ({"season": "DJF"}, [("unknown-dimension", "season"), ("missing-dimension", "region")]),
        ({}, [("missing-dimension", "region")]),
    ],
)
def test_a_violation_is_told(
    vocabulary: Vocabulary, dimensions: dict[str, str], findings: list[tuple[str, str]]
) -> None:
    assert [(warning.code, warning.place) for warning in vocabulary.check(dimensions)] == findings


def test_an_unknown_value_is_in_the_message(vocabulary: Vocabulary) -> None:
    (warning,) = vocabulary.check({"region": "Arctic"})
    assert "'Arctic'" in warning.message


def test_checking_a_hundred_thousand_scalars_is_cheap(vocabulary: Vocabulary) -> None:
    started = time.perf_counter()
    rows = ({"region": "nowhere", "source_id": f"m{i % 50}", "season": f"s{i}"} for i in range(100_000))
    found = {warning for row in rows for warning in vocabulary.check(row)}
    assert time.perf_counter() - started < 2
    assert len(found) == 2


def test_it_is_read_from_a_path_too(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / "cv.yaml"
    path.write_bytes(YAML)
    assert load_vocabulary(path) == load_vocabulary(str(path)) == vocabulary


def test_it_crosses_process_boundaries(vocabulary: Vocabulary) -> None:
    vocabulary.check({"season": "DJF"})
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again == vocabulary
    assert again.check({"region": "x"}) == vocabulary.check({"region": "x"})


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "object"),
        (b"dimensions: 3", "dimensions"),
        (b"dimensions:\n- name: region", "$.dimensions[0]"),
        (YAML.replace(b"name: arctic", b"name: 1850"), "$.dimensions[0].values[1].name"),
        (YAML.replace(b"required: true", b"required: maybe"), "$.dimensions[0].required"),
        (YAML.replace(b"name: source_id", b"name: region"), "'region' is described twice"),
        (b"dimensions: [", "line 1"),
        (b"dimensions: \xff", "not valid YAML"),
        (b"[" * 5000, "not valid YAML"),
        (b"!!python/object/apply:os.system [true]", "not valid YAML"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_the_place(data: bytes, what: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        load_vocabulary(data)
    assert what in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"none\.yaml"):
        load_vocabulary(tmp_path / "none.yaml")


def test_yaml_is_imported_only_to_read_one() -> None:
    code = "import sys, emdstore.emds; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_yaml_the_message_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from emdstore.emds import load_vocabulary\n"
        "from emdstore.errors import MissingExtraError\n"
        "try: load_vocabulary(b'')\n"
        "except MissingExtraError as error: sys.exit('emdstore[vocabulary]' not in str(error))\n"
        "sys.exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
