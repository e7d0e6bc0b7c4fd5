"""What `transfer --delete` removes, shows and asks."""

from __future__ import annotations

from typing import Any

from emdstore.cli.render import confirmed, note, say, size_text, sum_up
from emdstore.errors import EmdstoreError
from emdstore.sets.mirroring import Leftover, find_leftovers, refuse_too_many, remove_leftovers
from emdstore.stores import ArtifactStore


class Surplus:
    """What a mirror holds and its source does not, and what became of it.

    Parameters
    ----------
    source, mirror, backup
        The stores.
    max_delete
        How many keys may go at most.
    only_show
        Whether nothing is to be removed, so that nobody is asked.
    """

    def __init__(
        self,
        source: ArtifactStore,
        mirror: ArtifactStore,
        backup: ArtifactStore | None,
        *,
        max_delete: int | None,
        only_show: bool,
    ) -> None:
        self._stores, self._backup, self._only_show = (source, mirror), backup, only_show
        self._found = find_leftovers(source, mirror)
        if not only_show:
            refuse_too_many(self._found, max_delete)
        self._removed: list[Leftover] = []
        self._failed: list[tuple[Leftover, EmdstoreError]] = []
        self._done = False

    @property
    def ok(self) -> bool:
        """Whether all that was to go went."""
        return not self._failed

    def ask(self) -> bool:
        """Show what would go, and ask on a terminal."""
        if self._only_show or not self._found.removable:
            return False
        self._show_waiting()
        if confirmed("remove it?"):
            return True
        note("nothing was removed; give --yes to remove it")
        return False

    def remove(self) -> None:
        """Remove it."""
        self._done = True
        done = remove_leftovers(
            *self._stores, self._found.removable, backup=self._backup, on_removed=self._removed.append
        )
        self._failed = list(done)

    def show(self) -> None:
        """Show what became of it."""
        for name, reason in self._found.kept.items():
            note(f"kept  {name}: {reason}")
        for each in self._removed:
            say(f"removed  {each.key}")
        for each, error in self._failed:
            say(f"not removed  {each.key}: {error}", style="red")
        if self._only_show:
            self._show_waiting()
        if self._done:
            size = size_text(sum(each.size or 0 for each in self._removed))
            sum_up(f"{len(self._removed)} removed ({size}), {len(self._failed)} not, {len(self._found.kept)} kept")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "removed": [each.key for each in self._removed],
            "would_remove": [] if self._done else [each.key for each in self._found.removable],
            "kept": self._found.kept,
            "failed": [{"key": each.key, "error": str(error)} for each, error in self._failed],
        }

    def _show_waiting(self) -> None:
        for each in self._found.removable:
            say(f"would remove  {each.key}" + (f"  ({size_text(each.size)})" if each.size is not None else ""))
