"""The digests of published sets as a list that other programs check: ``sha256sum -c``."""

from __future__ import annotations

from collections.abc import Iterator

from emdstore.emds import RECORD_NAME
from emdstore.errors import EmdstoreError, IncompleteSetError, ReleaseChangedError
from emdstore.keys import join_key
from emdstore.sets.finding import find_sets
from emdstore.sets.reading_records import reading_records
from emdstore.sets.record import decode_record
from emdstore.sets.release import Release
from emdstore.stores.checksums import sha256_of
from emdstore.stores.urls import StoreLike, as_source


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
        folders = (each.location for each in find_sets(opened, prefix) if each.published)
    else:
        below = prefix + "/" if prefix else ""
        folders = (each for each in expected if each == prefix or each.startswith(below))
    with reading_records(opened, folders) as records:
        for folder, read in records:
            if isinstance(read, EmdstoreError):
                raise read
            lines = [] if read is None else _lines_of(folder, read)  # without one it went meanwhile
            if expected is not None and (not lines or lines[-1][0] != expected[folder]):
                raise _changed(folder)
            yield from lines


def _changed(folder: str) -> ReleaseChangedError:
    return ReleaseChangedError(
        f"{folder!r} is not what was released: `emdstore release verify` tells what became of it", key=folder
    )


def _lines_of(folder: str, data: bytes) -> list[tuple[str, str]]:
    key = join_key(folder, RECORD_NAME)
    record = decode_record(data, name=key)
    if record.is_open:
        raise IncompleteSetError(f"{folder!r} is being published: wait for that, or commit it again", key=folder)
    lines = [(artifact.sha256, join_key(folder, artifact.key)) for artifact in record.artifacts]
    return [*lines, (sha256_of(data), key)]
