"""Operations are told in the log with their fields, and to OpenTelemetry if the program uses it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import environment
from tests.executions.runs import committed

from emdstore import InMemoryArtifactStore, Workspace, transfer
from emdstore.errors import StoreError
from emdstore.telemetry import operation

PROGRAM = """
import json, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

from emdstore import Catalog, CatalogError, InMemoryArtifactStore, Workspace, replay, transfer

with Workspace.in_memory() as workspace:
    with workspace.start_execution(provider="p", diagnostic="d", group="g") as execution:
        execution.add_scalar(0.7, region="global")
    execution.commit_output_assets()
    for _ in range(2):
        transfer(workspace.results, InMemoryArtifactStore())
    with Catalog("sqlite://") as catalog:
        replay(workspace.results, catalog)
        try:
            with catalog._database.writing() as connection:
                connection.exec_driver_sql("SELECT nothing FROM nowhere")
        except Exception:
            pass
    try:
        transfer(workspace.results, workspace.results)
    except ValueError:
        pass

told = [
    [each.name, dict(each.attributes), each.status.status_code.name, each.parent is not None]
    for each in spans.get_finished_spans()
]
measured = {}
for resource in reader.get_metrics_data().resource_metrics:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                name = " ".join([metric.name, *map(str, point.attributes.values())])
                measured[name] = getattr(point, "value", None) or point.count
json.dump([told, measured], sys.stdout)
"""


def test_transfers_commits_replays_and_statements_are_spans_and_counted() -> None:
    pytest.importorskip("opentelemetry.sdk")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # such as a warning of an instrument that is made twice
    spans, measured = json.loads(done.stdout)
    names = [name for name, *_ in spans]
    assert {name: names.count(name) for name in ("emdstore.commit", "emdstore.transfer", "emdstore.replay")} == {
        "emdstore.commit": 1,
        "emdstore.transfer": 2,
        "emdstore.replay": 1,
    }
    (commit,) = [about for name, about, *_ in spans if name == "emdstore.commit"]
    assert commit["emdstore.status"] == "uploaded"
    assert commit["emdstore.fragment"].startswith("p/d/")
    statements = [(about, status, inside) for name, about, status, inside in spans if name == "emdstore.sql"]
    # The statement, without values; those of a commit lie in its span.
    assert all(about["db.system.name"] == "sqlite" and about["db.query.text"] for about, *_ in statements)
    assert not any("0.7" in about["db.query.text"] for about, *_ in statements)
    assert any(inside for *_, inside in statements)
    failed = [about for about, status, _ in statements if status == "ERROR"]
    assert [(about["db.query.text"], about["error.type"]) for about in failed] == [
        ("SELECT nothing FROM nowhere", "OperationalError")
    ]
    assert measured["emdstore.duration transfer"] == 2
    assert measured["emdstore.sets transfer copied"] == 2
    assert measured["emdstore.sets replay ingested"] == 1
    assert measured["emdstore.bytes transfer"] > 0


def test_emdstore_imports_no_telemetry_of_its_own() -> None:
    program = "import sys, emdstore.telemetry, emdstore.catalog; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=environment(), check=False).returncode == 0


def test_operations_are_logged_with_fields(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "emdstore")
    execution = committed(workspace)
    transfer(workspace.results, InMemoryArtifactStore())
    told = {vars(each)["operation"]: vars(each) for each in caplog.records if hasattr(each, "operation")}
    assert (told["commit"]["fragment"], told["commit"]["status"]) == (execution.fragment, "uploaded")
    assert told["commit"]["artifacts.copied"] == 5
    assert told["transfer"]["sets.copied"] == 1


def test_an_operation_that_fails_says_so_and_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "emdstore")

    def fail() -> None:
        with operation("transfer", dest="s3://me:hunter2@host/x"):
            raise StoreError("hunter2")

    with pytest.raises(StoreError):
        fail()
    assert vars(caplog.records[0])["error"] == "StoreError"
    assert "hunter2" not in caplog.text + json.dumps(vars(caplog.records[0]), default=str)


def test_fields_are_redacted_in_a_log_of_json(tmp_path: Path) -> None:
    from emdstore.cli.logs import _Lines

    record = logging.makeLogRecord({"msg": "x", "store": "hunter2", "count": 3, "levelname": "INFO"})
    said = json.loads(_Lines(lambda text: text.replace("hunter2", "***")).format(record))
    assert (said["store"], said["count"]) == ("***", 3)
