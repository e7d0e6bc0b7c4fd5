"""Several that put something in place of all that was there, at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from tests.catalog.examples import NOON

from emdstore.catalog import Catalog
from emdstore.catalog.releases import ReleaseContent
from emdstore.catalog.replays import ReplayNote

WRITERS = 4
ROUNDS = 10


def note(catalog: Catalog, number: int) -> None:
    catalog.replays.note(ReplayNote(at=NOON, seconds=1.0, sets=number, failed=0))


def know(catalog: Catalog, number: int) -> None:
    catalog.releases.replace([ReleaseContent("r", NOON, "ann", str(number), [("a/b", "0" * 64)])], {"latest": "r"})


@pytest.mark.parametrize("put", [note, know])
def test_who_replaces_all_at_once_with_others_replaces_what_they_put(
    shared_catalog_url: str, put: Callable[[Catalog, int], None]
) -> None:
    start = Barrier(WRITERS)

    def write(number: int) -> None:
        with Catalog(shared_catalog_url) as catalog:
            for again in range(ROUNDS):
                start.wait(30)
                put(catalog, number * ROUNDS + again)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    with Catalog(shared_catalog_url) as catalog:
        last = catalog.replays.last()
        put_by = last.sets if put is note and last is not None else int(catalog.releases.list()[0].note)
    assert put_by % ROUNDS == ROUNDS - 1
