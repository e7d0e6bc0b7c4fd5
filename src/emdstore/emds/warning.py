"""What is worth telling about a set that is used all the same."""

from __future__ import annotations

import attrs


@attrs.frozen
class BundleWarning:
    """Something in a set that its author should know; nothing was dropped because of it.

    Attributes
    ----------
    code
        What kind of warning, to filter by, such as ``"undeclared-value"``.
    message
        One sentence for people.
    place
        The JSON path or the dimension that it is about, ``""`` where there is none.
    """

    code: str
    message: str
    place: str = ""
