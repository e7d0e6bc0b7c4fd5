"""Reading the records of many sets, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, EmdstoreError
from emdstore.keys import join_key
from emdstore.stores.port import ArtifactStore
from emdstore.workers.distance import noting_answer
from emdstore.workers.several import several_at_once

Read: TypeAlias = bytes | EmdstoreError | None
"""A record's bytes; None if there is none; or why it cannot be read."""


@contextmanager
def reading_records(store: ArtifactStore, folders: Iterable[str]) -> Iterator[Iterator[tuple[str, Read]]]:
    """Read the record of each folder, and yield what yields them in the order of the folders."""
    with several_at_once(_read_each, store, items=folders, stores=[store], name="records", nearby=16) as records:
        yield records


def _read_each(store: ArtifactStore, folders: Sequence[str]) -> list[Read]:
    return [_read(store, folder) for folder in folders]


def _read(store: ArtifactStore, folder: str) -> Read:
    try:
        with noting_answer(store):
            return store.read_bytes(join_key(folder, RECORD_NAME))
    except ArtifactNotFoundError:
        return None
    except EmdstoreError as error:
        return error
