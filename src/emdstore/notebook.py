"""Progress in notebooks, for every call that takes ``on_progress``."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

from emdstore import system

_SECONDS_BETWEEN = 0.2


class Progress:
    """A progress bar below the cell: ``transfer(source, dest, on_progress=Progress("transfer"))``.

    It takes what any of emdstore's callbacks are called with. Outside of IPython it shows nothing.

    Parameters
    ----------
    title
        What is being done.
    """

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.done = 0
        self.total: int | None = None
        self._display: Any = None
        self._next = 0.0

    def __call__(self, *told: Any) -> None:
        """Take a `TransferProgress`, or the thing that is done, how many are done, and of how many."""
        if len(told) == 1:
            self.done, self.total = told[0].keys_done, told[0].keys_planned if told[0].complete else None
        else:
            self.done, self.total = told[-2], told[-1]
        now = system.current().monotonic()
        if now >= self._next or self.done == self.total:
            self._next = now + _SECONDS_BETWEEN
            self._show()

    def _show(self) -> None:
        if self._display is not None:
            self._display.update(self)
            return
        try:
            self._display = import_module("IPython.display").display(self, display_id=True)
        except ModuleNotFoundError:
            pass  # nobody to show it to

    def __repr__(self) -> str:
        return f"{self.title} {self.done:,} of {'more' if self.total is None else format(self.total, ',')}".strip()

    def _repr_html_(self) -> str:
        of = "" if self.total is None else f' value="{self.done}" max="{max(1, self.total)}"'
        return f"<progress{of}></progress> {escape(repr(self))}"
