"""Where things are: the one place that makes links.

All links are relative, so that a site works at ``/``, below a path, from a bucket and from ``file://``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

import attrs

from emdstore.stores.checksums import sha256_of

Query = Mapping[str, str | Sequence[str]]


@attrs.frozen
class Places:
    """Where pages, artifacts and the site's own files are, as seen from one page.

    Attributes
    ----------
    root
        The way from the page to the site's root: ``""`` or ``"../"``.
    filed
        Whether pages are files, which link to each other by file name and filter what they show in the browser.
    secret
        Seals the addresses of artifacts where they are served: only a visitor who saw its page knows an address. That
        keeps other sites out, and lets a page of a sandboxed frame, which has no cookies, load the images beside it.
    """

    root: str = ""
    filed: bool = False
    secret: bytes = attrs.field(default=b"", repr=False)

    def executions(self, query: Query | None = None) -> str:
        """Return where the list of executions is."""
        return self._page("index" if self.filed else "", query)  # empty: the folder that all else lies in

    def execution(self, execution_id: int) -> str:
        """Return where the page of one execution is."""
        return self._page(f"execution/{execution_id}")

    def compare(self, query: Query | None = None) -> str:
        """Return where executions are compared."""
        return self._page("compare", query)

    def comparison(self, provider: str, diagnostic: str) -> str:
        """Return where the executions of one diagnostic are compared."""
        place = f"{provider}/{diagnostic}"
        if self.filed:
            return self._address(f"compare/{sha256_of(place.encode())[:16]}.html")
        return self.compare({"d": place})

    def values(self, query: Query | None = None) -> str:
        """Return where scalars are looked through."""
        return self._page("values", query)

    def export(self, query: Query | None = None) -> str:
        """Return where scalars are to be had as CSV."""
        return self._address("values.csv", query)

    def verify(self, execution_id: int) -> str:
        """Return where to ask for artifacts to be hashed again."""
        return self._address(f"execution/{execution_id}/verify")

    def asset(self, name: str) -> str:
        """Return where a file of the site itself is."""
        return self._address(f"static/{name}")

    def artifact(self, execution_id: int, key: str, digest: str | None = None, *, framed: bool = False) -> str:
        """Return where an artifact is; with the digest of its content, a browser may keep it for good."""
        if self.filed:
            return self._address(f"artifacts/{execution_id}/{quote(framed_key(key) if framed else key)}")
        query = {"v": digest[:16]} if digest else None
        return self._address(f"artifacts/{execution_id}-{self.seal(execution_id)}/{quote(key)}", query)

    def seal(self, execution_id: int) -> str:
        """Return what proves that the address of an artifact was taken from a page of this site."""
        return hmac.new(self.secret, str(execution_id).encode(), hashlib.sha256).hexdigest()[:32]

    def _page(self, name: str, query: Query | None = None) -> str:
        return self._address(f"{name}.html" if self.filed else name, query)

    def _address(self, path: str, query: Query | None = None) -> str:
        tail = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"{self.root}{path}" + tail if self.root or path else f"./{tail}"


def framed_key(key: str) -> str:
    """Return the name of the copy of an html output that a written report shows in a frame."""
    stem, dot, suffix = key.rpartition(".")
    return f"{stem}.framed.{suffix}" if dot and "/" not in suffix else f"{key}.framed.html"
