"""The command that removes sets and keys by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated

import attrs
from cyclopts import Parameter

from emdstore.cli.options import (
    ALL_OF_IT,
    PLAIN,
    Name,
    Output,
    WrongCallError,
    catalog_is_configuration,
    open_existing,
)
from emdstore.cli.render import confirmed, note, say, say_first, show_document, size_text, sum_up
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, ExecutorError, StoreUnavailableError, WorkspaceError
from emdstore.keys import in_folder
from emdstore.sets.removing import Doomed, RemovalRules, expand, plan_removal, remove
from emdstore.stores import ArtifactStore
from emdstore.stores.place import place_of
from emdstore.web.text import count_text
from emdstore.workers.several import several_at_once

Act = Callable[[str, RemovalRules, bool], Doomed]
"""Looks at what lies under a name, and removes it unless it is only a dry run."""


def rm(
    store: str,
    /,
    *names: Name,
    copy: str | None = None,
    recursive: Annotated[bool, Parameter(alias="-r")] = False,
    unnamed: bool = False,
    force: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Remove sets and keys by their names, as far as nothing is lost.

    It first shows what it would remove, and removes it if you agree on a terminal, or with --yes. A set goes only if
    --copy names another store with a record of the same bytes, all of which are read in both. What a release or a
    record names stays. While a set goes, it is visibly open; its record goes last. To resume after an interruption, run
    it again. In the results store of a workspace the set is claimed meanwhile, and its rows go from the catalog, too.

    Parameters
    ----------
    store
        The store.
    names
        Folders of sets, and keys.
    copy
        The store that must have the same sets, in the same folders.
    recursive
        Names may be folders with several sets and keys in them.
    unnamed
        Also what lies in a set's folder and is named by no record.
    force
        Also what may be the only copy, what a release names, and sets that are not whole.
    dry_run
        Only show what would be removed.
    yes
        Remove it without asking.
    """
    if not names:
        raise WrongCallError("name the sets and keys to remove")
    if not {"", ALL_OF_IT}.isdisjoint(names):
        raise WrongCallError("a name is empty, or means all of the store: name the folders that are to go")
    opened = open_existing(store, own.reach)
    rules = RemovalRules(None if copy is None else open_existing(copy, own.reach), force, unnamed)
    with _acting_on(opened, own) as act:
        wanted = list(dict.fromkeys(each for name in names for each in _meant(opened, name, recursive=recursive)))
        stores = [opened] if rules.copy is None else [opened, rules.copy]
        looked = list(told_of_each(act, wanted, rules, stores, dry_run=True))
        removable = [each.name for each in looked if each.refusal is None]
        is_sure = not dry_run and bool(removable)
        if is_sure and not yes:
            if not output.json:
                _show(looked, would=True)
            is_sure = not output.json and confirmed("remove it?")
            if not is_sure and not output.json:
                note("nothing was removed; give --yes to remove it")
                return int(len(removable) < len(looked))
        told = told_of_each(act, removable if is_sure else [], rules, stores, dry_run=False)
        done = dict(zip(removable, told, strict=False))
    found = [done.get(each.name, each) for each in looked]
    code = int(any(each.refusal is not None for each in found))
    if output.json:
        items = [each.as_dict() | {"outcome": _outcome(each, is_sure)} for each in found]
        return show_document("rm", {"removed": items, "dry_run": not is_sure}, code)
    _show(found, would=not is_sure)
    return code


def _outcome(each: Doomed, is_sure: bool) -> str:
    return "kept" if each.refusal is not None else "removed" if is_sure else "would be removed"


def _show(found: Sequence[Doomed], *, would: bool) -> None:
    going = [each for each in found if each.refusal is None]
    for each in going:
        many = f" ({count_text(len(each.keys), 'key')}, {size_text(each.bytes)})" if each.kind == "set" else ""
        say(f"{'would remove' if would else 'removed'}  {each.kind} {each.name}{many}")
        for other in each.others:
            note(f"stays  {other}: no record names it; --unnamed removes it, too")
    say_first([f"kept  {each.name}: {each.refusal}" for each in found if each.refusal is not None], 0, "names")
    sets = sum(each.kind == "set" for each in going)
    told = f"{count_text(sets, 'set')} and {count_text(len(going) - sets, 'key')}"
    sum_up(f"{told} {'would be removed' if would else 'removed'}, {len(found) - len(going)} kept")


def _meant(store: ArtifactStore, name: str, *, recursive: bool) -> list[str]:
    """Return the sets and keys that a name stands for."""
    sets, keys = expand(store, name)
    if sets == [name] or (not sets and not keys):  # a set, a key, or nothing
        return [name]
    if not recursive:
        what = f"{count_text(len(sets), 'set')} and {count_text(len(keys), 'other key')}"
        raise WrongCallError(f"{name!r} is a folder with {what}: name what is to go, or give --recursive")
    return [*sets, *keys]


def told_of_each(
    act: Act, names: Sequence[str], rules: RemovalRules, stores: Sequence[ArtifactStore], *, dry_run: bool
) -> Iterator[Doomed]:
    """Yield the outcome for each name; several are under way at once if a store is far away."""

    def tell(some: Sequence[str]) -> list[Doomed]:
        return [_told(act, each, rules, dry_run=dry_run) for each in some]

    with several_at_once(tell, items=names, stores=stores, name="rm", only_servers=True, only_read=dry_run) as outcomes:
        for name, outcome in outcomes:
            yield Doomed(name, "set", refusal=str(outcome)) if isinstance(outcome, ExecutorError) else outcome


def _told(act: Act, name: str, rules: RemovalRules, *, dry_run: bool) -> Doomed:
    """Return the outcome for one name; a failure does not stop the others."""
    try:
        return act(name, rules, dry_run)
    except (ArtifactNotFoundError, StoreUnavailableError):
        raise
    except EmdstoreError as error:
        return Doomed(name, "set", refusal=str(error))


@contextmanager
def _acting_on(store: ArtifactStore, own: OwnAndStores) -> Iterator[Act]:
    """Yield what looks and removes: in the results store of a workspace under its claims."""

    def plainly(name: str, rules: RemovalRules, dry_run: bool) -> Doomed:
        return plan_removal(store, name, rules) if dry_run else remove(store, name, rules)

    with ExitStack() as opened_ones:
        try:
            workspace = opened_ones.enter_context(own.find())
        except WorkspaceError:
            if own.config is not None:
                raise
            workspace = None
        inside = None if workspace is None else _inside(store, workspace.results)
        if workspace is None or inside is None:
            yield plainly
            return
        from emdstore.executions.unpublish import unpublish

        with catalog_is_configuration():
            workspace.bind()
        owned = workspace
        yield lambda name, rules, dry_run: attrs.evolve(
            unpublish(owned, f"{inside}{name}", rules, dry_run=dry_run), name=name
        )


def _inside(store: ArtifactStore, results: ArtifactStore) -> str | None:
    """Return the folder of a results store that a store is, with a slash at its end; None if it is another one."""
    one, other = place_of(store), place_of(results)
    if one.holder != other.holder or not (one.path == other.path or in_folder(one.path, other.path)):
        return None
    inside = one.path[len(other.path) :].strip("/")
    return f"{inside}/" if inside else ""
