"""Listing an fsspec file system folder by folder, with the names of one folder in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emdstore.errors import ArtifactNotFoundError, StoreAccessError, StoreError, StoreUnavailableError
from emdstore.keys import in_folder, is_staging, why_invalid
from emdstore.stores.fsspec.folder import ChangedMeanwhileError, Folder
from emdstore.stores.port import ArtifactInfo, LeftOut
from emdstore.stores.races import races

Found = tuple[str, Mapping[str, Any]]
"""A key, and the file system's info of the file."""


def iter_files(root: Folder, prefix: str) -> Iterator[Found | LeftOut]:
    """Yield the files below a prefix in the order of their keys, and what else lies there."""
    root.open().fs.invalidate_cache()
    if (listed := root.manifest()) is not None:
        for key in sorted(listed, key=str.encode):
            if in_folder(key, prefix):
                yield key, {"name": root.open().path_of(key), "size": None, "type": "file"}
        return
    yield from _iter_folder(root, prefix + "/" if prefix else "")


def iter_infos(root: Folder, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
    """Yield the infos of the files below a prefix in the order of their keys, and what else lies there."""
    for found in iter_files(root, prefix):
        if isinstance(found, LeftOut):
            yield found
            continue
        with root.translating("look at", found[0]):
            info = root.describe(*found)
        yield info


def _iter_folder(root: Folder, folder: str) -> Iterator[Found | LeftOut]:
    """Yield what is below a folder, given with a slash at its end."""
    found: dict[str, Mapping[str, Any]] = {}
    here = root.open()
    base = here.path_of(folder)
    for entry in _list(root, base.rstrip("/"), folder):
        if entry["name"].rstrip("/") == base.rstrip("/"):
            continue  # the folder itself, or a file of its name
        if not entry["name"].startswith(base):
            raise StoreError(
                f"cannot list {folder.rstrip('/')!r} in {root!r}: {entry['name']!r} does not lie in {base!r}",
                key=folder.rstrip("/") or None,
                store=root.name,
            )
        kind = entry["type"]
        name = here.name_of(entry["name"], base)
        if kind == "directory":
            name = name.removesuffix("/")
        if is_staging(name):
            continue
        if (reason := why_invalid(folder + name)) is not None:
            if name.endswith("/") and not entry.get("size"):
                continue  # a marker for a folder
            yield LeftOut(folder + name + ("/" if kind == "directory" else ""), f"is no key: {reason}")
        elif "/" in name:
            yield LeftOut(folder + name, "is no name in its folder")
        elif kind == "directory":
            found[name + "/"] = entry  # a folder sorts as its name plus "/", which is where its keys do
        elif kind == "file":
            found[name] = entry
        else:
            yield LeftOut(folder + name, f"is neither a file nor a folder, but {kind!r}")
    for name in sorted(found):
        if not name.endswith("/"):
            yield folder + name, found[name]
            continue
        try:
            yield from _iter_folder(root, folder + name)
        except StoreAccessError as error:
            if error.key != folder + name[:-1]:
                raise
            yield LeftOut(folder + name, "cannot be read: permission denied", error)


def _list(root: Folder, path: str, folder: str) -> list[Mapping[str, Any]]:
    for _ in races():
        try:
            with root.translating("list", folder.rstrip("/")):
                listed = list(root.open().fs.ls(path, detail=True))
        except ArtifactNotFoundError:
            return []
        except ChangedMeanwhileError:
            continue
        except StoreAccessError as error:
            if not root.is_web:
                raise
            raise StoreAccessError(
                f"{error}; a site without index pages is read by the list of its files that its publisher puts beside "
                "them: `emdstore manifest FOLDER > FOLDER/SHA256SUMS`",
                key=error.key,
                store=root.name,
            ) from None
        if all(isinstance(each, Mapping) and isinstance(each.get("name"), str) and "type" in each for each in listed):
            return listed
        raise StoreError(
            f"cannot list {folder.rstrip('/')!r} in {root!r}: what its file system answers is no listing",
            key=folder.rstrip("/") or None,
            store=root.name,
        )
    raise StoreUnavailableError(
        f"{folder!r} in {root!r} changes again and again while it is listed", key=folder or None, store=root.name
    )
