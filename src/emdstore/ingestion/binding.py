"""The results store that a catalog belongs to, and how it is recognised.

A catalog's rows come from one results store. Sets of another store in the same folders would replace them. So a catalog
is tied to the first store that it is used with: by the store's identity, or by its place while it has none.
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

    If both have an identity, that decides, wherever the stores are. Otherwise the place decides.
    """
    if bound.id is not None and here.id is not None:
        return bound.id == here.id
    return bound.url == here.url


def bind_place(catalog: Catalog, store: ArtifactStore) -> None:
    """Make sure that a catalog belongs to a results store, without a request if the store is where it should be.

    This is used before anything is shipped, because a run may start while its results store cannot be reached.

    Raises
    ------
    CatalogError
        If the catalog belongs to another results store. Nothing was changed.
    """
    if catalog.is_bound_to(store):
        return
    here, bound = StoreIdentity(None, url_of(store)), catalog.bound_results()
    if bound is None:
        bound = catalog.note_results(here, instead_of=None)
    if bound.url != here.url:
        bind(catalog, store)


def bind(catalog: Catalog, store: ArtifactStore, *, publishing: bool = False, looking: bool = False) -> None:
    """Tie a catalog to a results store on first use; later make sure that it is the same one.

    Parameters
    ----------
    catalog, store
        A catalog, and the results store that is about to be used with it.
    publishing
        Whether sets will be published to the store. Then it is given an identity if it has none and can be written.
    looking
        Only check, and always ask the store: what was there a moment ago may be another one now, as where something
        else is mounted. A store that turns out to be empty, as under a mistyped name, must not be tied.

    Raises
    ------
    CatalogError
        If the catalog belongs to another results store. Nothing was changed.
    """
    if catalog.is_bound_to(store) and not looking:
        return
    here = identity_of(store)
    bound = catalog.bound_results()
    if bound is not None and not is_same_store(bound, here):
        if here.id is None and here.url and bound.url and in_folder(here.url, bound.url) and store.exists(RECORD_NAME):
            return  # one set's folder as a store: its record says which execution it is
        raise CatalogError(
            f"the catalog {catalog.url} belongs to the results store {_named(bound)}, not to {_named(here)}: give each "
            "results store a catalog of its own, or, if it is the same one at another place, run `emdstore db rebind`",
            store=catalog.url,
        )
    if looking:
        return
    if publishing and here.id is None:
        with suppress(StoreError):  # a store that cannot be written is known by its place
            here = give_identity(store, None if bound is None else bound.id)
    if bound is None or _is_newer(bound, here):
        bound = catalog.note_results(here, instead_of=bound)
        if not is_same_store(bound, here):  # somebody else was quicker
            bind(catalog, store, publishing=publishing)
            return
    catalog.keep_bound(store)


def _is_newer(bound: StoreIdentity, here: StoreIdentity) -> bool:
    """Tell whether the catalog should record what was found: an unknown identity, or a new place."""
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
        How many records of the sample are in the store, and how many of these are the ones that the catalog was read
        from.
    missing
        Executions of the sample without a record in the store.
    """

    before: StoreIdentity | None
    now: StoreIdentity
    compared: int
    equal: int
    missing: tuple[str, ...] = ()


def rebind(catalog: Catalog, store: ArtifactStore, *, force: bool = False) -> RebindReport:
    """Tie a catalog to a results store anew, after checking some of the catalog's sets against the store.

    Parameters
    ----------
    catalog, store
        The catalog, and where its results are now.
    force
        Whether to do so even if the sample contradicts it.

    Returns
    -------
    RebindReport
        What was compared.

    Raises
    ------
    CatalogError
        If more than half of the sample is missing, or not what the catalog was read from. Nothing was changed.
    StoreError
        If the store cannot be read.
    """
    catalog.refuse_to_write()
    here, before = identity_of(store), catalog.bound_results()
    compared = equal = 0
    missing: list[str] = []
    looked = list(islice(catalog.records.below(), _SAMPLE))
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
