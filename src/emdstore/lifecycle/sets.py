"""Finding artifact sets in a results store, by one listing."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, RecordError
from emdstore.lifecycle.record import decode_record
from emdstore.lifecycle.result import LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.stores.port import ArtifactInfo, ArtifactStore, SupportsInfo, SupportsPath

_log = logging.getLogger(__name__)

_USUAL_NAMES = frozenset({LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME})
_FRAGMENT_SEGMENTS = 4


@attrs.frozen
class Stamp:
    """What a listing says of a record, to tell whether it changed without reading it.

    Attributes
    ----------
    size, modified, version
        As in `ArtifactInfo`; for a bare set, of its usual files together.
    """

    size: int
    modified: float
    version: str

    def joined(self, other: Stamp) -> Stamp:
        """Return the stamp of two files together."""
        version = hashlib.sha256(f"{self.version}\n{other.version}".encode()).hexdigest()
        return Stamp(self.size + other.size, max(self.modified, other.modified), version)


@attrs.frozen
class FoundSet:
    """An artifact set that a listing shows.

    Attributes
    ----------
    location
        Its folder; ``""`` if the store is that folder.
    published
        Whether it has a record; otherwise it is bare.
    stamp
        Of its record, or of a bare set's usual files; None where the store does not tell.
    """

    location: str
    published: bool
    stamp: Stamp | None = None


def find_sets(store: ArtifactStore, prefix: str = "") -> list[FoundSet]:
    """Find the sets below a prefix.

    A published set is a folder with a record; what lies in folders below it is part of it. A bare set is a folder with
    the usual metric bundle and no record, that lies in no other set's folder and holds no published set.

    Returns
    -------
    list of FoundSet
        In the order of their folders. The list is as long as there are sets; what they hold is not kept.
    """
    records: dict[str, Stamp | None] = {}
    bare: dict[str, Stamp | None] = {}
    usual: dict[str, Stamp | None] = {}
    for key, stamp in _stamped(store, prefix):
        folder, _, name = key.rpartition("/")
        if name == RECORD_NAME:
            records[folder] = stamp
        elif name in _USUAL_NAMES and folder not in records:
            before = usual.get(folder)
            usual[folder] = stamp if before is None or stamp is None else before.joined(stamp)
            if name == METRIC_NAME:
                bare[folder] = None
    found = [FoundSet(folder, True, stamp) for folder, stamp in records.items() if not _lies_in(folder, records)]
    holding = {above for folder in records for above in _above(folder)}
    for folder in bare:
        if folder in holding:
            _log.warning("%r has a metric bundle but holds published sets: it is not taken for a set", folder)
        elif folder not in records and not _lies_in(folder, records) and not _lies_in(folder, bare):
            found.append(FoundSet(folder, False, usual[folder]))
    return sorted(found, key=lambda each: each.location)


def fragment_at(store: ArtifactStore, location: str) -> str:
    """Return the fragment of a set by where it lies.

    If the store is itself the set's folder, its record says it, or the end of its path.
    """
    if location:
        return location
    with contextlib.suppress(ArtifactNotFoundError, RecordError):
        return decode_record(store.read_bytes(RECORD_NAME)).fragment
    if isinstance(store, SupportsPath):
        return "/".join(store.local_path().parts[1:][-_FRAGMENT_SEGMENTS:]) or "set"
    return "set"


def _stamped(store: ArtifactStore, prefix: str) -> Iterator[tuple[str, Stamp | None]]:
    if isinstance(store, SupportsInfo):
        return ((info.key, _stamp(info)) for info in store.iter_info(prefix))
    return ((key, None) for key in store.iter_keys(prefix))


def _stamp(info: ArtifactInfo) -> Stamp | None:
    return None if info.version is None else Stamp(info.size, info.modified, info.version)


def _above(folder: str) -> Iterator[str]:
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _lies_in(folder: str, sets: dict[str, Stamp | None]) -> bool:
    return any(above in sets for above in _above(folder))
