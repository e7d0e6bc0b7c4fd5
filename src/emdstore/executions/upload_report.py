"""Reports on commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emdstore.sets.events import Event
from emdstore.shown import Shown


@attrs.frozen
class RoleCounts:
    """How many artifacts of one role were uploaded, were there already, or could not be shipped."""

    uploaded: int = 0
    unchanged: int = 0
    failed: int = 0

    def __add__(self, other: RoleCounts) -> RoleCounts:
        return RoleCounts(self.uploaded + other.uploaded, self.unchanged + other.unchanged, self.failed + other.failed)


@attrs.frozen
class UploadError:
    """Why an execution was not committed."""

    fragment: str
    error: Exception = attrs.field(eq=str)


@attrs.frozen(kw_only=True, repr=False)
class UploadReport(Shown):
    """The report on one commit, or on several.

    Attributes
    ----------
    statuses
        The current status of each execution that was committed.
    roles
        The counts for each role of artifacts.
    bytes
        The number of bytes uploaded.
    seconds
        How long it took.
    errors
        The executions that could not be committed.
    skipped
        The executions that somebody else is committing, or has committed meanwhile.
    kept
        The executions whose scratch folder should have been removed but stays, with reasons.
    events
        News for the store's log that is not written yet; whoever calls a commit writes it. No part of equality.
    """

    statuses: Mapping[str, str] = attrs.field(factory=dict)
    roles: Mapping[str, RoleCounts] = attrs.field(factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    errors: tuple[UploadError, ...] = ()
    skipped: Mapping[str, str] = attrs.field(factory=dict)
    kept: Mapping[str, str] = attrs.field(factory=dict)
    events: tuple[Event, ...] = attrs.field(default=(), eq=False, repr=False)

    @property
    def uploaded(self) -> int:
        """How many artifacts were uploaded."""
        return sum(counts.uploaded for counts in self.roles.values())

    @property
    def unchanged(self) -> int:
        """How many artifacts were there already."""
        return sum(counts.unchanged for counts in self.roles.values())

    @property
    def failed(self) -> int:
        """How many artifacts could not be shipped."""
        return sum(counts.failed for counts in self.roles.values())

    @property
    def ok(self) -> bool:
        """Whether every execution was committed, or is being committed by somebody else."""
        return not self.errors

    @classmethod
    def merged(cls, reports: Iterable[UploadReport], *, seconds: float) -> UploadReport:
        """Combine several reports."""
        statuses: dict[str, str] = {}
        roles: dict[str, RoleCounts] = {}
        errors: list[UploadError] = []
        skipped: dict[str, str] = {}
        kept: dict[str, str] = {}
        size = 0
        for report in reports:
            statuses |= report.statuses
            for role, counts in report.roles.items():
                roles[role] = roles.get(role, RoleCounts()) + counts
            errors += report.errors
            skipped |= report.skipped
            kept |= report.kept
            size += report.bytes
        return cls(
            statuses=statuses,
            roles=roles,
            bytes=size,
            seconds=seconds,
            errors=tuple(errors),
            skipped=skipped,
            kept=kept,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "executions": dict(self.statuses),
            "uploaded": self.uploaded,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "roles": {role: attrs.asdict(counts) for role, counts in self.roles.items()},
            "errors": [
                {"fragment": each.fragment, "type": type(each.error).__name__, "error": str(each.error)}
                for each in self.errors
            ],
            "skipped": dict(self.skipped),
            "kept": dict(self.kept),
        }
