"""Which set's rows may replace which: a pure decision, made inside the transaction that would write them.

A set without a record never replaces rows from a record, or a workspace's own execution (R4). A complete publication is
replaced by less, or by an older one, only if somebody asks for it by name (P4).
"""

from __future__ import annotations

from datetime import datetime

import attrs

from emdstore.catalog.content import ExecutionContent
from emdstore.errors import DemotionRefusedError, EmdstoreError, ShadowedSetError


@attrs.frozen
class Held:
    """What the catalog has of an execution, as far as it matters for a replacement.

    Attributes
    ----------
    state
        The state of the set that the rows come from; None if there are none yet, and the execution is a workspace's.
    generation, published_at, record_digest
        From that set's record.
    status
        The execution's.
    """

    state: str | None
    generation: int
    published_at: datetime | None
    record_digest: str | None
    status: str


def refusal(held: Held, content: ExecutionContent, *, replace: bool = False) -> EmdstoreError | None:
    """Return why a set may not replace what the catalog has.

    Parameters
    ----------
    held
        What the catalog has of the same folder.
    content
        What would be written.
    replace
        Whether somebody asked for it by name. A set without a record is refused anyway.

    Returns
    -------
    EmdstoreError | None
        None if it may.
    """
    if content.state == "bare" and held.state != "bare":
        whose = "a published record" if held.state is not None else f"an execution of a workspace ({held.status})"
        return ShadowedSetError(
            f"{content.fragment!r} has no record, and the catalog's rows of it are those of {whose}: they stay. "
            "Publish the set again, or move the folder away",
            key=content.fragment,
        )
    if replace or held.state is None or held.record_digest == content.record_digest:
        return None
    if held.state in ("published", "bare") and content.state not in ("published", "bare"):
        without = "" if held.state == "published" else " without a record"
        return DemotionRefusedError(
            f"{content.fragment!r} is {content.state} by its record, and the catalog has the rows of a complete "
            f"publication{without}: they stay, unless you ask for it (replace=True, --replace)",
            key=content.fragment,
        )
    if held.state == "bare":
        return None
    is_less = held.state == "published" or content.state != "published"
    if is_less and _is_older(held, content):
        return DemotionRefusedError(
            f"{content.fragment!r} is an older publication (generation {content.generation}, "
            f"{content.published_at or 'no time'}) than the catalog has ({held.generation}, {held.published_at}): its "
            "rows stay, unless you ask for it (replace=True, --replace)",
            key=content.fragment,
        )
    return None


def _is_older(held: Held, content: ExecutionContent) -> bool:
    if held.generation != content.generation:
        return content.generation < held.generation
    if held.published_at is None or content.published_at is None:
        return False
    return content.published_at < held.published_at
