"""The right to commit an execution: taken, renewed, and given back, so that only one does it at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Self

from emdstore.catalog import Claim, ExecutionContent, ExecutionRow
from emdstore.errors import CatalogError, ClaimHeldError, ClaimLostError
from emdstore.executions.locations import Locations
from emdstore.executions.process import is_gone, new_owner, retire
from emdstore.executions.transitions import allowed_from, refuse_transition

_log = logging.getLogger(__name__)

COMMITTABLE = allowed_from("pending_upload")


class Lease:
    """The claim of one commit: taken at its start, renewed while it lasts, and given back at its end, however it ends.

    Parameters
    ----------
    locations
        Where the execution is.
    row
        The execution, as the catalog knows it.
    states
        Those from which it may be claimed.
    """

    def __init__(self, locations: Locations, row: ExecutionRow, states: Collection[str] = COMMITTABLE) -> None:
        self._catalog, self._seconds = locations.catalog, locations.lease_seconds
        self._row, self._states = row, states
        self._claim: Claim | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """Claim the execution.

        Raises
        ------
        ClaimHeldError
            If another owner holds it, with its name.
        InvalidTransitionError
            If an execution in its state cannot be committed.
        """
        self._owner = new_owner()
        try:
            self._claim = self._take()
            threading.Thread(target=self._keep, name="emdstore-lease", daemon=True).start()
        except BaseException:  # also Ctrl-C when the catalog has noted the claim already
            retire(self._owner)
            raise
        return self

    def _take(self) -> Claim:
        fragment = self._row.fragment
        claimed = self._catalog.claim(
            fragment,
            owner=self._owner,
            lease_seconds=self._seconds,
            allowed_from=self._states,
            dead_owner=self._row.owner if is_gone(self._row.owner) else None,
        )
        if isinstance(claimed, Claim):
            return claimed
        if claimed.owner is not None and claimed.status == "pending_upload":
            raise ClaimHeldError(
                f"execution {fragment!r} is being committed by {claimed.owner}, whose claim holds until "
                f"{claimed.expires:%Y-%m-%d %H:%M:%S %Z} and is renewed while it lives",
                key=fragment,
            )
        raise refuse_transition(fragment, claimed.status, "pending_upload")

    def check(self) -> None:
        """Make sure that the claim is still ours, for half of its time at least; `ClaimLostError` if it is not."""
        assert self._claim is not None
        # To ask disturbs no other writer, and mostly it is enough: the claim is young, or was renewed meanwhile.
        if not self._catalog.holds(self._claim, seconds=self._seconds / 2):
            self._claim = self._catalog.renew(self._claim, lease_seconds=self._seconds)

    def finish(self, content: ExecutionContent) -> None:
        """Write the rows and the status, and give the claim back, in one transaction that the claim must outlive."""
        self._catalog.replace_execution(content, claim=self._claim)
        self._claim = None

    def give_back(self, status: str, error: str | None = None) -> None:
        """Give the claim back without rows."""
        assert self._claim is not None
        claim, self._claim = self._claim, None
        self._catalog.release(claim, to=status, error=error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            if self._claim is not None and error is not None:
                # Where the catalog cannot be told, the lease runs out by itself; the error that led here matters more.
                with contextlib.suppress(CatalogError):
                    self.give_back("upload_failed", str(error) or type(error).__name__)
        finally:
            retire(self._owner)

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / 3):
            claim = self._claim
            if claim is None:
                return
            try:
                self._catalog.renew(claim, lease_seconds=self._seconds)
            except ClaimLostError:
                return  # the next step of the commit will find out and stop
            except CatalogError:
                _log.warning("the claim of %s could not be renewed; trying again", claim.fragment)
