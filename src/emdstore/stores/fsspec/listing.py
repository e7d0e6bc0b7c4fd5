"""What lies in the folders of a file system of fsspec's, folder by folder, so that one folder's names are in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from emdstore.errors import ArtifactNotFoundError, InvalidKeyError
from emdstore.keys import is_staging, validate_key
from emdstore.stores.fsspec.folder import ChangedMeanwhileError, Folder

_log = logging.getLogger(__name__)

Found = tuple[str, Mapping[str, Any]]
"""A key, and what the file system says of the file."""


def iter_files(root: Folder, prefix: str) -> Iterator[Found]:
    """Yield the files below a prefix, by key."""
    here = root.open()
    here.fs.invalidate_cache()
    yield from _iter_folder(root, prefix + "/" if prefix else "")


def _iter_folder(root: Folder, folder: str) -> Iterator[Found]:
    """Yield the files below a folder, which is given with its slash."""
    found: dict[str, Mapping[str, Any]] = {}
    base = root.open().base + folder
    for entry in _list(root, base.rstrip("/"), folder):
        if not entry["name"].startswith(base):
            continue  # the folder itself, or a file of its name
        is_folder = entry["type"] == "directory"
        name = entry["name"][len(base) :]
        if is_folder:
            name = name.removesuffix("/")
        if is_staging(name) or entry["type"] not in ("directory", "file"):
            continue
        try:
            if "/" in validate_key(name):
                raise InvalidKeyError(f"not a name in {folder!r}: {name!r}")
            validate_key(folder + name)
        except InvalidKeyError as error:
            _log.warning("left out of the listing of %r: %s", root, error)
            continue
        # A folder sorts as its name plus "/", which is where its keys do.
        found[name + "/" if is_folder else name] = entry
    for name in sorted(found):
        if name.endswith("/"):
            yield from _iter_folder(root, folder + name)
        else:
            yield folder + name, found[name]


def _list(root: Folder, path: str, folder: str) -> list[Mapping[str, Any]]:
    while True:
        try:
            with root.translating("list", folder.rstrip("/")):
                return list(root.open().fs.ls(path, detail=True))
        except ArtifactNotFoundError:
            return []
        except ChangedMeanwhileError:
            continue
