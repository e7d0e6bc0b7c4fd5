"""A folder that holds the site's pages as files."""

from __future__ import annotations

from typing import Any

from emdstore.catalog import Query as Rows
from emdstore.errors import ArtifactNotFoundError
from emdstore.stores import LocalArtifactStore
from emdstore.web.places import Places
from emdstore.web.site import OWN_FILES, own_file, render


class FiledSite:
    """Writes pages and other files, unless they are there as they are to be, and remembers which it wrote.

    Parameters
    ----------
    dest
        The folder.
    before
        What an earlier report wrote there.
    """

    def __init__(self, dest: LocalArtifactStore, before: set[str]) -> None:
        self.dest, self.before = dest, before
        self.written: set[str] = set()

    def page(self, key: str, template: str, **values: object) -> None:
        """Write the page that a template makes of values."""
        places = Places(root="../" * key.count("/"), filed=True)
        self.file(key, render(template, places, **values).encode())

    def file(self, key: str, content: bytes) -> None:
        """Write a file, unless it is there as it is to be."""
        if key not in self.before or not self._is(key, content):
            self.dest.write_bytes(key, content)
        self.written.add(key)

    def _is(self, key: str, content: bytes) -> bool:
        try:
            return self.dest.read_bytes(key) == content
        except ArtifactNotFoundError:
            return False

    def own_files(self) -> None:
        """Write the site's script and style sheet."""
        for name in OWN_FILES:
            self.file(f"static/{name}", own_file(name) or b"")

    def export(self, key: str, query: Rows[Any]) -> None:
        """Write rows as CSV."""
        with self.dest.open_writer(key) as file:
            for piece in query.export("csv", for_spreadsheets=True):
                file.write(piece)
        self.written.add(key)
