"""What listings leave out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from emdstore.keys import in_folder
from emdstore.stores.port import ArtifactInfo, ArtifactStore, LeftOut, SupportsInfo, SupportsLeftOut

KEPT = 10_000
"""How many left-out things a report keeps, so that its memory does not grow with the store."""

_log = logging.getLogger(__name__)

Found = TypeVar("Found")


class FirstLeftOut:
    """Collects what a listing leaves out: the first 10,000 things, and every folder that could not be read."""

    def __init__(self) -> None:
        self._kept: list[LeftOut] = []

    def note(self, left: LeftOut) -> None:
        """Add one."""
        if len(self._kept) < KEPT or left.error is not None:
            self._kept.append(left)

    @property
    def kept(self) -> tuple[LeftOut, ...]:
        """What was kept."""
        return tuple(self._kept)

    def hides(self, key: str) -> bool:
        """Tell whether a key lies in what was left out, so that its absence from the listing means nothing."""
        return any(in_folder(key + "/", each.name.removesuffix("/")) for each in self._kept)


def iter_known(
    store: ArtifactStore, prefix: str = "", *, left_out: Callable[[LeftOut], object]
) -> Iterator[ArtifactInfo | str]:
    """List a store once, and report what the listing leaves out.

    Parameters
    ----------
    store, prefix
        What to list.
    left_out
        Called with each thing that is left out, during the listing. Never called for a store that cannot tell.

    Yields
    ------
    ArtifactInfo or str
        The info of each artifact; only its key if the store has no `SupportsInfo`.
    """
    if isinstance(store, SupportsLeftOut):
        for found in store.iter_found(prefix):
            if isinstance(found, LeftOut):
                left_out(found)
            else:
                yield found
    elif isinstance(store, SupportsInfo):
        yield from store.iter_info(prefix)
    else:
        yield from store.iter_keys(prefix)


def only_artifacts(found: Iterable[Found | LeftOut], store: str) -> Iterator[Found]:
    """Yield only the artifacts of a listing: folders that cannot be read raise, the rest is logged."""
    for each in found:
        if not isinstance(each, LeftOut):
            yield each
        elif each.error is not None:
            raise each.error
        else:
            _log.warning("left out of the listing of %s: %r %s", store, each.name, each.reason)
