"""Protected targets, where only `emdstore promote` brings anything."""

from __future__ import annotations

from emdstore.cli.options import Access, WrongCallError, open_dest
from emdstore.cli.workspaces import OwnAndStores
from emdstore.executions.settings import named_targets
from emdstore.stores import ArtifactStore
from emdstore.stores.sameness import overlap


def refuse_protected(place: str, store: ArtifactStore, access: Access) -> None:
    """Refuse to write to the store of a protected target, to a folder of it, or to one that holds it.

    A target without a store of its own is in the workspace's results, which are written all the time: what it stands
    behind is the release at which its alias points.

    Parameters
    ----------
    place, store
        What was given, and the store that it means.
    access
        How to reach stores.

    Raises
    ------
    WrongCallError
        With what to do instead. Nothing was read or written.
    """
    targets = named_targets()
    for target in targets.values():
        if not target.protected:
            continue
        # A name alone would make a folder of that name here, which nobody wants who has a target of that name.
        if place == target.name or (target.store is not None and overlap(store, open_dest(target.store, access))):
            others = [name for name in targets if name != target.name]
            source = others[0] if len(others) == 1 else "FROM"
            where = "" if place == target.name else f"{place} belongs to it. "
            raise WrongCallError(
                f"{target.name} is a protected target: {where}`emdstore promote {source} {target.name}` brings results "
                "there, after the checks"
            )


def refuse_alias(alias: str, store: ArtifactStore, results: str | None, own: OwnAndStores) -> None:
    """Refuse to point the alias of a protected target elsewhere, in whatever way its store is named.

    Parameters
    ----------
    alias, store
        The alias, and the store in which it is to be pointed.
    results
        How the store was named; None for the workspace's.
    own
        Where the targets are, and how to reach stores.

    Raises
    ------
    WrongCallError
        With what to do instead. Nothing was changed.
    """
    target = named_targets(own.config).get(alias)
    if target is None or not target.protected:
        return
    if results is not None and target.store is not None:
        is_there = overlap(store, open_dest(target.store, own.reach))
    elif results is not None:
        with own.open(no_catalog=True) as workspace:
            is_there = overlap(store, workspace.results)
    else:
        is_there = True
    if is_there:
        raise WrongCallError(f"{alias} is a protected target: `emdstore promote` moves it, after the checks")
