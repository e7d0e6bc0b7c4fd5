"""The command that promotes results from one target to another."""

from __future__ import annotations

from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from emdstore import system
from emdstore.catalog.comparing import Rules, read_tolerances
from emdstore.cli.compare import show_pairs
from emdstore.cli.options import PLAIN, Output, WrongCallError, open_dest
from emdstore.cli.render import confirmed, note, say, show_document
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.emds import load_vocabulary
from emdstore.executions.settings import Target, named_targets
from emdstore.gates.promotion import Promotion, name_for, promote as carry_out, propose
from emdstore.stores import ArtifactStore
from emdstore.web.text import count_text


def promote(
    from_target: str,
    to_target: str,
    /,
    *,
    name: str | None = None,
    release: str | None = None,
    note_: Annotated[str, Parameter(name=("--note", "-m"))] = "",
    by: str | None = None,
    yes: bool = False,
    dry_run: bool = False,
    limit: Annotated[int, Parameter(alias="-n")] = 20,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Promote what one target stands behind to another one: compare, check, ask, and only then release it.

    Targets are tables of emdstore.toml: [targets.staging], [targets.production]. What a target stands behind is the
    release at which the alias of its name points. The comparison with what TO stands behind now is shown, and what the
    checks object to; nothing gets to a protected target to which a check objects. Then the sets become a new release,
    which has the verdicts in it; it is copied to the store of TO, and the alias is pointed at it. If this is
    interrupted, run it again.

    Parameters
    ----------
    from_target
        Where it comes from. If no release stands behind it, the latest set of each execution group is taken.
    to_target
        Where it goes to.
    name
        The name of the new release; by default that of TO with the date, and a number if there is one of today already.
    release
        Promote the sets of this release instead.
    note_
        What it is for.
    by
        Who promotes; by default the user and the host.
    yes
        Promote without asking.
    dry_run
        Only compare and check.
    limit
        How many things to show of each pair and check; 0 for all. JSON has all.
    """
    targets = named_targets(own.config)
    one, other = (_target(targets, each) for each in (from_target, to_target))
    if one == other:
        raise WrongCallError("a target cannot be promoted to itself")
    with own.open(no_catalog=True) as workspace:
        stores: list[ArtifactStore] = [
            workspace.results if each.store is None else open_dest(each.store, own.reach) for each in (one, other)
        ]
        rules = Rules(contents=other.contents)
        promotion = propose(
            *stores,
            from_target=one.name,
            to_target=other.name,
            release=release,
            checks=other.checks,
            rules=rules if other.tolerances is None else read_tolerances(other.tolerances, rules),
            vocabulary=workspace.vocabulary if other.vocabulary is None else load_vocabulary(other.vocabulary),
        )
        called = name or name_for(promotion, f"{other.name}-{system.current().now():%Y-%m-%d}")
        if not output.json:
            _show(promotion, limit or None)
        promoted = promotion.is_done
        if promotion.is_done:
            note(f"{other.name} stands behind exactly these sets already")
        elif not promotion.ok and other.protected:
            note(f"{other.name} is protected: nothing is promoted to which a check objects")
        elif not dry_run and (yes or (not output.json and confirmed(f"promote them to {other.name} as {called}?"))):
            carry_out(promotion, called, note=note_, by=by, on_step=note)
            promoted = True
        elif not dry_run:
            note("nothing was promoted; give --yes to promote without being asked")
    code = 0 if promoted or (dry_run and promotion.ok) else 1
    if output.json:
        told = [attrs.asdict(each) | {"ok": each.ok} for each in promotion.verdicts]
        pairs = [attrs.asdict(pair, recurse=False) | {"verdict": pair.verdict} for pair in promotion.pairs]
        document: dict[str, Any] = {
            "checks": told,
            "release": called if promoted and not promotion.is_done else None,
            "promoted": promoted,
            "sets": list(promotion.records),
            "pairs": pairs,
            "retracted": list(promotion.retracted),
        }
        return show_document("promote", document, code)
    if promoted and not promotion.is_done:
        say(f"{other.name} is release {called}: {count_text(len(promotion.records), 'set')}")
    return code


def _target(targets: dict[str, Target], name: str) -> Target:
    if name not in targets:
        known = f"there are {', '.join(targets)}" if targets else "emdstore.toml has none"
        raise WrongCallError(f"there is no target {name!r}: {known}; write a table [targets.{name}]")
    return targets[name]


def _show(promotion: Promotion, limit: int | None) -> None:
    if promotion.before is None:
        say(f"{count_text(len(promotion.records), 'set')}; nothing to compare them with yet")
    else:
        show_pairs(promotion.pairs, limit)
        moved = sum(pair.verdict not in ("equal", "within") for pair in promotion.pairs)
        behind = promotion.before.name
        say(f"{count_text(len(promotion.records), 'set')}; {moved} of {len(promotion.pairs)} differ from {behind}")
    for fragment, word in promotion.retracted.items():
        say(f"retracted  {fragment}: {word.reason}; it will be retracted at the target, too")
    for verdict in promotion.verdicts:
        say(f"{'passed' if verdict.ok else 'objects'}  {verdict.check}", style=None if verdict.ok else "red")
        for finding in verdict.findings[:limit]:
            say(f"  {finding}")
        if (more := verdict.count - len(verdict.findings[:limit])) > 0:
            say(f"  ... and {more} more")
