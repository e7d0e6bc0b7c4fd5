"""The command that compares results by what they mean."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from emdstore.catalog import Catalog
from emdstore.catalog.comparing import (
    RELEASE,
    VERDICTS,
    Pair,
    Rules,
    Side,
    Tolerance,
    Verdict,
    compare_results,
    read_tolerances,
    side_of,
)
from emdstore.catalog.snapshots import SNAPSHOTS
from emdstore.cli.options import (
    PLAIN,
    Access,
    NothingMatchedError,
    OptionalCatalogURL,
    Output,
    WrongCallError,
    as_folder,
    located,
    open_catalog,
    open_existing,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.render import note, say, show_document
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.ingestion.binding import is_same_store
from emdstore.ingestion.replay import replay
from emdstore.stores import ArtifactStore
from emdstore.stores.identity import identity_of
from emdstore.web.text import count_text
from emdstore.web.verdicts import WORDS, comparison_file

_DATABASES = ("sqlite", "postgresql", "postgres")


def compare(
    a: str,
    b: str,
    /,
    *,
    relative: float = 0.0,
    absolute: float = 0.0,
    tolerances: Path | None = None,
    artifacts: bool = False,
    contents: bool = False,
    bits: int = 0,
    a_results: str | None = None,
    b_results: str | None = None,
    provider: tuple[str, ...] = (),
    diagnostic: tuple[str, ...] = (),
    group: tuple[str, ...] = (),
    limit: Annotated[int, Parameter(alias="-n")] = 20,
    markdown: bool = False,
    page: Path | None = None,
    catalog: OptionalCatalogURL = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Tell what a new run, release or site changes: values by dimensions, within tolerances. Exit code 1 if any moved.

    Each side is a folder or an execution of the catalog (pmp/enso_tel), a release (release:2026.1), another catalog
    (before.db, postgresql://host/name), or a results store, which is read. Executions are paired by provider,
    diagnostic and group, the latest of each; single ones are paired whatever they are of.

    emdstore compare release:2026.1 release:2026.2 --relative 1e-6

    emdstore compare pmp/enso/historical/1 pmp/enso/historical/2 --markdown

    Parameters
    ----------
    a
        What was before.
    b
        What is now.
    relative
        How far apart two values may be, relative to the larger one.
    absolute
        How far apart two values may be, in their own unit; either is enough.
    tolerances
        A JSON or TOML file with tolerances of metrics: {"rmse": {"relative": 1e-6}, "*": {"absolute": 1e-9}}.
    artifacts
        Plots, data and html have changed if their bytes have; otherwise only if they are missing or new.
    contents
        Look into plots, tables and text whose bytes differ: plots by a perceptual hash, tables by their cells, text
        without dates, hosts and paths.
    bits
        In how many of 256 bits the hashes of two plots may differ.
    a_results
        The results store of A, to look into, where A is a catalog whose results are on a server or were moved.
    b_results
        The same of B.
    provider
        Only of this provider; may be given several times.
    diagnostic
        Only of this diagnostic; may be given several times.
    group
        Only of this group; may be given several times.
    limit
        How many things to show of each pair; 0 for all. JSON has all.
    markdown
        Write Markdown, for a pull request.
    page
        Also write a page for browsers into this file: each pair with its verdict, and its plots side by side, under a
        slider or as their difference. It needs no other file.
    """
    try:
        rules = Rules(Tolerance(relative, absolute), artifacts=artifacts, contents=contents, bits=bits)
    except ValueError as error:
        raise WrongCallError(f"tolerances are 0 or more: {error}") from error
    if tolerances is not None:
        rules = read_tolerances(tolerances, rules)
    named = (("provider", provider), ("diagnostic", diagnostic), ("group", group))
    filters = {name: list(values) for name, values in named if values}
    with ExitStack() as open_ones, set_progress("compare") as update:
        ours = _OwnCatalog(catalog, own, open_ones)
        before, after = (open_ones.enter_context(_side(text, filters, ours, own.reach)) for text in (a, b))
        for text, side in ((a, before), (b, after)):
            if side.executions().first() is None:
                raise NothingMatchedError(f"{text!r} selects no execution that is complete", key=text)
            if left_out := side.count_retracted():
                note(f"{count_text(left_out, 'set')} of {text} left out, because retracted")
        if contents or page or a_results or b_results:
            before = _with_results(before, a_results, a, "--a-results", own.reach)
            after = _with_results(after, b_results, b, "--b-results", own.reach)
        shown = list(compare_results(before, after, rules, on_progress=lambda done, of: update(None, done, of)))
        if page is not None:
            page.write_text(comparison_file(before, after, (a, b), shown, rules), encoding="utf-8")
            note(f"the page is {page}")
    counts: Counter[Verdict] = Counter(pair.verdict for pair in shown)
    code = 1 if counts["missing"] + counts["new"] + counts["changed"] else 0
    if output.json:
        pairs = [attrs.asdict(pair, recurse=False) | {"verdict": pair.verdict} for pair in shown]
        return show_document("compare", {"pairs": pairs, "counts": {name: counts[name] for name in VERDICTS}}, code)
    (show_markdown if markdown else show_pairs)(shown, limit or None)
    told = ", ".join(f"{counts[name]} {WORDS[name]}" for name in VERDICTS if counts[name])
    if markdown or counts["equal"] < len(shown):
        say("")
    say(f"{count_text(len(shown), 'pair')} compared: {told}")
    return code


