"""Sets from what other frameworks write themselves: ESMValTool, PMP, ILAMB, CMEC, and those of installed packages."""

from __future__ import annotations

from emdstore.adoption.adopting import AdoptedSet, AdoptionReport, adopt, known_adopters
from emdstore.adoption.found import Adopter, FoundOutput, FoundSet, Left, Source

__all__ = [
    "AdoptedSet",
    "Adopter",
    "AdoptionReport",
    "FoundOutput",
    "FoundSet",
    "Left",
    "Source",
    "adopt",
    "known_adopters",
]
