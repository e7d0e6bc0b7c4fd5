"""A folder that WsgiDAV serves as Apache and nginx serve theirs.

By itself WsgiDAV removes what is there before it moves a file over it, and answers GET with the size and the ETag of
one file and the bytes of another one that has just replaced it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from wsgidav.fs_dav_provider import FileResource, FilesystemProvider


class _File(FileResource):
    """A file that was opened when it was looked at."""

    def __init__(self, path: str, environ: dict[str, Any], file: Path, root: Path) -> None:
        self._root, self._opened = root, file.open("rb")
        try:
            super().__init__(path, environ, str(file))
        except OSError:
            self._opened.close()
            raise
        self.file_stat = os.fstat(self._opened.fileno())

    def get_etag(self) -> str:
        told = self.file_stat
        return f"{told[stat.ST_INO]}-{told[stat.ST_MTIME]}-{told[stat.ST_SIZE]}"

    def get_content(self) -> BinaryIO:
        return self._opened

    def handle_move(self, dest_path: str) -> Any:
        """Rename the file, unless a folder is in its way."""
        target = self._root / dest_path.lstrip("/")
        if target.is_dir():
            return False
        Path(self._file_path).replace(target)
        return True


class Provider(FilesystemProvider):
    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> Any:
        root = Path(self.root_folder_path)
        file = root / path.strip("/")
        try:
            return _File(path, environ, file, root) if file.is_file() else super().get_resource_inst(path, environ)
        except FileNotFoundError:
            return None
