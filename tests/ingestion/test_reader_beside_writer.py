"""A reader beside a writer takes one version or the other, whole, and never a mixture for a published set."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest
from tests.sets.examples import FRAGMENT, SUCCESS, encode, metric_bundle, one_series, put, small_run

from emdstore.catalog import Catalog
from emdstore.errors import EmdstoreError
from emdstore.ingestion.replay import ingest
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, scoped
from emdstore.testing import RecordingStore

ROUNDS = 12
PAUSE = 0.06
"""Seconds between two versions, in which a reader may come through."""


def version(number: int) -> InMemoryArtifactStore:
    """Return a run of which every file says which version it is of, all of equal sizes."""
    value = float(number % 10)
    files = small_run(
        out=f"run {number:03}\n".encode(),
        diagnostic=encode(metric_bundle({"global": {"bias": value}})),
        series=[one_series(values=[value, value])],
        map=f"plot {number:03}".encode(),
        tas=f"data {number:03}".encode(),
    )
    store = InMemoryArtifactStore()
    put(store, files)
    return store


class Slow(RecordingStore):
    """A store whose reader takes its time between the record and the bundles."""

    def read_bytes(self, key: str, /) -> bytes:
        time.sleep(0.01)
        return super().read_bytes(key)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("results", ["local", "memory", "s3"], indirect=True)
def test_what_is_ingested_beside_a_writer_is_one_version_whole(results: ArtifactStore) -> None:
    dest = scoped(results, FRAGMENT)
    stop = threading.Event()
    wrong: list[BaseException] = []

    def write() -> None:
        try:
            for number in itertools.count(1):
                if stop.wait(PAUSE):
                    return
                publish_set(ExecutionRecord.at(FRAGMENT, generation=number), SUCCESS, source=version(number), dest=dest)
        except BaseException as error:
            wrong.append(error)

    publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=version(0), dest=dest)
    writer = threading.Thread(target=write)
    writer.start()
    taken: set[Any] = set()
    try:
        while len(taken) < ROUNDS and not wrong:
            with Catalog("sqlite://") as catalog:
                try:
                    ingest(Slow(results), FRAGMENT, catalog)
                except EmdstoreError:
                    continue  # it was being replaced, and says so
                values = {row.value for row in catalog.scalars()} | {
                    one for row in catalog.series() for one in row.values
                }
                recorded = catalog.execution(FRAGMENT).record_digest
                assert len(values) == 1, "values of two versions"
                taken.add(recorded)
    finally:
        stop.set()
        writer.join()
    assert not wrong
