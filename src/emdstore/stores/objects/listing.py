"""Listing a bucket: every artifact once, in the order of the keys' bytes, on every server and beside foreign objects.

Other tools create objects whose names are not keys (``a//b``, ``/a``, ``a/`` with content). They must not hide the
artifacts around them, and are reported as `LeftOut`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from emdstore.errors import StoreError
from emdstore.keys import are_plain, is_valid_key, why_invalid
from emdstore.stores.objects.bucket import Bucket
from emdstore.stores.port import LeftOut

SORTED_AT_ONCE = 5_000

Entry = Any
"""What a listing says of an object, under the engine's names: ``path``, ``size``, ``last_modified`` and ``e_tag``."""


@attrs.frozen
class BucketListing:
    """The artifacts in one folder of a bucket, and what else is there.

    Attributes
    ----------
    bucket
        Where it is.
    folder
        The folder, as a prefix of the objects' names without its last slash; ``""`` for the bucket.
    in_order
        Whether the server lists in the order of the names' bytes.
    """

    bucket: Bucket
    folder: str
    in_order: bool
    _within: str = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.folder + "/" if self.folder else "", takes_self=True)
    )

    def __iter__(self) -> Iterator[Entry | LeftOut]:
        return self._streamed() if self.in_order else self._sorted(self.folder)

    def _streamed(self) -> Iterator[Entry | LeftOut]:
        last = ""
        for page in self.bucket.iter_pages(self.folder):
            news = []
            for entry in page.objects:
                name = entry["path"]
                if name < last:
                    raise StoreError(
                        f"{self.bucket!r} does not list in the order of the keys' bytes ({name!r} comes after "
                        f"{last!r}); open it with in_order=False",
                        store=repr(self.bucket),
                    )
                if name > last:
                    news.append(entry)
                last = name
            yield from self._listed(news)

    def _sorted(self, folder: str) -> Iterator[Entry | LeftOut]:
        """Sort the server's answers: a small folder at once, a large one folder by folder."""
        found = list(itertools.islice(self._objects(folder), SORTED_AT_ONCE + 1))
        if len(found) <= SORTED_AT_ONCE:
            # In a dict, because during writes a server may show one object on two pages.
            by_name = {entry["path"]: entry for entry in found}
            yield from self._listed([by_name[name] for name in sorted(by_name)])
            return
        del found
        by_name, folders = self._children(folder)
        # A folder sorts as its name plus "/", which is where its keys do.
        for name in sorted([*by_name, *folders]):
            if name in by_name:
                if (each := self._what_is(by_name[name])) is not None:
                    yield each
            elif is_valid_key(self.bucket.key_of(name[:-1])):
                yield from self._sorted(name[:-1])
            else:
                yield LeftOut(self.bucket.key_of(name), f"is no key: {why_invalid(self.bucket.key_of(name))}")

    def _objects(self, folder: str) -> Iterator[Entry]:
        return itertools.chain.from_iterable(page.objects for page in self.bucket.iter_pages(folder))

    def _children(self, folder: str) -> tuple[dict[str, Entry], set[str]]:
        """Return the objects directly in a folder by name, and the names of its folders with a slash."""
        objects: dict[str, Entry] = {}
        folders: set[str] = set()
        for page in self.bucket.iter_pages(folder, delimiter="/"):
            objects.update((entry["path"], entry) for entry in page.objects)
            folders.update(page.folders)
        return objects, folders

    def _listed(self, entries: Sequence[Entry]) -> Iterable[Entry | LeftOut]:
        """Return how entries in order are listed. That all are plain keys, as nearly always, shows at once."""
        names = [entry["path"] for entry in entries]
        if not names or not (names[0].startswith(self._within) and names[-1].startswith(self._within)):
            are_keys = False  # what lies between two names that begin with it does, too
        else:
            are_keys = are_plain("", [self.bucket.key_of(name) for name in names])
        return entries if are_keys else filter(None, map(self._what_is, entries))

    def _what_is(self, entry: Entry) -> Entry | LeftOut | None:
        """Return how an entry is listed; None for an empty marker of a folder."""
        name = self.bucket.key_of(entry["path"])
        if is_valid_key(name):
            return entry if entry["path"].startswith(self._within) else None
        if name.endswith("/") and not entry["size"]:
            return None
        if name == "":  # the marker of the store's own folder
            return LeftOut(entry["path"], "is an object of the name of the folder, with content")
        return LeftOut(name, f"is no key: {why_invalid(name)}")
