"""The right to work on an execution: what one is, and why there is none."""

from __future__ import annotations

from datetime import datetime

import attrs


@attrs.frozen
class Claim:
    """The right to work on an execution, for a time.

    Attributes
    ----------
    fragment
        The execution.
    owner
        Who holds the claim.
    token
        The fencing token: how often the execution was claimed so far.
    expires
        When the claim can be taken over, unless it is renewed before.
    """

    fragment: str
    owner: str
    token: int
    expires: datetime


@attrs.frozen
class Holder:
    """Why an execution could not be claimed.

    Attributes
    ----------
    fragment
        The execution.
    status
        What state it is in.
    owner, expires
        Who holds it and until when, or None if it is not held and the state stands in the way.
    """

    fragment: str
    status: str
    owner: str | None
    expires: datetime | None
