"""All links of the site.

They are relative, so that the site works at ``/``, below a path, from a bucket and from ``file://``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

import attrs

from emdstore.catalog import ArtifactRow
from emdstore.stores.checksums import sha256_of
from emdstore.web.thumbnails import has_thumbnail

Query = Mapping[str, str | Sequence[str]]


@attrs.frozen
class Places:
    """Links to pages, artifacts and the site's own files, as seen from one page.

    Attributes
    ----------
    root
        The path from the page to the site's root: ``""`` or ``"../"``.
    filed
        Whether pages are files, which link to each other by file name and filter their content in the browser.
    secret
        Signs the addresses of served artifacts, so that only visitors of its page know an address. That
        keeps other sites out, and lets a page in a sandboxed frame, which has no cookies, load the images beside it.
    """

    root: str = ""
    filed: bool = False
    secret: bytes = attrs.field(default=b"", repr=False)

    def overview(self, query: Query | None = None) -> str:
        """Return the link to the table of models and diagnostics, with which the site begins."""
        if self.filed:
            return self._address(overview_key(query or {}))
        return self._address("", query)

    def view(self, name: str, release: str = "") -> str:
        """Return the link to a view, of a release if one was asked for."""
        return self._page(f"view/{quote(name)}", {"release": release} if release else None)

    def executions(self, query: Query | None = None) -> str:
        """Return the link to the list of executions."""
        return self._page("executions", query)

    def execution(self, execution_id: int) -> str:
        """Return the link to the page of one execution."""
        return self._page(f"execution/{execution_id}")

    def diagnostic(self, provider: str, diagnostic: str, query: Query | None = None) -> str:
        """Return the link to the page of one diagnostic."""
        place = f"{provider}/{diagnostic}"
        if self.filed:
            also = "-incomplete" if query and "incomplete" in query else ""
            return self._address(f"diagnostic/{sha256_of(place.encode())[:16]}{also}.html")
        return self._page("diagnostic", {"d": place, **(query or {})})

    def diagnostic_form(self) -> str:
        """Return the address of the form on the page of a diagnostic."""
        return self._page("diagnostic")

    def group(self, provider: str, diagnostic: str, group: str, release: str = "") -> str:
        """Return the link to the page of a group, or, if it is served, to what a release has of it."""
        place = f"{provider}/{diagnostic}/{group}"
        if self.filed:
            return self._address(f"group/{sha256_of(place.encode())[:16]}.html")
        return self._page("group", {"g": place, **({"release": release} if release else {})})

    def changes(self, query: Query | None = None) -> str:
        """Return the link to what changed between two days."""
        return self._page("changes", query)

    def verdicts(self, query: Query | None = None) -> str:
        """Return the link to the comparison of two releases, groups or runs by verdict."""
        if self.filed:
            # In a report these are compared in one way only.
            told = [(query or {}).get(name, "") for name in ("a", "b")]
            page = int(str((query or {}).get("page", 1)))
            also = f"-{page}" if page > 1 else ""
            return self._address(f"verdicts/{sha256_of(repr(told).encode())[:16]}{also}.html")
        return self._page("verdicts", query)

    def releases(self) -> str:
        """Return the link to the list of releases."""
        return self._page("releases")

    def compare(self, query: Query | None = None) -> str:
        """Return the link to the comparison of executions."""
        return self._page("compare", query)

    def comparison(self, provider: str, diagnostic: str) -> str:
        """Return the link to the comparison of one diagnostic's executions."""
        place = f"{provider}/{diagnostic}"
        if self.filed:
            return self._address(f"compare/{sha256_of(place.encode())[:16]}.html")
        return self.compare({"d": place})

    def values(self, query: Query | None = None) -> str:
        """Return the link to the page of scalars."""
        return self._page("values", query)

    def values_of(self, provider: str, diagnostic: str, *, incomplete: bool = False) -> str:
        """Return the link to a report's scalars of a diagnostic, or of its incomplete sets, without the suffix."""
        also = "-incomplete" if incomplete else ""
        return self._address(f"values/{sha256_of(f'{provider}/{diagnostic}'.encode())[:16]}{also}")

    def export(self, query: Query | None = None, rows: str = "values", format: str = "csv") -> str:
        """Return the link to scalars (`values`), `series`, or the table of the `overview`, as a file."""
        return self._address(f"{rows}.{format}", query)

    def verify(self, execution_id: int) -> str:
        """Return the address for requests to hash artifacts again."""
        return self._address(f"execution/{execution_id}/verify")

    def asset(self, name: str, version: str) -> str:
        """Return the link to a file of the site itself; a browser keeps this version of it for good."""
        return self._address(f"static/{name}", None if self.filed else {"v": version})

    def artifact(self, execution_id: int, key: str, digest: str | None = None, *, framed: bool = False) -> str:
        """Return the link to an artifact; with its digest, a browser may cache it for good."""
        if self.filed:
            return self._address(f"artifacts/{execution_id}/{quote(framed_key(key) if framed else key)}")
        query = {"v": digest[:16]} if digest else None
        return self._address(f"artifacts/{execution_id}-{self.seal(execution_id)}/{quote(key)}", query)

    def thumbnail(self, picture: ArtifactRow) -> str:
        """Return the link to a small picture, or to the picture itself if that is small enough."""
        if not has_thumbnail(picture):
            return self.artifact(picture.execution_id, picture.key, picture.sha256)
        if self.filed:
            return self._address(f"thumbnails/{picture.execution_id}/{quote(picture.key)}.webp")
        address = self.artifact(picture.execution_id, picture.key, picture.sha256)
        return address + ("&" if "?" in address else "?") + "small=1"

    def seal(self, execution_id: int) -> str:
        """Return the signature that proves that an artifact's address comes from a page of this site."""
        return hmac.new(self.secret, str(execution_id).encode(), hashlib.sha256).hexdigest()[:32]

    def _page(self, name: str, query: Query | None = None) -> str:
        return self._address(f"{name}.html" if self.filed else name, query)

    def _address(self, path: str, query: Query | None = None) -> str:
        tail = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"{self.root}{path}" + tail if self.root or path else f"./{tail}"


def overview_key(query: Query) -> str:
    """Return the name of a report's table for a query."""
    told = urlencode(sorted(query.items()), doseq=True)
    return f"overview/{sha256_of(told.encode())[:16]}.html" if told else "index.html"


def framed_key(key: str) -> str:
    """Return the name of the copy of an html output that a report shows in a frame."""
    stem, dot, suffix = key.rpartition(".")
    return f"{stem}.framed.{suffix}" if dot and "/" not in suffix else f"{key}.framed.html"
