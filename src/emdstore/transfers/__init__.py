"""Copying artifacts between any two stores: planned, verified and resumable."""

from emdstore.transfers.bandwidth import Bandwidth
from emdstore.transfers.batch import move_in_order, outcome_of
from emdstore.transfers.moves import plan_move
from emdstore.transfers.outcomes import KeyOutcome, Outcome
from emdstore.transfers.plan import Listing, Step, Unchanged, decide, listing_of, plan_steps
from emdstore.transfers.routes import digest_of
from emdstore.transfers.run import ProgressCallback, move
from emdstore.transfers.transfer_report import (
    SetOutcome,
    TransferInterrupted,
    TransferProgress,
    TransferReport,
)

__all__ = [
    "Bandwidth",
    "KeyOutcome",
    "Listing",
    "Outcome",
    "ProgressCallback",
    "SetOutcome",
    "Step",
    "TransferInterrupted",
    "TransferProgress",
    "TransferReport",
    "Unchanged",
    "decide",
    "digest_of",
    "listing_of",
    "move",
    "move_in_order",
    "outcome_of",
    "plan_move",
    "plan_steps",
]
