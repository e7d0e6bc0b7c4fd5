"""Promotion: results are compared and checked, and become a release that has the verdicts in it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from emdstore import (
    Workspace,
    create_release,
    load_vocabulary,
    point_alias,
    read_release,
    read_retraction,
    retract,
    transfer,
)
from emdstore.catalog.comparing import Rules, Tolerance
from emdstore.errors import ReleaseChangedError, ReleaseError, StoreError, TransferError, WorkspaceError
from emdstore.gates import checks
from emdstore.gates.promotion import Promotion, name_for, promote, propose
from emdstore.sets.releasing import check_release
from emdstore.stores import InMemoryArtifactStore
from emdstore.testing import FaultyStore

ALL = ["vocabulary", "units", "references", "completeness", "tolerances"]


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace.in_memory() as opened:
        yield opened


def run(
    workspace: Workspace,
    name: str,
    *,
    group: str = "a",
    value: float = 1.0,
    units: str = "K",
    plot: bool = True,
    reference: float = 0.0,
) -> str:
    """Publish a small set; return its folder."""
    with workspace.start_execution(provider="p", diagnostic="d", group=group, name=name) as execution:
        execution.add_scalar(value, metric="bias", attributes={"units": units})
        said = {"kind": "reference", "reference_id": "HadISST", "value_units": "K"}
        execution.add_series([reference], [1], index_name="time", dimensions={"region": "x"}, attributes=said)
        if plot:
            (execution.output_directory / "map.png").write_bytes(b"\x89PNG")
            execution.add_plot("map.png", long_name="a map")
    execution.commit_output_assets()
    return execution.fragment


def proposed(workspace: Workspace, dest: object = None, **how: object) -> Promotion:
    to = workspace.results if dest is None else dest
    return propose(workspace.results, to, from_target="staging", to_target="production", **how)  # type: ignore[arg-type]


def objections(promotion: Promotion) -> dict[str, tuple[str, ...]]:
    return {each.check: each.findings for each in promotion.verdicts if not each.ok}


def test_the_latest_sets_become_a_release_with_the_verdicts_in_it(workspace: Workspace) -> None:
    run(workspace, "1")
    latest = [run(workspace, "2"), run(workspace, "1", group="b")]
    wrong = run(workspace, "1", group="c")
    retract(workspace.results, wrong, reason="wrong")
    promotion = proposed(workspace)
    assert (promotion.ok, promotion.before, promotion.pairs, promotion.is_done) == (True, None, (), False)
    made = promote(promotion, "2026.1", note="first", by="ann")
    assert [each.fragment for each in made.sets] == sorted(latest)
    kept = read_release(workspace.results, "production")
    assert (kept.name, kept.promoted_from, kept.note, kept.by) == ("2026.1", "staging", "first", "ann")
    assert [(each.check, each.ok) for each in kept.checks] == [(name, True) for name in ALL]
    again = proposed(workspace)
    assert again.is_done
    assert [pair.verdict for pair in again.pairs] == ["equal", "equal"]


def test_what_a_target_stands_behind_is_what_its_alias_points_at(workspace: Workspace) -> None:
    one, _ = run(workspace, "1"), run(workspace, "2")
    create_release(workspace.results, "candidate", [one])
    point_alias(workspace.results, "staging", "candidate")
    assert list(proposed(workspace).records) == [one]
    assert list(proposed(workspace, release="candidate").records) == [one]


def test_each_check_objects_to_what_it_is_for(workspace: Workspace, tmp_path: Path) -> None:
    run(workspace, "1")
    run(workspace, "1", group="b")
    promote(proposed(workspace), "2026.1")
    run(workspace, "2", value=1.5, units="degC")
    run(workspace, "2", group="b", plot=False, reference=0.5)
    terms = tmp_path / "cv.yaml"
    values = "[{name: rmse, long_name: RMSE}]"
    terms.write_text(
        f"dimensions: [{{name: metric, long_name: Metric, description: '', allow_extra_values: false, required: false,"
        f" values: {values}}}]"
    )
    found = objections(proposed(workspace, vocabulary=load_vocabulary(terms)))
    assert list(found) == ALL
    assert any("metric 'bias' is not in the vocabulary" in each for each in found["vocabulary"])
    assert found["units"] == ("p/d: bias is in K, degC",)
    assert found["references"] == ("p/d: HadISST (region=x) has 2 different contents: p/d/a/2; p/d/b/2",)
    assert found["completeness"] == ("p/d/b (p/d/b/1 → p/d/b/2): map.png",)
    assert "p/d/a (p/d/a/1 → p/d/a/2): metric=bias: 1.0 → 1.5" in found["tolerances"]
    wide = Rules(Tolerance(absolute=1.0))
    assert list(objections(proposed(workspace, rules=wide, checks=["units", "tolerances"]))) == ["units"]
    assert list(objections(proposed(workspace, checks=["tolerances"]))) == ["tolerances"]


def test_units_that_are_missing_or_others_than_before_are_objected_to(workspace: Workspace) -> None:
    run(workspace, "1")
    promote(proposed(workspace), "2026.1")
    run(workspace, "2", units="degC")
    assert objections(proposed(workspace))["units"] == ("p/d: bias was in K, and is in degC",)
    with workspace.start_execution(provider="p", diagnostic="d", group="b", name="1") as execution:
        execution.add_scalar(1.0, metric="bias")
    execution.commit_output_assets()
    assert objections(proposed(workspace))["units"] == ("p/d: bias is in degC, and somewhere without units",)


def test_plots_and_tables_that_show_something_else_are_objected_to_where_that_is_asked_for(
    workspace: Workspace,
) -> None:
    for name, cell in (("1", "1.0"), ("2", "1.5")):
        with workspace.start_execution(provider="p", diagnostic="d", group="a", name=name) as execution:
            (execution.output_directory / "table.csv").write_text(f"bias\n{cell}\n")
            execution.add_data("table.csv", long_name="a table")
            execution.add_scalar(1.0, metric="bias")
        execution.commit_output_assets()
        if name == "1":
            promote(proposed(workspace), "2026.1")
    assert proposed(workspace).ok
    (found,) = objections(proposed(workspace, rules=Rules(contents=True)))["tolerances"]
    assert found.endswith("table.csv: 1 cell differs; row 2, bias: 1.0 → 1.5")


def test_a_check_of_another_package_is_run_like_the_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workspace, "1")
    name = f"{__name__}:objecting"
    monkeypatch.setattr(checks, "entry_points", lambda group: [EntryPoint("ours", name, group)])
    verdict = proposed(workspace).verdicts[-1]
    assert (verdict.check, verdict.count, len(verdict.findings)) == ("ours", 150, 100)
    assert verdict.findings[0] == "0: p/d/a/1"
    with pytest.raises(WorkspaceError, match=r"no check 'theirs': there are vocabulary.*ours"):
        proposed(workspace, checks=["ours", "theirs"])


def objecting(proposal: checks.Proposal) -> Iterator[str]:
    (row,) = proposal.catalog.executions()
    yield from (f"{number}: {row.fragment}" for number in range(150))


def test_a_promotion_to_another_store_goes_on_where_it_was_cut_off(workspace: Workspace) -> None:
    run(workspace, "1")
    dest = InMemoryArtifactStore()

    class Full(FaultyStore):
        def write_bytes(self, key: str, data: bytes, /) -> None:
            if key.endswith("diagnostic.json"):
                raise StoreError("the disk is full")
            super().write_bytes(key, data)

    with pytest.raises(TransferError):
        promote(proposed(workspace, Full(dest)), "2026.1")
    assert read_release(workspace.results, "2026.1").promoted_from == "staging"
    with pytest.raises(LookupError):
        read_release(dest, "production")
    made = promote(proposed(workspace, dest), "2026.1")
    assert read_release(dest, "production") == made
    assert check_release(dest, made).ok
    assert proposed(workspace, dest).is_done


def test_a_set_that_changes_after_the_checks_is_not_promoted(workspace: Workspace) -> None:
    fragment = run(workspace, "1")
    promotion = proposed(workspace)
    execution = workspace.resume_execution(fragment)
    (execution.output_directory / "out.log").write_text("another log")
    execution.commit_output_assets()
    with pytest.raises(ReleaseError, match="has changed since it was looked at"):
        promote(promotion, "2026.1")
    create_release(workspace.results, "other")
    again = proposed(workspace)
    with pytest.raises(ReleaseError, match="another release 'other' already"):
        promote(again, "other")
    assert (name_for(again, "new"), name_for(again, "other")) == ("new", "other.2")
    promote(again, "other.2")
    assert name_for(again, "other") == "other.2"  # as if it had been interrupted
    with pytest.raises(ReleaseError, match="no published set"):
        propose(InMemoryArtifactStore(), workspace.results, from_target="a", to_target="b")


def test_what_the_target_stands_behind_must_be_what_it_was(workspace: Workspace) -> None:
    fragment = run(workspace, "1")
    dest = InMemoryArtifactStore()
    promote(proposed(workspace, dest), "2026.1")
    execution = workspace.resume_execution(fragment)
    (execution.output_directory / "out.log").write_text("another log")
    execution.commit_output_assets(replace=True)
    transfer(workspace.results, dest, [fragment], replace=True).raise_for_failures()
    with pytest.raises(ReleaseChangedError):
        proposed(workspace, dest)


def test_what_was_retracted_at_the_source_is_not_missed_and_is_retracted_at_the_target_too(
    workspace: Workspace,
) -> None:
    old, gone = run(workspace, "1"), run(workspace, "1", group="b")
    dest = InMemoryArtifactStore()
    promote(proposed(workspace, dest), "2026.1")
    retract(workspace.results, gone, reason="wrong sign", successor=old, by="ann")
    promotion = proposed(workspace, dest)
    assert (promotion.ok, promotion.is_done, list(promotion.retracted)) == (True, False, [gone])
    assert [(pair.a, pair.verdict) for pair in promotion.pairs] == [(old, "equal")]
    promote(promotion, "2026.2")
    word = read_retraction(dest, gone)
    assert word is not None
    assert (word.reason, word.successor, word.by) == ("wrong sign", old, "ann")
    assert check_release(dest, read_release(dest, "2026.1")).retracted == (gone,)
    assert proposed(workspace, dest).is_done
    # All of it, so that there is nothing to compare with.
    now = run(workspace, "2")
    retract(workspace.results, old, reason="wrong, too")
    promotion = proposed(workspace, dest)
    assert (promotion.ok, promotion.pairs, list(promotion.records)) == (True, (), [now])
