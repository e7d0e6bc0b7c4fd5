"""The right to commit an execution: claimed, renewed and released, so that only one process does it at a time."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from datetime import datetime
from types import TracebackType
from typing import Self

from emdstore import system
from emdstore.catalog import Claim, ExecutionContent, ExecutionRow
from emdstore.errors import CatalogError, ClaimHeldError, ClaimLostError
from emdstore.executions.locations import Locations
from emdstore.executions.process import is_gone, lease_of, new_owner, retire
from emdstore.executions.transitions import allowed_from, refuse_transition

_log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 1.0

COMMITTABLE = allowed_from("pending_upload")


class Lease:
    """The claim of one commit, or of a clean-up: made at its start, renewed while it lasts, and released at its end.

    Parameters
    ----------
    locations
        Where the execution is.
    row
        The execution, as the catalog knows it.
    states
        Those from which it may be claimed.
    to
        The state that it is in meanwhile: that of a commit, or the one that it is in, so that whoever cleans up and is
        killed leaves it as it was. A claim keeps others away in any state.
    """

    def __init__(
        self,
        locations: Locations,
        row: ExecutionRow,
        states: Collection[str] = COMMITTABLE,
        *,
        to: str = "pending_upload",
    ) -> None:
        self._catalog, self._seconds = locations.catalog, locations.lease_seconds
        self._row, self._states, self._to = row, states, to
        self._claim: Claim | None = None
        self._end_keeping: Callable[[], object] = lambda: None

    def __enter__(self) -> Self:
        """Claim the execution.

        Raises
        ------
        ClaimHeldError
            If another owner holds it, with its name.
        InvalidTransitionError
            If an execution in its state cannot be committed.
        """
        self._owner = new_owner(self._seconds)
        try:
            self._claim = self._take()
            self._end_keeping = system.current().every(self._seconds / 3, self._keep, "emdstore-lease")
        except BaseException:  # also Ctrl-C when the catalog has noted the claim already
            retire(self._owner)
            raise
        return self

    def _take(self) -> Claim:
        fragment, owner = self._row.fragment, self._row.owner
        claimed = self._catalog.claims.claim(
            fragment,
            owner=self._owner,
            lease_seconds=self._seconds,
            allowed_from=self._states,
            to=self._to,
            dead_owner=owner if owner is None or is_gone(owner) else self._owner_that_is_silent(owner),
        )
        if isinstance(claimed, Claim):
            return claimed
        if claimed.owner is not None and claimed.status in {"pending_upload", *self._states}:
            raise self._held(claimed.owner, claimed.expires, claimed.status)
        raise refuse_transition(fragment, claimed.status, self._to)

    def _owner_that_is_silent(self, owner: str) -> str | None:
        """Return an owner that may be alive, and does not renew a claim that it should have renewed.

        Clocks jump, and differ: what looks long over may have been renewed a moment ago, by another time. So before a
        claim is taken over for its time alone, it is watched for as long as a living owner takes to renew it.
        """
        machine, fragment, lease = system.current(), self._row.fragment, lease_of(owner)
        seen = self._catalog.claims.doubtful(fragment, lease_seconds=lease)
        patience = (self._seconds if lease is None else lease) / 2  # it is renewed every third
        until = machine.monotonic() + patience
        while seen is not None and machine.monotonic() < until:
            machine.sleep(min(_LOOK_AGAIN_SECONDS, patience / 5))
            now = self._catalog.claims.doubtful(fragment, lease_seconds=lease)
            if now != seen:
                raise self._held(*(now or seen), self._row.status)
        return None if seen is None else seen[0]

    def _held(self, owner: str, expires: datetime | None, status: str) -> ClaimHeldError:
        doing = "being committed" if status == "pending_upload" else "in use"
        return ClaimHeldError(
            f"execution {self._row.fragment!r} is {doing} by {owner}, whose claim holds until "
            f"{expires:%Y-%m-%d %H:%M:%S %Z} and is renewed while it lives",
            key=self._row.fragment,
        )

    @property
    def generation(self) -> int:
        """How often the execution has been claimed so far."""
        assert self._claim is not None
        return self._claim.token

    def check(self) -> None:
        """Make sure that the claim is still ours, for half of its time at least; `ClaimLostError` if it is not."""
        assert self._claim is not None
        # To ask disturbs no other writer, and mostly it is enough: the claim is young, or was renewed meanwhile.
        if not self._catalog.claims.holds(self._claim, seconds=self._seconds / 2):
            self._claim = self._catalog.claims.renew(self._claim, lease_seconds=self._seconds)

    def finish(self, content: ExecutionContent) -> None:
        """Write the rows and the status, and give the claim back, in one transaction that the claim must outlive."""
        self._catalog.replace_execution(content, claim=self._claim)
        self._claim = None

    def give_back(self, status: str, error: str | None = None) -> None:
        """Give the claim back without rows."""
        assert self._claim is not None
        try:
            self._catalog.claims.release(self._claim, to=status, error=error)  # renewed while that waits for its turn
        finally:
            self._claim = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_keeping()
        try:
            if self._claim is not None and error is not None:
                # Where the catalog cannot be told, the lease runs out by itself; the error that led here matters more.
                with contextlib.suppress(CatalogError):
                    if self._to == "pending_upload":
                        self.give_back("upload_failed", str(error) or type(error).__name__)
                    else:
                        self.give_back(self._to, self._row.error)
        finally:
            retire(self._owner)

    def _keep(self) -> bool:
        """Renew the claim; tell whether to go on with that."""
        claim = self._claim
        if claim is None:
            return False
        try:
            self._catalog.claims.renew(claim, lease_seconds=self._seconds)
        except ClaimLostError:
            return False  # the next step of the commit will find out and stop
        except CatalogError:
            _log.warning("the claim of %s could not be renewed; trying again", claim.fragment)
        return True
