"""Removing an execution's published set: under its claim, and from the catalog, too."""

from __future__ import annotations

from emdstore.catalog import ExecutionRow
from emdstore.errors import ArtifactNotFoundError, ExecutionNotFoundError
from emdstore.executions.lease import Lease
from emdstore.executions.locations import Locations
from emdstore.sets.removing import Doomed, RemovalRules, plan_removal, remove
from emdstore.stores.local.trees import look_at_tree


def unpublish(locations: Locations, name: str, rules: RemovalRules, *, dry_run: bool = False) -> Doomed:
    """Remove a set or a key from the results store of a workspace by its name; see `emdstore.sets.removing.remove`.

    Parameters
    ----------
    locations
        The workspace.
    name
        The set's folder, or a key.
    rules
        What may be removed.
    dry_run
        Only tell what would be removed.

    Returns
    -------
    Doomed
        What was removed; with a refusal nothing was. Of a set that scratch still holds the next commit would publish it
        again, so it stays.

    Raises
    ------
    ClaimHeldError
        If somebody commits the execution, or cleans up after it.
    InvalidTransitionError
        If it runs, or waits to be committed.
    ArtifactNotFoundError, OvertakenError, UnsupportedError, StoreError, CatalogError
        See `remove`. The catalog keeps the execution, and the same call goes on.
    """
    locations.bind()
    row = _row_of(locations, name)
    if dry_run or row is None:
        act = plan_removal if dry_run else remove
        doomed = act(locations.results, name, rules)
        return doomed if row is None else _unless_in_scratch(locations, doomed)
    if (kept := _unless_in_scratch(locations, Doomed(name, "set"))).refusal is not None:
        return kept
    with Lease(locations, row, ("uploaded", "failed"), to=row.status) as lease:
        try:
            doomed = remove(locations.results, name, rules, before_write=lease.check)
        except ArtifactNotFoundError:  # whoever removed it was killed before the catalog knew
            doomed = Doomed(name, "set")
        lease.give_back(row.status, row.error)
    if doomed.refusal is None:
        locations.catalog.forget(name)
    return doomed


def _row_of(locations: Locations, name: str) -> ExecutionRow | None:
    try:
        row = locations.catalog.execution(name)
    except ExecutionNotFoundError:
        return None
    return row if row.fragment == name else None


def _unless_in_scratch(locations: Locations, doomed: Doomed) -> Doomed:
    if look_at_tree(locations.scratch.ground, doomed.name) is None:
        return doomed
    return Doomed(
        doomed.name,
        "set",
        refusal="scratch still holds it, and the next commit would publish it again: `emdstore gc` removes it there",
    )
