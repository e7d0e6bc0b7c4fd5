"""The digests of published sets as a list that other programs check: ``sha256sum -c``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, ExecutorError, IncompleteSetError, ReleaseChangedError
from emdstore.keys import join_key
from emdstore.sets.finding import SetFolder, find_sets
from emdstore.sets.record import decode_record
from emdstore.sets.release import Release
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import StoreLike, as_source
from emdstore.workers.backlog import executor_or_threads, map_batches

_READERS = 8


def iter_manifest(store: StoreLike, prefix: str = "", *, release: Release | None = None) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 and the key of each artifact that published sets vouch for, and of their records.

    The digests are those that the records name: nothing but records is read. `emdstore verify` compares them with the
    bytes, and so does ``sha256sum -c`` in a folder.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    prefix
        Only sets in this folder.
    release
        Only the sets of this release.

    Yields
    ------
    tuple
        ``(sha256, key)``; the record of each set after its artifacts.

    Raises
    ------
    IncompleteSetError
        If a set is being published: nobody vouches for its bytes.
    ReleaseChangedError
        If a set of the release is not there, or its record is another one.
    RecordError, StoreError
        If a record cannot be read.
    """
    opened = as_source(store)
    expected = None if release is None else release.records
    if expected is None:
        sets = (each for each in find_sets(opened, prefix) if each.published)
    else:
        below = prefix + "/" if prefix else ""
        sets = (SetFolder(each, True) for each in expected if each == prefix or each.startswith(below))
    with (
        executor_or_threads(None, _READERS, "manifest", only_read=True) as readers,
        closing(map_batches(readers, _read_each, opened, items=sets)) as read,
    ):
        for each, lines in read:
            if isinstance(lines, EmdstoreError | ExecutorError):
                raise lines
            if lines and expected is not None and lines[-1][0] != expected[each.location]:
                raise _changed(each.location)
            if expected is not None and not lines:
                raise _changed(each.location)
            yield from lines


def _changed(folder: str) -> ReleaseChangedError:
    return ReleaseChangedError(
        f"{folder!r} is not what was released: `emdstore release verify` tells what became of it", key=folder
    )


def _read_each(store: ArtifactStore, batch: Sequence[SetFolder]) -> list[list[tuple[str, str]] | EmdstoreError]:
    return [_read(store, each.location) for each in batch]


def _read(store: ArtifactStore, folder: str) -> list[tuple[str, str]] | EmdstoreError:
    key = join_key(folder, RECORD_NAME)
    try:
        data = store.read_bytes(key)
        record = decode_record(data, name=key)
    except ArtifactNotFoundError:
        return []  # it went meanwhile
    except EmdstoreError as error:
        return error
    if record.is_open:
        return IncompleteSetError(f"{folder!r} is being published: wait for that, or commit it again", key=folder)
    lines = [(artifact.sha256, join_key(folder, artifact.key)) for artifact in record.artifacts]
    return [*lines, (sha256_of(data), key)]
