"""What values say of themselves: in a line at a prompt, however much they hold, and as tables in a notebook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

import emdstore
from emdstore import (
    Catalog,
    ExecutionRecord,
    InMemoryArtifactStore,
    MaterializeOutcome,
    ReplayReport,
    TransferProgress,
    TransferReport,
    UploadReport,
    Workspace,
    scoped,
)
from emdstore.catalog.rows import SeriesRow
from emdstore.ingestion.replay_report import IngestOutcome
from emdstore.notebook import Progress
from emdstore.sets.record import RecordedArtifact
from emdstore.shown import Shown

MANY = 2412
ARTIFACTS = tuple(RecordedArtifact(f"{n}.png", "plot", 1, "0" * 64, "image/png") for n in range(MANY))
LARGE: list[Any] = [
    UploadReport(statuses={f"p/d/g/{n}": "uploaded" for n in range(MANY)}),
    ReplayReport({"ingested": MANY}, tuple(IngestOutcome(f"<b>{n}", "ingested") for n in range(MANY))),
    ExecutionRecord.at("p/d/g/1", artifacts=ARTIFACTS, description="x" * 9000, software=dict.fromkeys("abc", "1" * 50)),
    MaterializeOutcome(log_copied=True, artifacts=ARTIFACTS),
    SeriesRow(1, "p/d/g/1", "p", "d", "g", 0, {"region": "nh"}, "time", tuple(range(MANY)), (1.5,) * MANY, {}),
]


@pytest.mark.parametrize("value", LARGE, ids=lambda value: type(value).__name__)
def test_whatever_a_value_holds_it_says_so_in_less_than_2_kilobytes(value: Any) -> None:
    told = repr(value)
    assert len(told) < 2000
    assert f"=<{MANY:,}>" in told
    page = value._repr_html_()
    assert len(page) < 20_000
    assert f"({MANY:,})</summary>" in page
    assert "<b>1" not in page


def test_a_transfer_of_many_files_is_told_in_a_line() -> None:
    source = InMemoryArtifactStore()
    for number in range(600):
        source.write_bytes(f"a/{number}", b"x")
    report = emdstore.transfer(source, InMemoryArtifactStore())
    assert isinstance(report, TransferReport)
    assert len(repr(report)) < 300
    assert "600" in report._repr_html_()


def test_no_public_value_repeats_at_a_prompt_whatever_it_holds() -> None:
    values = [getattr(emdstore, name) for name in emdstore.__all__ if isinstance(getattr(emdstore, name), type)]
    holding = [
        value
        for value in values
        if attrs.has(value)
        and any(re.search(r"\btuple|Mapping|Outcomes", str(field.type)) and field.repr for field in attrs.fields(value))
    ]
    few = {"Alias", "Bandwidth", "Compared", "IngestOutcome", "Selection"}  # of one thing, or what somebody wrote
    # A store is its configuration.
    others = {value.__name__ for value in holding if not issubclass(value, Shown) and not hasattr(value, "iter_keys")}
    assert others <= few


def test_a_catalog_is_told_by_its_counts() -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(
            emdstore.catalog.ExecutionContent(
                fragment="<p>/d/g/1", provider="<p>", diagnostic="d", group="g", status="failed"
            )
        )
        page = catalog._repr_html_()
    assert "<td>failed</td><td>1</td>" in page
    assert "<td>&lt;p&gt;</td><td>1</td>" in page


def test_progress_is_shown_below_a_cell_and_nowhere_else() -> None:
    bar = Progress("copy <x>")
    bar(TransferProgress(3, 10, 5, 20, complete=True))
    assert bar._repr_html_() == '<progress value="3" max="5"></progress> copy &lt;x&gt; 3 of 5'
    bar("p/d/g/1", 1, None)
    assert bar._repr_html_().startswith("<progress></progress>")


def test_an_execution_has_its_plots_inline_if_they_are_as_recorded(tmp_path: Path) -> None:
    workspace = Workspace(scratch=tmp_path / "s", results=InMemoryArtifactStore(), catalog="sqlite://")
    with workspace.start_execution(provider="p", diagnostic="d", group="g") as execution:
        for name in ("map", "line"):
            (execution.output_directory / f"{name}.png").write_bytes(name.encode())
            execution.add_plot(f"{name}.png", long_name=name)
    execution.commit_output_assets()
    assert execution._repr_html_().count("<img") == 2
    scoped(workspace.results, execution.fragment).write_bytes("map.png", b"other")
    page = execution._repr_html_()
    assert page.count("<img") == 1
    assert "map.png: not as recorded" in page
