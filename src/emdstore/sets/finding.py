"""Finding artifact sets in a results store, in one listing and bounded memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import attrs

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import ArtifactNotFoundError, RecordError
from emdstore.keys import in_folder, join_key
from emdstore.sets.record import decode_record
from emdstore.sets.result import LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import is_own
from emdstore.stores.left_out import iter_known
from emdstore.stores.port import ArtifactInfo, ArtifactStore, LeftOut, SupportsInfo, SupportsPath

_log = logging.getLogger(__name__)

_USUAL_NAMES = frozenset({LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME})
_FRAGMENT_SEGMENTS = 4
_MOST_WAITING = 1000


@attrs.frozen
class Stamp:
    """What a listing says of a record, to notice a change without reading it.

    Attributes
    ----------
    size, modified, version
        As in `ArtifactInfo`; for a bare set, of its usual files together.
    """

    size: int
    modified: float
    version: str

    def with_retraction(self, other: Stamp | None) -> Stamp | None:
        """Return the stamp of a set that changes when its retraction does."""
        if other is None:
            return None
        told = f"{self.version}\n{other.size} {other.modified} {other.version}"
        return attrs.evolve(self, version=sha256_of(told.encode()))

    def joined(self, other: Stamp) -> Stamp:
        """Return the stamp of two files together."""
        version = sha256_of(f"{self.version}\n{other.version}".encode())
        return Stamp(self.size + other.size, max(self.modified, other.modified), version)


@attrs.frozen
class SetFolder:
    """An artifact set that a listing shows.

    Attributes
    ----------
    location
        Its folder; ``""`` if the store is that folder.
    published
        Whether it has a record; otherwise it is bare.
    stamp
        The stamp of its record, or of a bare set's usual files, and of its retraction; None if the store does not tell.
    has_retraction
        Whether it was retracted once, and may still be.
    """

    location: str
    published: bool
    stamp: Stamp | None = None
    has_retraction: bool = False


def find_sets(
    store: ArtifactStore, prefix: str = "", *, left_out: Callable[[LeftOut], object] | None = None
) -> Iterator[SetFolder]:
    """Find the sets below a prefix.

    A published set is a folder with a record; everything in folders below is part of it. A bare set is a folder with
    the usual metric bundle and without a record, that is not inside another set's folder and contains no published set.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    left_out
        Called with each thing that the listing leaves out, including folders that cannot be read. Without it such
        folders are an error, and the rest is logged.

    Yields
    ------
    SetFolder
        In the order in which the listing reaches their folders, during the listing, in bounded memory. If very many
        sets lie in a folder whose own record would be listed after them, the store is asked whether that record exists.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    tree = _OpenFolders(store, prefix)
    for key, stamp in _stamped(store, prefix, left_out):
        if is_own(key):
            continue
        if (found := tree.see(key, stamp)) is not None:
            yield from found
    yield from tree.close()


@attrs.define
class _Folder:
    """A folder whose keys are being listed.

    Attributes
    ----------
    path
        Its path.
    at
        The last name in it that was listed (a folder's with a slash); all names before it have been seen.
    has_record, has_bundle
        None as long as it is not known.
    stamp
        The stamp of its record, or of its usual files so far.
    retraction, has_retraction
        The stamp of its retraction, and whether there is one.
    holds_published
        Whether a published set lies below it.
    waiting
        The sets below it that may turn out to be parts of another set.
    """

    path: str
    at: str = ""
    has_record: bool | None = None
    has_bundle: bool | None = None
    stamp: Stamp | None = None
    retraction: Stamp | None = None
    has_retraction: bool = False
    holds_published: bool = False
    waiting: list[SetFolder] = attrs.field(factory=list)

    def pass_by(self, name: str) -> None:
        self.at = name
        if self.has_bundle is None and name > METRIC_NAME:
            self.has_bundle = False
        if self.has_record is None and name > RECORD_NAME:
            self.has_record = False

    def see(self, name: str, stamp: Stamp | None) -> None:
        if name == RECORD_NAME:
            self.has_record, self.stamp = True, stamp
        elif name in _USUAL_NAMES and not self.has_record:
            self.stamp = stamp if stamp is None or self.stamp is None else self.stamp.joined(stamp)
            self.has_bundle = self.has_bundle or name == METRIC_NAME
        elif name == RETRACTION_NAME:
            self.has_retraction, self.retraction = True, stamp
        self.pass_by(name)

    def close(self) -> list[SetFolder]:
        """Return the sets in this folder, now that it has been listed."""
        if self.has_record:
            return [self._found(published=True)]
        if self.has_bundle and not self.holds_published:
            return [self._found(published=False)]
        if self.has_bundle:
            _log.warning("%r has a metric bundle but holds published sets: it is not taken for a set", self.path)
        return self.settled()

    def _found(self, *, published: bool) -> SetFolder:
        stamp = self.stamp
        if stamp is not None and self.has_retraction:
            stamp = stamp.with_retraction(self.retraction)
        return SetFolder(self.path, published, stamp, self.has_retraction)

    def settled(self) -> list[SetFolder]:
        """Release the sets below that are not part of one here; a bare one below a bundle is not a set."""
        waiting, self.waiting = self.waiting, []
        return [each for each in waiting if each.published] if self.has_bundle else waiting


