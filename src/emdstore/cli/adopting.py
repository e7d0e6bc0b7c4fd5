"""The command that publishes what other frameworks have written."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from emdstore.adoption import AdoptionReport, adopt
from emdstore.cli.options import PLAIN, Output, open_dest
from emdstore.cli.progress import set_progress
from emdstore.cli.protecting import refuse_protected
from emdstore.cli.render import counts_text, note, say, show_document, show_table, sum_up
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.executions.locations import Locations
from emdstore.stores.port import ArtifactStore
from emdstore.web.text import count_text


def adopt_folder(
    framework: str,
    path: Path,
    results: str | None = None,
    /,
    *,
    name: str | None = None,
    dry_run: bool = False,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Publish what ESMValTool, PMP, ILAMB or CMEC have written as sets, with values, plots, data and origins.

    The folder is read and never changed. Once more changes nothing: all is compared, byte by byte. What belongs to no
    set is named, with the reason; if results are lost that way, the exit code is 1.

    Parameters
    ----------
    framework
        esmvaltool: the output folder of a recipe; pmp: a folder with JSON files of PMP; ilamb: the output folder of
        ILAMB 2 or 3; cmec: a folder with an output.json and metrics; or one that an installed package brings.
    path
        The folder.
    results
        The results store; by default the workspace's, and then its catalog gets the rows.
    name
        What to call the execution, instead of what is found in the folder.
    dry_run
        Only tell which sets there are, and what would be left out.
    """
    with ExitStack() as stack:
        if results is None:
            place: Locations | ArtifactStore = stack.enter_context(own.open(instead="a results store"))
        else:
            place = open_dest(results, own.reach)
            refuse_protected(results, place, own.reach)
        on_progress = stack.enter_context(set_progress("adopt"))
        report = adopt(place, framework, path, name=name, dry_run=dry_run, on_progress=on_progress)
    code = 0 if report.ok else 1
    if output.json:
        document = {"framework": framework, "dry_run": dry_run, "sets": report.sets, "left": report.left}
        return show_document("adopt", document, code)
    _show(report)
    return code


def _show(report: AdoptionReport) -> None:
    columns = ("scalars", "series", "plots", "data", "html")
    rows = [(each.outcome, *(getattr(each, name) for name in columns), each.fragment) for each in report.sets]
    if rows:
        show_table(("outcome", *columns, "fragment"), rows)
    for one in report.sets:
        if one.error is not None:
            say(f"failed  {one.fragment}: {one.error}", style="red")
    for left in report.left:
        if left.lost:
            say(f"lost  {left.name} {left.reason}", style="red")
        else:
            note(f"left out: {left.name} {left.reason}")
    outcomes = [each.outcome for each in report.sets]
    sum_up(f"{count_text(len(rows), 'set')}: {counts_text(Counter(outcomes))}")
