"""Sets for tests: making one, and making sure that one is published."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import attrs

from emdstore.demo import write_set
from emdstore.errors import ExecutionNotFoundError
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import ExecutionResult
from emdstore.sets.state import look_at_set
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.urls import StoreLike, as_store
from emdstore.stores.views import scoped

_SHOWN = 20


@attrs.frozen
class MadeSet:
    """A set that a test has made.

    Attributes
    ----------
    fragment
        Its folder in a results store.
    directory
        The folder with the files that its run wrote.
    result
        The run's result, for `emdstore.materialize_outputs`.
    """

    fragment: str
    directory: Path
    result: ExecutionResult

    def publish(self, store: StoreLike) -> None:
        """Publish it in a results store, at its fragment."""
        source, dest = LocalArtifactStore(self.directory), scoped(as_store(store), self.fragment)
        publish_set(ExecutionRecord.at(self.fragment), self.result, source=source, dest=dest)


def make_set(directory: Path, fragment: str, files: Mapping[str, bytes] | None = None) -> MadeSet:
    """Write the files of a small successful run into a folder.

    Parameters
    ----------
    directory
        The folder; it is created if necessary.
    fragment
        Where the set belongs: ``provider/diagnostic/group/execution``.
    files
        More files, or other bytes, by their names in the folder.
    """
    result = write_set(directory)
    store = LocalArtifactStore(directory)
    for name, data in (files or {}).items():
        store.write_bytes(name, data)
    return MadeSet(fragment, directory, result)


def assert_published(store: StoreLike, fragment: str) -> ExecutionRecord:
    """Fail unless a set is published and complete: every byte that its record names is read.

    Returns
    -------
    ExecutionRecord
        Its record.

    Raises
    ------
    AssertionError
        It says what is wrong.
    """
    opened = as_store(store)
    try:
        look = look_at_set(opened, fragment, bundles=False, every_digest=True)
    except ExecutionNotFoundError:
        there = ", ".join(islice(opened.iter_keys(), _SHOWN)) or "it is empty"
        raise AssertionError(f"no set is at {fragment!r} of {opened!r}: {there}") from None
    if look.record is None:
        raise AssertionError(f"{fragment!r} of {opened!r} has no record")
    found = look.judgement
    wrong = {"lacking": found.lacking, "differing": found.differing, "not readable": found.unread}
    told = [f"{what}: {', '.join(keys)}" for what, keys in wrong.items() if keys] or [look.record.reason or ""]
    if look.state != "published":
        raise AssertionError(f"{fragment!r} of {opened!r} is {look.state}, not published; {'; '.join(told)}")
    return look.record
