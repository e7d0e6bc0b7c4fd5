"""Promotion: copying a set of artifacts between any two stores, planned, verified and resumable."""

from emdstore.transfers.plan import Listing, Step, Unchanged, decide, listing_of, plan_transfer
from emdstore.transfers.report import (
    KeyOutcome,
    Outcome,
    TransferInterrupted,
    TransferProgress,
    TransferReport,
)
from emdstore.transfers.routes import digest_of
from emdstore.transfers.run import ProgressCallback, transfer

__all__ = [
    "KeyOutcome",
    "Listing",
    "Outcome",
    "ProgressCallback",
    "Step",
    "TransferInterrupted",
    "TransferProgress",
    "TransferReport",
    "Unchanged",
    "decide",
    "digest_of",
    "listing_of",
    "plan_transfer",
    "transfer",
]
