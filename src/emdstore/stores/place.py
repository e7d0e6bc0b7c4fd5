"""Where a store's bytes are: what holds them, who else sees them, and how many requests it takes at once.

A store tells this itself (`SupportsPlace`). If it does not, emdstore assumes that nobody else sees it.
"""

from __future__ import annotations

import resource

from emdstore.stores.port import ArtifactStore, Place, SupportsPlace

_MOST_REQUESTS = 64
MANY_REQUESTS = 256
"""What a service for objects takes of one client, and what tools that are made for it send."""

_SET_ASIDE = 60  # open files of Python, the engines, logs and whoever else is in this process
_FOR_EACH = 4  # a connection, or the file; the staging file; the folders of both


def most_requests(most: int = _MOST_REQUESTS) -> int:
    """Return how many artifacts this process may move at once: fewer if it may open only few files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, (soft - _SET_ASIDE) // _FOR_EACH))


def place_of(store: ArtifactStore) -> Place:
    """Return where a store says that it is; a store that does not say is a place of its own."""
    if isinstance(store, SupportsPlace):
        return store.place()
    return Place(("of its own", id(store)), "", remote=False, shared=False, requests=most_requests())
