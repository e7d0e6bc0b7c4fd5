"""What came of materializing one execution's result, as a value."""

from __future__ import annotations

import attrs

from emdstore.emds import BundleWarning, ResolvedOutput
from emdstore.sets.curated import ArtifactProblem
from emdstore.sets.record import RecordedArtifact
from emdstore.sets.result import LOG_NAME
from emdstore.shown import Shown


@attrs.frozen(kw_only=True, repr=False)
class MaterializeOutcome(Shown):
    """What `materialize_outputs` did.

    Attributes
    ----------
    log_copied, log_missing
        Whether the log is in the results store (copied now, or unchanged); whether the run left none.
    artifacts_copied, artifacts_unchanged
        Keys of the payload (all but the log) that were copied, or were there already; not compared.
    artifacts_missing
        Keys that the result or the output bundle names and the source does not hold.
    artifacts_rejected
        Names, as written, that lead out of the fragment or are not keys. They were not followed.
    artifacts_failed
        What could not be shipped, including the log: the store failed, or the source changed meanwhile. Trying again
        may help.
    artifacts_held_back
        Bundles that wait for what failed.
    artifacts_unreadable
        Bundles that arrived but do not follow the format.
    artifacts
        All artifacts of this set in the results store, in curated order, with digests.
    outputs
        The output bundle's entries, with the keys of their files.
    stale
        Keys that were in the results store before and are not part of this set; not compared.
    cause
        What the log of a run that failed says of it, in one line; None if it says nothing.
    log_unchanged
        Whether the log was there already; not compared.
    warnings
        What is worth knowing.
    seconds
        How long it took; not compared.
    """

    log_copied: bool
    artifacts_copied: tuple[str, ...] = attrs.field(default=(), eq=False)
    artifacts_unchanged: tuple[str, ...] = attrs.field(default=(), eq=False)
    artifacts_missing: tuple[str, ...] = ()
    artifacts_rejected: tuple[str, ...] = ()
    artifacts_failed: tuple[ArtifactProblem, ...] = ()
    artifacts_held_back: tuple[str, ...] = ()
    artifacts_unreadable: tuple[ArtifactProblem, ...] = ()
    artifacts: tuple[RecordedArtifact, ...] = ()
    outputs: tuple[ResolvedOutput, ...] = ()
    cause: str | None = None
    stale: tuple[str, ...] = attrs.field(default=(), eq=False)
    log_unchanged: bool = attrs.field(default=False, eq=False)
    warnings: tuple[BundleWarning, ...] = ()
    seconds: float = attrs.field(default=0.0, eq=False)

    @property
    def log_missing(self) -> bool:
        """Whether the run left no log. A log that could not be shipped is in `artifacts_failed`."""
        return not self.log_copied and all(each.key != LOG_NAME for each in self.artifacts_failed)
