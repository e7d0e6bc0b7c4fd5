"""The artifacts of a report: copied beside its pages, with small pictures and pages that are shown in a frame."""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterable, Mapping
from html import unescape
from urllib.parse import unquote

import attrs

from emdstore.catalog import ArtifactRow, ExecutionRow
from emdstore.errors import StoreUnavailableError
from emdstore.stores import ArtifactStore, scoped
from emdstore.transfers import KeyOutcome, digest_of, move
from emdstore.web.filed import FiledSite
from emdstore.web.places import framed_key
from emdstore.web.reading import Recheck
from emdstore.web.thumbnails import has_thumbnail, make_thumbnail

_FRAMED_POLICY = (
    b"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file: data: blob:; "
    b"style-src 'self' file: 'unsafe-inline' data:; font-src 'self' file: data:; script-src 'self' file: "
    b"'unsafe-inline'; form-action 'none'\">"
)
_BEFORE_HEAD = re.compile(
    rb"(?is)(?:\xef\xbb\xbf)?\s*(?:<!doctype[^>]*>)?\s*(?:<html[^>]*>)?\s*(?:<head(?:\s[^>]*)?>)?"
)
_PICTURE = re.compile(rb"""(?is)(?P<before><img\b[^>]*?\ssrc\s*=\s*(?P<quote>["']))(?P<name>.*?)(?=(?P=quote))""")
_HTML = ("text/html", "application/xhtml+xml")


@attrs.frozen
class Trouble:
    """An artifact that is not in the report, and why. Its page says so, too."""

    fragment: str
    key: str
    outcome: str
    detail: str


class FiledArtifacts:
    """Copies artifacts, except those that are missing or not as recorded, and counts both.

    Parameters
    ----------
    site
        Where to.
    results
        The results store.
    data
        Whether to copy data files, too.
    """

    def __init__(self, site: FiledSite, results: ArtifactStore, *, data: bool) -> None:
        self._site, self._results, self._data = site, results, data
        self.checks: dict[int, dict[str, Recheck]] = {}
        self.troubles: list[Trouble] = []
        self.files = self.bytes = 0

    def copy(self, row: ExecutionRow, listed: Iterable[ArtifactRow]) -> dict[str, Recheck]:
        """Copy an execution's artifacts, and return what was found of each."""
        artifacts = {each.key: each for each in listed}
        wanted = [key for key, each in artifacts.items() if self._data or each.role != "data"]
        folder = f"artifacts/{row.execution_id}"
        dest = scoped(self._site.dest, folder)
        outcomes = move(scoped(self._results, row.fragment), dest, wanted, unchanged="digest").outcomes
        if outcomes and all(isinstance(each.error, StoreUnavailableError) for each in outcomes):
            raise outcomes[0].error or StoreUnavailableError("the results store does not answer")
        checks = {key: Recheck("left out", "not part of this report") for key in artifacts.keys() - set(wanted)}
        for each in outcomes:
            check = _check(artifacts[each.key], each, dest)
            checks[each.key] = check
            if check.outcome in ("ok", "unrecorded"):
                self._site.written.add(f"{folder}/{each.key}")
                self.files, self.bytes = self.files + 1, self.bytes + (each.size or 0)
            else:
                self._site.dest.delete(f"{folder}/{each.key}")
                self.troubles.append(Trouble(row.fragment, each.key, check.outcome, check.detail))
        whole = {key: artifacts[key] for key, check in checks.items() if check.outcome in ("ok", "unrecorded")}
        types = {key: each.media_type or "" for key, each in whole.items()}
        images = {key: media_type for key, media_type in types.items() if media_type.startswith("image/")}
        copied = {each.key for each in outcomes if each.outcome == "copied"}
        for key in whole:
            if has_thumbnail(whole[key]):
                self._thumbnail(whole[key], dest, is_new=key in copied)
            if types[key] in _HTML:
                self._site.file(f"{folder}/{framed_key(key)}", _framed(dest.read_bytes(key), key, images, dest))
        self.checks[row.execution_id] = checks
        return checks

    def _thumbnail(self, picture: ArtifactRow, folder: ArtifactStore, *, is_new: bool) -> None:
        key = f"thumbnails/{picture.execution_id}/{picture.key}.webp"
        if is_new or key not in self._site.before:
            data = folder.read_bytes(picture.key)
            self._site.dest.write_bytes(key, make_thumbnail([data]) or data)
        self._site.written.add(key)


def _check(artifact: ArtifactRow, outcome: KeyOutcome, dest: ArtifactStore) -> Recheck:
    if outcome.outcome == "missing":
        return Recheck("missing", "the record names it, but it is not there")
    if outcome.outcome not in ("copied", "unchanged"):
        return Recheck("unreadable", str(outcome.error))
    if artifact.sha256 is None:
        return Recheck("unrecorded")
    digest = outcome.sha256 or digest_of(dest, outcome.key)[1]
    return Recheck("ok") if digest == artifact.sha256 else Recheck("corrupt", f"{outcome.size} bytes, SHA-256 {digest}")


def _framed(html: bytes, key: str, images: Mapping[str, str], folder: ArtifactStore) -> bytes:
    """Return an html output as it is shown in a frame.

    It may load nothing from elsewhere: a server would say so in a header, a file has to say it itself. And it has the
    set's pictures in it: what is in a frame has no origin, and may not read the files beside it.
    """
    if html[:2] in (b"\xff\xfe", b"\xfe\xff"):
        html = html.decode("utf-16", "replace").encode()
    start = _BEFORE_HEAD.match(html)
    at = start.end() if start is not None else 0

    def with_picture(found: re.Match[bytes]) -> bytes:
        name = unquote(unescape(found["name"].decode("utf-8", "replace")))
        picture = posixpath.normpath(posixpath.join(posixpath.dirname(key), name))
        if picture not in images:
            return found[0]
        content = base64.b64encode(folder.read_bytes(picture)).decode()
        return found["before"] + f"data:{images[picture]};base64,{content}".encode()

    return html[:at] + _FRAMED_POLICY + _PICTURE.sub(with_picture, html[at:])