class _OpenFolders:
    """The folders that a sorted listing is in, from the prefix down to the folder of the last key.

    The keys of a folder are adjacent in the listing, so a folder that was left never comes again. A record is not
    listed first: sets that were found in a folder wait until the listing has passed the place of the record.
    """

    def __init__(self, store: ArtifactStore, prefix: str) -> None:
        self._store = store
        self._open = [_Folder(prefix)]
        self._waiting = 0

    def see(self, key: str, stamp: Stamp | None) -> Iterator[SetFolder] | None:
        """Take the next key of the listing; return the sets that have become certain."""
        path, _, name = key.rpartition("/")
        last = self._open[-1]
        if last.path == path:
            last.see(name, stamp)
            return None
        closed = False
        while not (last.path == path or in_folder(path, last.path)):
            self._leave()
            last, closed = self._open[-1], True
        while last.path != path:
            segment = path[len(last.path) + 1 if last.path else 0 :].partition("/")[0]
            last.pass_by(segment + "/")
            last = _Folder(join_key(last.path, segment))
            self._open.append(last)
        last.see(name, stamp)
        return self._certain() if closed else None

    def close(self) -> Iterator[SetFolder]:
        """Return all sets that are left, at the end of the listing."""
        while len(self._open) > 1:
            self._leave()
        yield from self._open.pop().close()

    def _leave(self) -> None:
        folder = self._open.pop()
        above = self._open[-1]
        self._waiting -= len(folder.waiting)
        found = folder.close()
        above.waiting += found
        above.holds_published |= folder.holds_published or bool(folder.has_record)
        self._waiting += len(found)

    def _certain(self) -> Iterator[SetFolder]:
        below_bundle = False
        for depth, folder in enumerate(self._open):
            if self._waiting > _MOST_WAITING:
                self._ask(folder)
            if folder.has_record:
                self._forget(self._open[depth:])
            if folder.has_record is not False or folder.has_bundle is None:
                return  # everything in it, at any depth, is part of it, or may be
            below_bundle |= folder.has_bundle
            self._waiting -= len(folder.waiting)
            yield from (each for each in folder.settled() if each.published or not below_bundle)

    def _ask(self, folder: _Folder) -> None:
        if folder.has_bundle is None:
            folder.has_bundle = self._store.exists(join_key(folder.path, METRIC_NAME))
        if folder.has_record is None:
            folder.has_record = self._store.exists(join_key(folder.path, RECORD_NAME))

    def _forget(self, folders: list[_Folder]) -> None:
        for folder in folders:
            self._waiting -= len(folder.waiting)
            folder.waiting.clear()


def fragment_at(store: ArtifactStore, location: str) -> str:
    """Return the fragment of a set from its location.

    If the store itself is the set's folder, its record tells, or else the end of its path.
    """
    if location:
        return location
    with contextlib.suppress(ArtifactNotFoundError, RecordError):
        return decode_record(store.read_bytes(RECORD_NAME)).fragment
    if isinstance(store, SupportsPath):
        return "/".join(store.local_path().parts[1:][-_FRAGMENT_SEGMENTS:]) or "set"
    return "set"


def stamp_of(info: ArtifactInfo) -> Stamp | None:
    """Return the stamp of one file; None if the store does not tell its version."""
    return None if info.version is None else Stamp(info.size, info.modified, info.version)


def _stamped(
    store: ArtifactStore, prefix: str, left_out: Callable[[LeftOut], object] | None
) -> Iterator[tuple[str, Stamp | None]]:
    if left_out is not None:
        known = iter_known(store, prefix, left_out=left_out)
        return ((each, None) if isinstance(each, str) else (each.key, stamp_of(each)) for each in known)
    if isinstance(store, SupportsInfo):
        return ((info.key, stamp_of(info)) for info in store.iter_info(prefix))
    return ((key, None) for key in store.iter_keys(prefix))
