"""Tables for people, in Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from benchmarks import goals
from benchmarks.suites import Row


def table(rows: Sequence[Row]) -> str:
    """Return all that was measured."""
    lines = []
    for (workload, route), group in itertools.groupby(rows, lambda row: (row.workload, row.route)):
        lines += [f"### {workload}, {route}", ""]
        lines += [
            "| | median | min-max | CPU | CPU there | CPU per file | peak memory |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in group:
            each = row.summary
            per_file = f"{each.cpu_seconds / each.files * 1e6:,.0f} µs" if each.files > 1 else ""
            there = f"{each.there_seconds:.2f} s" if each.there_seconds else ""
            lines.append(
                f"| {row.contender} | {each.median:.3f} s | {each.least:.3f}-{each.most:.3f} "
                f"| {each.cpu_seconds:.2f} s | {there} | {per_file} | {each.peak_mb:.0f} MB |"
            )
        lines.append("")
    return "\n".join(lines)


def goals_table(rows: Iterable[Row]) -> str:
    """Return which goals were met, of those whose two sides were measured.

    *measured* has the ratio of the medians and, in brackets, the least and the greatest of one turn; *limit* has the
    ratio of the bare copy.
    """
    rows = list(rows)
    by_place = {
        (row.workload, row.route.removesuffix(" commit"), row.contender, "commit" in row.route): row for row in rows
    }
    lines = ["| workload | route | | to | goal | measured | limit | |", "|---|---|---|---|---|---|---|---|"]
    for goal in goals.GOALS:
        commits = goal.subject.startswith(goals.COMMIT)
        subject, peer, least = (
            by_place.get((goal.workload, goal.route, name, commits)) for name in (goal.subject, goal.peer, goal.least)
        )
        if subject is None or peer is None:
            continue
        pairs = zip(subject.summary.runs, peer.summary.runs, strict=True)
        ratios = [ours.seconds / theirs.seconds for ours, theirs in pairs]
        limit = least.summary.median / peer.summary.median if least is not None else None
        lines.append(
            f"| {goal.workload} | {goal.route} | {goal.subject} | {goal.peer} | {goal.most:.2f} "
            f"| {subject.summary.median / peer.summary.median:.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {'' if limit is None else f'{limit:.2f}'} | {goal.judge(ratios, limit)} |"
        )
    # Beside Climate-REF the memory is mostly that of its imports.
    ours = [row for row in rows if row.contender.startswith("emdstore") and not row.route.startswith("climate-ref")]
    if ours:
        most = max(ours, key=lambda row: row.summary.peak_mb)
        met = "met" if most.summary.peak_mb <= goals.MOST_MB else "not met"
        where = f"most memory: {most.workload}, {most.route}, {most.contender}"
        lines.append(f"| {where} | | | | {goals.MOST_MB:.0f} MB | {most.summary.peak_mb:.0f} MB | | {met} |")
    for row in ours:
        if row.contender == "emdstore --version":
            taken = row.summary.median * 1000
            met = "met" if taken <= goals.MOST_MS_TO_START else "not met"
            lines.append(f"| emdstore --version | | | | {goals.MOST_MS_TO_START:.0f} ms | {taken:.0f} ms | | {met} |")
    return "\n".join(lines) + "\n"
