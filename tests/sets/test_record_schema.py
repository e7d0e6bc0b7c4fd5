"""The record's JSON Schema in the package is that of the records which are written."""

from __future__ import annotations

import json
from typing import Any

import attrs
import jsonschema
import msgspec
import pytest
from tests.sets.examples import FRAGMENT, SUCCESS, held, promote, put, small_run

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import EmdstoreError, RecordVersionError
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record, publish_record
from emdstore.sets.retraction import retract
from emdstore.sets.schema import make_record_schema, make_retraction_schema, record_schema, retraction_schema
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, scoped


def test_the_schemas_in_the_package_are_current() -> None:
    """If not: `json.dumps(make_record_schema(), indent=2)` goes into ``sets/record.schema.json``, and so on."""
    assert record_schema() == make_record_schema()
    assert retraction_schema() == make_retraction_schema()


def test_a_retraction_that_is_written_follows_its_schema() -> None:
    results = ours()
    retract(results, FRAGMENT, reason="wrong units", successor="a/b/c/2")
    said = json.loads(results.read_bytes(f"{FRAGMENT}/{RETRACTION_NAME}"))
    jsonschema.validate(said, retraction_schema(), format_checker=jsonschema.FormatChecker())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(said | {"retracted": "yes"}, retraction_schema())
    assert said.keys() == retraction_schema()["$defs"]["Retraction"]["properties"].keys()


def test_each_field_of_a_record_is_in_the_schema() -> None:
    results = InMemoryArtifactStore()
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    record = json.loads(results.read_bytes(f"{FRAGMENT}/{RECORD_NAME}"))
    definitions = record_schema()["$defs"]
    assert record.keys() == definitions["ExecutionRecord"]["properties"].keys()
    assert all(each.keys() == definitions["RecordedArtifact"]["properties"].keys() for each in record["artifacts"])
    assert definitions["ExecutionRecord"]["required"] == ["fragment", "provider", "diagnostic", "group"]


NEWER = msgspec.json.encode({"record_version": 99, "fragment": FRAGMENT, "something": "new"})


def ours() -> InMemoryArtifactStore:
    results = InMemoryArtifactStore()
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    return results


WRITERS: dict[str, Any] = {
    "materialize": lambda dest: materialize_outputs(
        SUCCESS, source=put(InMemoryArtifactStore(), small_run(out=b"other")), dest=scoped(dest, FRAGMENT)
    ),
    "publish": lambda dest: publish_set(
        ExecutionRecord.at(FRAGMENT),
        SUCCESS,
        source=put(InMemoryArtifactStore(), small_run(out=b"other")),
        dest=scoped(dest, FRAGMENT),
    ),
    "publish with --replace": lambda dest: publish_set(
        ExecutionRecord.at(FRAGMENT),
        SUCCESS,
        source=put(InMemoryArtifactStore(), small_run(out=b"other")),
        dest=scoped(dest, FRAGMENT),
        replace=True,
    ),
    "publish_record": lambda dest: publish_record(ExecutionRecord.at(FRAGMENT, state="failed"), scoped(dest, FRAGMENT)),
    "transfer": lambda dest: transfer(ours(), dest).raise_for_failures(),
    "transfer with --replace": lambda dest: transfer(
        ours(), dest, replace=True, unchanged="never"
    ).raise_for_failures(),
}


@pytest.mark.parametrize("verb", WRITERS)
def test_the_record_of_a_newer_emdstore_is_never_overwritten_nor_its_set(verb: str) -> None:
    dest = put(InMemoryArtifactStore(), small_run() | {RECORD_NAME: NEWER}, FRAGMENT)
    before = held(dest)
    with pytest.raises(EmdstoreError):
        WRITERS[verb](dest)
    assert held(dest) == before


def test_a_record_of_the_first_version_is_read_for_ever() -> None:
    old = {"fragment": FRAGMENT, "provider": "p", "diagnostic": "d", "group": "g", "record_version": 1}
    for status, failure, state in [
        ("uploaded", None, "published"),
        ("failed", "result", "incomplete"),
        ("failed", "system", "failed"),
    ]:
        record = decode_record(msgspec.json.encode(old | {"status": status, "failure": failure}))
        assert record.state == state
        assert decode_record(encode_record(record)) == attrs.evolve(record)
    with pytest.raises(RecordVersionError):
        decode_record(NEWER)
