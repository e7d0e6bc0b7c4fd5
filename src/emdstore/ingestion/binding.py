"""Which results store a catalog speaks of, and how it is known again.

A catalog's rows are what one results store holds. Sets of another store that have the same folders would take their
place, so a catalog is tied to the first store that it was used with: by that store's identity, or by its place while
the store has none.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

import attrs

from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, CatalogError, StoreError
from emdstore.keys import in_folder, join_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import StoreIdentity, give_identity, identity_of, url_of
from emdstore.stores.port import ArtifactStore

_SAMPLE = 20


def is_same_store(bound: StoreIdentity, here: StoreIdentity) -> bool:
    """Decide whether a store is the one that a catalog is tied to.

    Two identities decide alone, wherever the stores lie. Where one of the two has none, the place decides.
    """
    if bound.id is not None and here.id is not None:
        return bound.id == here.id
    return bound.url == here.url


def bind_place(catalog: Catalog, store: ArtifactStore) -> None:
    """Make sure that a catalog belongs to a results store, without asking a store that lies where it should.

    For what happens before anything is shipped: a run starts also while its results store cannot be reached.

    Raises
    ------
    CatalogError
        If the catalog belongs to another results store. Nothing was changed.
    """
    here, bound = StoreIdentity(None, url_of(store)), catalog.bound_results()
    if bound is None:
        bound = catalog.note_results(here, instead_of=None)
    if bound.url != here.url:
        bind(catalog, store)


def bind(catalog: Catalog, store: ArtifactStore, *, publishing: bool = False, looking: bool = False) -> None:
    """Tie a catalog to a results store the first time; from then on make sure that it is the same one.

    Parameters
    ----------
    catalog, store
        A catalog, and the results store that is about to be used with it.
    publishing
        Whether sets will be published to the store: it is given an identity then, if it has none and can be written.
    looking
        Only make sure: a store that turns out to hold nothing, as under a mistyped name, ties nothing to it.

    Raises
    ------
    CatalogError
        If the catalog belongs to another results store. Nothing was changed.
    """
    if catalog.is_bound_to(store):
        return
    here = identity_of(store)
    bound = catalog.bound_results()
    if bound is not None and not is_same_store(bound, here):
        if here.id is None and here.url and bound.url and in_folder(here.url, bound.url) and store.exists(RECORD_NAME):
            return  # one set's folder, taken as a store of its own: its record says which execution it is
        raise CatalogError(
            f"the catalog {catalog.url} belongs to the results store {_named(bound)}, not to {_named(here)}: give each "
            "results store a catalog of its own, or, if it is the same one at another place, run `emdstore db rebind`",
            store=catalog.url,
        )
    if looking:
        return
    if publishing and here.id is None:
        with suppress(StoreError):  # one that cannot be written is known by its place
            here = give_identity(store, None if bound is None else bound.id)
    if bound is None or _is_newer(bound, here):
        bound = catalog.note_results(here, instead_of=bound)
        if not is_same_store(bound, here):  # somebody else was quicker
            bind(catalog, store, publishing=publishing)
            return
    catalog.keep_bound(store)


def _is_newer(bound: StoreIdentity, here: StoreIdentity) -> bool:
    """Tell whether the catalog should note what was found: an identity it did not know, or a new place of it."""
    if here.id is None:
        return False
    return (bound.id is None and here.url == bound.url) or (bound.id == here.id and here.url != bound.url)


@attrs.frozen
class RebindReport:
    """What `rebind` found.

    Attributes
    ----------
    before, now
        The store that the catalog was tied to, and the one that it is tied to now.
    compared, equal
        How many records of the sample the store holds, and how many of these are those that the catalog was read from.
    missing
        Executions of the sample that the store has no record of.
    """

    before: StoreIdentity | None
    now: StoreIdentity
    compared: int
    equal: int
    missing: tuple[str, ...] = ()


def rebind(catalog: Catalog, store: ArtifactStore, *, force: bool = False, sample: int = _SAMPLE) -> RebindReport:
    """Tie a catalog to a results store anew, after a look at whether it holds what the catalog speaks of.

    Parameters
    ----------
    catalog, store
        The catalog, and where its results are now.
    force
        Whether to do so also where the sample speaks against it.
    sample
        How many of the catalog's executions are looked for.

    Returns
    -------
    RebindReport
        What was compared.

    Raises
    ------
    CatalogError
        If more than half of the sample is not there, or not what the catalog was read from. Nothing was changed.
    StoreError
        If the store cannot be read.
    """
    here, before = identity_of(store), catalog.bound_results()
    compared = equal = 0
    missing: list[str] = []
    looked = list(islice(catalog.records.below(), sample))
    for stamp in looked:
        try:
            data = store.read_bytes(join_key(stamp.fragment, RECORD_NAME))
        except ArtifactNotFoundError:
            missing.append(stamp.fragment)
            continue
        compared += 1
        equal += sha256_of(data) == stamp.digest
    if looked and 2 * equal < len(looked) and not force:
        raise CatalogError(
            f"{_named(here)} does not look like the results store of the catalog {catalog.url}: of {len(looked)} "
            f"records that were looked for, {equal} are those that the catalog was read from and {len(missing)} are "
            "not there. Name another store, or use --force",
            store=catalog.url,
        )
    if here.id is None:
        with suppress(StoreError):
            here = give_identity(store, None if before is None else before.id)
    now = catalog.note_results(here, instead_of=before)
    return RebindReport(before, now, compared, equal, tuple(missing))


def _named(store: StoreIdentity) -> str:
    url = store.url or "in memory"
    return url if store.id is None else f"{url} ({store.id})"
