"""Persistent identifiers, written in one way, so that they can be compared."""

from __future__ import annotations

import re

_RESOLVERS = re.compile(r"(?:https?://(?:dx\.)?(?:doi\.org|hdl\.handle\.net)/|doi:|hdl:)\s*", re.IGNORECASE)


def bare_identifier(text: str) -> str:
    """Return a DOI or handle without the resolver before it: ``https://doi.org/10.5/x`` and ``doi:10.5/x`` are one."""
    text = text.strip()
    found = _RESOLVERS.match(text)
    return text[found.end() :] if found else text
