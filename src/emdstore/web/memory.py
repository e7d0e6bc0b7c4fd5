"""What pages have computed, kept until the catalog changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from emdstore.catalog import Catalog

T = TypeVar("T")
_MOST_REMEMBERED = 50
Facets = Mapping[str, Mapping[str, int]]


@attrs.define
class Memory:
    """What was computed last and costs much, by what it is, and what the catalog was like then; `most` of it."""

    most: int = _MOST_REMEMBERED
    signs: tuple[Any, ...] = ()
    found: dict[str, Any] = attrs.field(factory=dict)

    def recall(self, catalog: Catalog, what: object, compute: Callable[[], T]) -> T:
        """Return something from memory if nothing has changed, and otherwise compute it."""
        signs = catalog.survey().signs_of_change()
        if signs != self.signs or len(self.found) > self.most:
            self.signs, self.found = signs, {}
        found = self.found  # another thread may begin anew meanwhile
        key = repr(what)
        if key not in found:
            found[key] = compute()
        value: T = found[key]
        return value

    def facets_of(self, catalog: Catalog, places: Mapping[str, Any]) -> Facets:
        """Return the counts of scalars."""
        return self.recall(catalog, sorted(places.items()), lambda: catalog.scalars(latest=True, **places).facets())