class _OwnCatalog:
    """The catalog of the workspace, or the one that --catalog names; opened when a side is of it."""

    def __init__(self, url: str | None, own: OwnAndStores, open_ones: ExitStack) -> None:
        self._url, self._own, self._open_ones = url, own, open_ones
        self._opened: tuple[Catalog, ArtifactStore | None] | None = None

    def side(self, name: str, filters: dict[str, Any]) -> Side:
        catalog, store = self._open()
        return side_of(catalog, name, filters, store)

    def _open(self) -> tuple[Catalog, ArtifactStore | None]:
        if self._opened is None and self._url is not None:
            self._opened = self._open_ones.enter_context(open_catalog(self._url, self._own.reach, create=False)), None
        elif self._opened is None:
            workspace = self._open_ones.enter_context(self._own.open(instead="--catalog"))
            self._opened = workspace.catalog, workspace.results
        return self._opened


@contextmanager
def _side(text: str, filters: dict[str, Any], ours: _OwnCatalog, access: Access) -> Iterator[Side]:
    text = os.path.expanduser(text)
    scheme = text.partition("://")[0].partition("+")[0] if "://" in text else ""
    if text.startswith(RELEASE):
        yield ours.side(text, filters)
    elif scheme in _DATABASES or (not scheme and os.path.isfile(text)) or SNAPSHOTS in text:
        with open_catalog(text, access, create=False) as catalog:
            yield Side(catalog, filters)
    elif scheme or os.path.isdir(text) or located(text)[0] != text:
        with Catalog("sqlite://") as catalog:
            store = open_existing(text, access)
            report = replay(store, catalog)
            for each in report.failures:
                note(f"left aside  {text}: {each.fragment}: {each.error}")
            yield Side(catalog, filters, store)
    else:
        yield ours.side(as_folder(text), filters)


def _with_results(side: Side, results: str | None, text: str, option: str, access: Access) -> Side:
    """Return a side with the store of its artifacts: the given one, or the folder that its catalog belongs to."""
    bound = side.catalog.bound_results()
    if results is not None:
        store = open_existing(results, access)
        if bound is not None and not is_same_store(bound, identity_of(store)):
            raise WrongCallError(f"{option} {results} is not the results store of {text}: it belongs to {bound.url}")
        return attrs.evolve(side, store=store)
    if side.store is None and bound is not None and bound.url is not None and os.path.isdir(bound.url):
        store = open_existing(bound.url, access)
        if is_same_store(bound, identity_of(store)):
            return attrs.evolve(side, store=store)
    if side.store is None:
        note(f"{text} does not tell where its artifacts are, so they are not looked into: give {option}")
    return side


def show_pairs(pairs: Sequence[Pair], limit: int | None) -> None:
    """Show pairs that are not equal, with at most so many of their items."""
    for pair in pairs:
        if pair.verdict == "equal":
            continue
        say(f"{WORDS[pair.verdict]}  {pair.title}", style="red" if pair.verdict != "within" else None)
        for item in islice(pair.items, limit):
            if item.kind != "execution":
                say(f"  {WORDS[item.verdict]}  {item}")
        if limit is not None and len(pair.items) > limit:
            say(f"  ... and {len(pair.items) - limit} more; -n 0 shows all")


def show_markdown(pairs: Sequence[Pair], limit: int | None) -> None:
    """Show the same as a table for a pull request."""
    say("| result | verdict | what |\n|---|---|---|")
    for pair in pairs:
        if pair.verdict == "equal":
            continue
        said = [f"{WORDS[item.verdict]}: {item}" for item in islice(pair.items, limit) if item.kind != "execution"]
        if limit is not None and len(pair.items) > limit:
            said.append(f"and {len(pair.items) - limit} more")
        cells = (pair.title, WORDS[pair.verdict], "; ".join(said))
        say("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
