"""Warnings about sets that are used anyway."""

from __future__ import annotations

import attrs


@attrs.frozen
class BundleWarning:
    """Something in a set that its author should know; nothing was dropped because of it.

    Attributes
    ----------
    code
        The kind of warning, such as ``"undeclared-value"``.
    message
        One sentence for people.
    place
        The JSON path or the dimension that it is about, or ``""``.
    """

    code: str
    message: str
    place: str = ""
