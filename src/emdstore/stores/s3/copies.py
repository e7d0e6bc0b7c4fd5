"""Copies that an S3 server makes between buckets, and of objects that are too large for one request.

The engine has neither. Nobody can tell beforehand whether a server does it and may: if it refuses, the bytes are
streamed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    SourceChangedError,
    StoreError,
    StoreUnavailableError,
)
from emdstore.stores.checksums import all_listed, listed
from emdstore.stores.objects.bucket import MOST_PARTS, in_quotes
from emdstore.stores.objects.copies import LARGEST_COPY, ServerCopies
from emdstore.stores.port import ArtifactInfo, Copied
from emdstore.stores.s3.bucket import SignedBucket, quoted
from emdstore.stores.s3.http import Answer, ServerConnection, asked_patiently, lent_connection
from emdstore.stores.s3.pages import page_between
from emdstore.stores.unfinished import forget_upload, note_upload

_log = logging.getLogger(__name__)

_PART = 256 * 1024 * 1024
_WORTH_LISTING = 4
_MORE = 4  # names that may lie between those that were copied
_AT_ONCE = 8
_SLOWEST = 50_000_000  # bytes a second that a server copies
_IN_PARTS = re.compile(r'"?(\w+)-(\d+)"?\Z').match
_BY_SERVER = Copied(None, None)
_KEPT = ("content-type", "content-encoding", "content-language", "content-disposition", "cache-control")


class SignedCopies(ServerCopies):
    """See `ServerCopies`; in one bucket."""

    _is_refused = False
    """Whether the server does not copy from where the source is."""

    def __init__(self, source: SignedBucket, dest: SignedBucket) -> None:
        super().__init__(source, dest)
        self._from, self._to = source, dest

    def copy_many(
        self, keys: Sequence[str], moved: Callable[[int], object] | None = None, /
    ) -> Iterator[Copied | EmdstoreError]:
        """See `CopiesMany.copy_many`: one listing proves all copies that bear the tags of their sources."""
        return self._together(keys, all_listed(), moved)  # which is forgotten when this returns

    def _together(
        self, keys: Sequence[str], known: Mapping[str, tuple[int, str]], moved: Callable[[int], object] | None
    ) -> Iterator[Copied | EmdstoreError]:
        made = self._ordered_together(known, moved) if self._may_show(len(known)) else {}
        there = self._shown(made)
        for key in keys:
            here, shown = known.get(key), there.get(key)
            if here is not None and shown is not None and shown in (here, (here[0], made[key])):
                yield _BY_SERVER
                continue
            try:
                if here is not None and key in made and self._is_copy(_info(key, *here), None, made[key]):
                    yield _BY_SERVER
                    continue
                with listed([] if here is None or key in made else [(key, *here)]):
                    copied = self.copy(key, moved)
                yield copied
            except EmdstoreError as error:
                yield error

    def _may_show(self, count: int) -> bool:
        """Tell whether a listing is worth its request, and may prove what the server has copied."""
        is_shown = self._to.tags_tell_content and self._to.connection.shows_copies
        return count >= _WORTH_LISTING and is_shown and not self._is_refused

    def _ordered_together(
        self, known: Mapping[str, tuple[int, str]], moved: Callable[[int], object] | None
    ) -> dict[str, str | None]:
        """Have the server copy one after the other, up to an error; return the tags that it says it gave the copies."""
        made: dict[str, str | None] = {}
        with contextlib.suppress(EmdstoreError):  # what failed and the rest are copied one by one; what comes is told
            for key, here in known.items():
                if moved is not None:
                    moved(0)
                made[key] = self._order(_info(key, *here))
        return made

    def _shown(self, keys: Collection[str]) -> dict[str, tuple[int, str]]:
        """Return the sizes and tags of copies that a listing shows."""
        if not keys:
            return {}
        server = self._to.connection
        names = {self._to.base + key: key for key in keys}
        try:
            page = page_between(self._to, min(names), max(names), len(names) + _MORE)
        except StoreError as error:
            _log.info("%r is not listed, so each copy in it is looked at: %s", self._to, error)
            server.shows_copies = False
            return {}
        found = {
            names[each["path"]]: (each["size"], in_quotes(each["e_tag"]) or "-")
            for each in page.objects
            if each["path"] in names
        }
        server.shows_copies = 2 * len(found) >= len(names)
        return found

    def _order(self, here: ArtifactInfo) -> str | None:
        # The copy of an object in parts gets another tag, so what the server says of it is needed.
        if "-" in (here.version or "") and _parts_of(here.version):
            return _copy_whole(self._from, self._to, here)
        return super()._order(here)

    def _copy_large(self, here: ArtifactInfo, moved: Callable[[int], object] | None) -> Copied:
        try:
            return self._in_parts(here, moved)
        except (ArtifactNotFoundError, StoreUnavailableError):
            raise
        except StoreError as error:
            _log.info("the server does not copy %r in parts, so it is streamed: %s", here.key, error)
            return self._stream(here.key, moved)

    def _in_parts(self, here: ArtifactInfo, moved: Callable[[int], object] | None) -> Copied:
        digest = self._digest(here.key)
        return self._proved(here, digest, copy_in_parts(self._from, self._to, here, moved))

    def _digest(self, key: str) -> str | None:
        """Return the SHA-256 that an object carries, where tags do not tell what it contains."""
        return None if self._to.tags_tell_content else self._digest_of(self._from, key)

    def _proved(self, here: ArtifactInfo, digest: str | None, made: str | None) -> Copied:
        if self._is_copy(here, digest, made):
            return Copied(None, None)
        # Where a bucket encrypts with keys of its own, not even the right bytes have the same tag.
        said = f"the copy of {here.key!r} in {self._to!r} is not like its source"
        raise StoreError(said, key=here.key, store=repr(self._to))


class CopiesBetweenBuckets(SignedCopies):
    """See `ServerCopies`: from one bucket to another."""

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """See `CopySession.copy`."""
        here = self._from.look_at(key)
        if not self._is_refused:
            try:
                digest = self._digest(key)
                if digest is None and not self._to.tags_tell_content:
                    return self._stream(key, moved)
                if here.size > LARGEST_COPY or (here.size > _PART and _parts_of(here.version)):
                    return self._in_parts(here, moved)
                return self._proved(here, digest, self._order(here))
            except StoreUnavailableError:
                raise
            except StoreError as error:
                _log.info("%r does not copy from %r, so the bytes are streamed: %s", self._to, self._from, error)
                self._is_refused = True
        return self._stream(key, moved)

    def _order(self, here: ArtifactInfo) -> str | None:
        return _copy_whole(self._from, self._to, here)


def _info(key: str, size: int, version: str) -> ArtifactInfo:
    return ArtifactInfo(key, size, math.nan, version)


def _copy_whole(source: SignedBucket, dest: SignedBucket, here: ArtifactInfo) -> str | None:
    """Have the server copy an object by one request, and return the tag that it says it gave the copy."""
    name, headers = dest.object_name(here.key), _source(source, here)
    dest = _patient(dest, here.size)
    said = _asked(dest, source, here, lambda server: server.put(name, {}, headers), "CopyObject")
    return in_quotes(said.get("ETag"))


def copy_in_parts(
    source: SignedBucket, dest: SignedBucket, here: ArtifactInfo, moved: Callable[[int], object] | None = None
) -> str | None:
    """Have the server copy an object part by part, several at once; it shows when all are there.

    Parameters
    ----------
    source, dest
        From where to where.
    here
        The version to copy.
    moved
        Called now and then with 0; if it raises, the copy ends.

    Returns
    -------
    str or None
        The tag that the server says it gave the copy; None if its answer was lost.

    Raises
    ------
    SourceChangedError
        If the object is replaced meanwhile.
    """
    name = dest.object_name(here.key)
    size, kept = _parts_and_headers(source, here)
    asked = partial(_asked, _patient(dest, size), source, here)
    upload = {
        "uploadId": asked(lambda server: server.post(name, {"uploads": ""}, kept), "InitiateMultipartUpload")[
            "UploadId"
        ]
    }
    note_upload(asked)

    def order(number: int) -> str:
        span = f"bytes={(number - 1) * size}-{min(number * size, here.size) - 1}"
        headers = {**_source(source, here), "x-amz-copy-source-range": span}
        query = {"partNumber": str(number), **upload}
        return asked(lambda server: server.put(name, query, headers), "CopyPart")["ETag"]

    try:
        tags = _in_parallel(order, -(-here.size // size), moved)
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        whole = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        with contextlib.suppress(ArtifactNotFoundError):  # the answer to an earlier attempt was lost
            made = asked(lambda server: server.post(name, upload, {}, whole), "CompleteMultipartUpload")
            return in_quotes(made.get("ETag"))
        return None
    except BaseException as error:
        with contextlib.suppress(EmdstoreError, OSError), ServerConnection(dest) as server:
            server.delete(name, upload)
        if isinstance(error, ArtifactNotFoundError):
            said = f"while {here.key!r} was copied, it was removed in {source!r}, or the upload in {dest!r}; try again"
            raise StoreUnavailableError(said, key=here.key, store=repr(dest)) from None
        raise
    finally:
        forget_upload(asked)


def _in_parallel(order: Callable[[int], str], count: int, moved: Callable[[int], object] | None) -> list[str]:
    with ThreadPoolExecutor(min(_AT_ONCE, count), thread_name_prefix="emdstore-copies") as pool:
        parts = [pool.submit(order, number) for number in range(1, count + 1)]
        try:
            for each in as_completed(parts):
                each.result()
                if moved is not None:
                    moved(0)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [each.result() for each in parts]


def _patient(bucket: SignedBucket, size: int) -> SignedBucket:
    """Return a bucket whose server may take as long for an answer as copying so many bytes takes."""
    return attrs.evolve(bucket, timeout=bucket.timeout + size / _SLOWEST)


def _asked(
    bucket: SignedBucket, source: SignedBucket, here: ArtifactInfo, ask: Callable[[ServerConnection], Answer], kind: str
) -> dict[str, str]:
    """Ask patiently, and return what the server says of what it has done."""

    def once() -> dict[str, str]:
        with bucket.errors.translating("copy", here.key):
            try:
                with lent_connection(bucket) as server:
                    return _said(ask(server), f"{kind}Result")
            except OSError as error:
                if not str(error).startswith("status code: 412"):
                    raise
                said = f"{here.key!r} in {source!r} was replaced while it was copied; run it again"
                raise SourceChangedError(said, key=here.key, store=repr(source)) from None

    return asked_patiently(bucket, once)


def _parts_and_headers(source: SignedBucket, here: ArtifactInfo) -> tuple[int, dict[str, str]]:
    """Return the size of the parts to copy, and what was uploaded with an object.

    In the same parts as the original the copy gets the same tag, which proves the bytes.
    """
    name, size = source.object_name(here.key), max(_PART, -(-here.size // MOST_PARTS))
    with ServerConnection(source) as server, source.errors.translating("look at", here.key):
        head = server.head(name).headers
        with contextlib.suppress(OSError, KeyError, ValueError, ZeroDivisionError):
            first = int(server.head(name, {"partNumber": "1"}).headers["content-length"])
            if -(-here.size // first) == _parts_of(here.version) and first <= LARGEST_COPY:
                size = first
    return size, {name: said for name, said in head.items() if name in _KEPT or name.startswith("x-amz-meta-")}


def _parts_of(tag: str | None) -> int:
    """Return in how many parts an object with this tag was uploaded; 0 if not in parts."""
    return int(found[2]) if (found := _IN_PARTS(tag or "")) else 0


def _source(bucket: SignedBucket, here: ArtifactInfo) -> dict[str, str]:
    name = quoted(f"/{bucket.name}/{bucket.object_name(here.key)}", "/")
    return {"x-amz-copy-source": name, **({"x-amz-copy-source-if-match": here.version} if here.version else {})}


def _said(answer: Answer, kind: str) -> dict[str, str]:
    """Return what an answer says; an error may come after a status of success."""
    try:
        root = ElementTree.fromstring(answer.body)
    except ElementTree.ParseError as error:
        raise OSError(f"HTTP error: the answer is not whole: {error}") from None
    if root.tag.rpartition("}")[2] != kind:
        raise OSError(f"HTTP error: the answer is no {kind}: {answer.body[:1000].decode(errors='replace')}")
    return {child.tag.rpartition("}")[2]: child.text or "" for child in root}
