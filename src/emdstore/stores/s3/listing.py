"""Listing a bucket: every artifact once, in the order of the keys' bytes, whatever the server and what else lies there.

obstore lists fast, but it stops at an object whose name has an empty, ``.`` or ``..`` segment or a control character.
Other tools leave such names behind, and they must not hide the artifacts around them. So where it stops, this module
goes on by itself, with the request that obstore would have made and signed by obstore.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus

import attrs

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError, StoreError
from emdstore.keys import validate_key
from emdstore.stores.s3.bucket import Bucket
from emdstore.stores.s3.errors import UnlistableNameError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_log = logging.getLogger(__name__)

SORTED_AT_ONCE = 5_000

Entry = Any
"""What obstore says of an object: ``path``, ``size``, ``last_modified`` and ``e_tag``."""


@attrs.frozen
class Listing:
    """The artifacts of one folder of a bucket.

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

    def __iter__(self) -> Iterator[Entry]:
        return self._streamed() if self.in_order else self._sorted(self.folder)

    def _streamed(self) -> Iterator[Entry]:
        last = ""
        for entry in self._objects(self.folder):
            name = entry["path"]
            if name > last:
                last = name
                yield entry
            elif name < last:
                raise StoreError(
                    f"{self.bucket!r} does not list in the order of the keys' bytes ({name!r} comes after {last!r}); "
                    "open it with in_order=False",
                    store=repr(self.bucket),
                )

    def _sorted(self, folder: str) -> Iterator[Entry]:
        """Sort what comes from the server: a small folder at once, a large one folder by folder."""
        found = list(itertools.islice(self._objects(folder), SORTED_AT_ONCE + 1))
        # In a dict, because one object may come twice: `_objects` may start again, and a marker `a/` looks like an `a`.
        by_name = {entry["path"]: entry for entry in found}
        if len(found) <= SORTED_AT_ONCE:
            yield from (by_name[name] for name in sorted(by_name))
            return
        del found
        by_name, folders = self._children(folder)
        # A folder sorts as its name plus "/", which is where its keys do.
        for name in sorted([*by_name, *folders]):
            if name in by_name:
                yield by_name[name]
            else:
                yield from self._sorted(name[:-1])

    def _objects(self, folder: str) -> Iterator[Entry]:
        """Yield the artifacts below a folder in the server's order; some twice, if it is not the keys' order."""
        obs, client = self.bucket.client()
        pages = obs.list(client, folder or None, chunk_size=1000)
        last = ""
        # obstore drops a leading slash, too, so that in a whole bucket `/a` looks like `a`. Those names come together,
        # before the first that starts with a letter and is there.
        certain = bool(folder)
        while True:
            try:
                with self.bucket.errors.translating("list", folder):
                    page = next(pages, None)
            except UnlistableNameError as error:
                _log.warning("%s", error)
                break
            if page is None:
                return
            for entry in page:
                if not certain and entry["path"] > "/":
                    certain = self._is_there(entry["path"], "/" + entry["path"])
                    if not certain:
                        continue
                if self._is_artifact(entry, folder):
                    yield entry
            last = page[-1]["path"]
        for page, _ in self._pages(folder, after=last if self.in_order else ""):
            yield from (entry for entry in page if self._is_artifact(entry, folder))

    def _children(self, folder: str) -> tuple[dict[str, Entry], set[str]]:
        """Return the artifacts right in a folder by name, and the names of its folders with a slash."""
        obs, client = self.bucket.client()
        pages: Iterable[tuple[list[Entry], list[str]]]
        try:
            with self.bucket.errors.translating("list", folder):
                found = obs.list_with_delimiter(client, folder or None)
            pages = [(found["objects"], [each + "/" for each in found["common_prefixes"]])]
        except UnlistableNameError:
            pages = self._pages(folder, delimiter="/")
        objects: dict[str, Entry] = {}
        folders: set[str] = set()
        for page, prefixes in pages:
            objects.update((entry["path"], entry) for entry in page if self._is_artifact(entry, folder))
            folders.update(each for each in prefixes if self._is_key(each[:-1]))
        return objects, folders

    # -- what is an artifact -------------------------------------------------------------------------------------------

    def _is_artifact(self, entry: Entry, folder: str) -> bool:
        name: str = entry["path"]
        if folder and not name.startswith(folder + "/"):
            return False  # the folder's own marker
        if not self._is_key(name):
            return False
        # obstore drops a trailing slash, so that a marker `a/`, which is empty, looks like an artifact `a`.
        return entry["size"] > 0 or self._is_there(name, name + "/")

    def _is_there(self, name: str, otherwise: str) -> bool:
        """Tell whether an object has this name, where obstore may have made it of another one."""
        if self._is_key(name):
            try:
                self.bucket.look_at(self.bucket.key_of(name))
                return True
            except ArtifactNotFoundError:
                pass
        _log.warning("left out of the listing of %r: %r is no key", self.bucket, otherwise)
        return False

    def _is_key(self, name: str) -> bool:
        try:
            validate_key(self.bucket.key_of(name))
        except InvalidKeyError as error:
            _log.warning("left out of the listing of %r: %s", self.bucket, error)
            return False
        return True

    # -- without obstore -----------------------------------------------------------------------------------------------

    def _pages(self, folder: str, *, after: str = "", delimiter: str = "") -> Iterator[tuple[list[Entry], list[str]]]:
        """Yield each page's objects and common prefixes, with their names as they are (ListObjectsV2 of the S3 API)."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": folder and folder + "/"}
        query |= {"start-after": after, "delimiter": delimiter}
        while True:
            page = self._answer(folder, query)
            objects = [_object(each) for each in page.iterfind("{*}Contents")]
            yield objects, [unquote_plus(each.findtext("{*}Prefix", "")) for each in page.iterfind("{*}CommonPrefixes")]
            if page.findtext("{*}IsTruncated") != "true":
                return
            query["continuation-token"] = page.findtext("{*}NextContinuationToken", "")

    def _answer(self, folder: str, query: dict[str, str]) -> Element:
        import urllib.request  # slow to import, and seldom needed
        from urllib.error import HTTPError
        from xml.etree import ElementTree

        url = self.bucket.signed_listing(
            "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
        )
        with self.bucket.errors.translating("list", folder):
            try:
                with urllib.request.urlopen(url, timeout=self.bucket.timeout) as answer:
                    return ElementTree.fromstring(answer.read())
            except HTTPError as error:
                # In the words that `ErrorTranslator` reads.
                raise OSError(f"status code: {error.code} {error.read().decode(errors='replace')}") from None
            except (OSError, ElementTree.ParseError) as error:
                raise OSError(f"HTTP error: {error}") from None


def _object(contents: Element) -> Entry:
    return {
        "path": unquote_plus(contents.findtext("{*}Key", "")),
        "size": int(contents.findtext("{*}Size", "0")),
        "last_modified": datetime.fromisoformat(contents.findtext("{*}LastModified", "")),
        "e_tag": contents.findtext("{*}ETag"),
    }
