"""The checks that results pass before they are promoted.

A check takes a `Proposal` and yields what it objects to, a sentence each. Others come from installed packages, by entry
points of the group ``emdstore.checks``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, TypeAlias

import attrs

from emdstore.catalog import Catalog
from emdstore.catalog.comparing import Pair
from emdstore.catalog.references import conflicting_references
from emdstore.errors import WorkspaceError
from emdstore.sets.release import CheckVerdict

GROUP = "emdstore.checks"

_MOST_FINDINGS = 100
_VOCABULARY = ("unknown-dimension", "unknown-value", "missing-dimension")
_QUANTITY = ("metric", "statistic", "variable_id", "variable")


@attrs.frozen(kw_only=True)
class Proposal:
    """What is to be promoted.

    Attributes
    ----------
    catalog
        Everything that the proposed sets hold, and nothing else.
    before
        The same of what the target stands behind now; None if there is nothing.
    pairs
        How they compare, within the target's tolerances; nothing if there was nothing before.
    """

    catalog: Catalog
    before: Catalog | None = None
    pairs: Sequence[Pair] = ()


Check: TypeAlias = Callable[[Proposal], Iterable[str]]


def vocabulary(proposal: Proposal) -> Iterator[str]:
    """Object to dimensions and values that the controlled vocabulary does not know."""
    for warning in proposal.catalog.warnings():
        if warning.code in _VOCABULARY:
            yield f"{warning.fragment}: {warning.message}"


def units(proposal: Proposal) -> Iterator[str]:
    """Object to a quantity that has several units, has none in some executions, or has others than before."""
    now = _units_of(proposal.catalog)
    before = {} if proposal.before is None else _units_of(proposal.before)
    for quantity, found in sorted(now.items()):
        known = sorted(found - {""})
        if len(known) > 1:
            yield f"{quantity} is in {', '.join(known)}"
        elif known and "" in found:
            yield f"{quantity} is in {known[0]}, and somewhere without units"
        elif before.get(quantity) and before[quantity] != found:
            yield f"{quantity} was in {', '.join(sorted(before[quantity]))}, and is in {', '.join(sorted(found))}"


def references(proposal: Proposal) -> Iterator[str]:
    """Object to references that are not the same in all executions of a diagnostic."""
    found = conflicting_references(
        proposal.catalog.scalars().where("kind", "==", "reference"),
        proposal.catalog.series().where("kind", "==", "reference"),
    )
    yield from map(str, found)


def completeness(proposal: Proposal) -> Iterator[str]:
    """Object to whatever was there before and is not any more: executions, values, plots."""
    yield from _items(proposal, "missing")


def tolerances(proposal: Proposal) -> Iterator[str]:
    """Object to whatever moved further than the tolerance."""
    yield from _items(proposal, "changed")


_OURS: Mapping[str, Check] = {each.__name__: each for each in (vocabulary, units, references, completeness, tolerances)}


def known_checks() -> dict[str, Check]:
    """Return all checks by name: emdstore's own, and those of installed packages."""
    found = dict(_OURS)
    for entry in entry_points(group=GROUP):
        found[entry.name] = entry.load()
    return found


def run_checks(proposal: Proposal, names: Iterable[str] | None = None) -> list[CheckVerdict]:
    """Run checks, by default all that are known.

    Raises
    ------
    WorkspaceError
        If there is no check by one of the names. None was run.
    """
    known = known_checks()
    chosen = list(known) if names is None else list(names)
    if unknown := [name for name in chosen if name not in known]:
        raise WorkspaceError(f"there is no check {unknown[0]!r}: there are {', '.join(known)}")
    return [_verdict(name, known[name](proposal)) for name in chosen]


def _verdict(name: str, objections: Iterable[str]) -> CheckVerdict:
    remaining = iter(objections)
    first = tuple(islice(remaining, _MOST_FINDINGS))
    return CheckVerdict(name, first, len(first) + sum(1 for _ in remaining))


def _items(proposal: Proposal, verdict: str) -> Iterator[str]:
    for pair in proposal.pairs:
        for item in pair.items:
            if item.verdict == verdict:
                yield f"{pair.title}: {item}"


def _units_of(catalog: Catalog) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in catalog.scalars():
        found.setdefault(_quantity(row), set()).add(row.units or "")
    for one in catalog.series():
        found.setdefault(f"{_quantity(one)}, series over {one.index_name}", set()).add(one.units or "")
    return found


def _quantity(row: Any) -> str:
    named = [row.dimensions[name] for name in _QUANTITY if name in row.dimensions]
    return f"{row.provider}/{row.diagnostic}: {' '.join(named) or 'values'}"
