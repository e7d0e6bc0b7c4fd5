"""Commands that look: what takes room, what one artifact is, how a store is laid out."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby, takewhile
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import (
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    Folder,
    NothingMatchedError,
    Output,
    WrongCallError,
    open_existing,
    refuse_empty,
)
from emdstore.cli.render import note, say, show_document, show_fields, show_left_out, show_table, size_text
from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, ExecutionNotFoundError
from emdstore.keys import join_key, key_below
from emdstore.selection import folders_above
from emdstore.sets.listing import iter_chosen, summary_of
from emdstore.sets.record import read_record
from emdstore.sets.retraction import Retraction, read_retraction
from emdstore.sets.state import look_at_set
from emdstore.sets.usage import By, Usage, usage
from emdstore.stores import ArtifactInfo, ArtifactStore, SupportsInfo, SupportsStreaming
from emdstore.stores.left_out import FirstLeftOut
from emdstore.stores.port import CHUNK_SIZE
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of


def du(
    store: str,
    prefix: Folder = "",
    /,
    *,
    by: By = "provider",
    choosing: Choosing = ANYTHING,
    accept_left_out: AcceptLeftOut = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Tell how much room a store's sets take, the largest first: by provider, diagnostic, group, set or role.

    Parameters
    ----------
    store
        The store.
    prefix
        Only this folder.
    by
        What to count by. What no record names is counted by itself.
    """
    opened, selection = open_existing(store, access), choosing.selection(names=choosing.names())
    if not isinstance(opened, SupportsInfo):
        raise WrongCallError(f"{opened!r} does not tell sizes")
    left_out = FirstLeftOut()
    found = usage(opened, prefix, by, selection=selection, left_out=left_out.note)
    refuse_unmatched(len(found) + len(left_out.kept), selection, "artifact", store=repr(opened))
    refuse_empty(len(found) + len(left_out.kept), prefix, "artifact", store=repr(opened))
    code = int(bool(left_out.kept) and not accept_left_out)
    total = Usage("total", 0, sum(each.artifacts for each in found), sum(each.bytes for each in found))
    if output.json:
        told = [each.as_dict() for each in left_out.kept]
        counts = {"artifacts": total.artifacts, "bytes": total.bytes}
        return show_document("du", {"counts": counts, "by": by, "usage": found, "left_out": told}, code)
    rows: list[tuple[object, ...]] = [
        (each.name, each.sets, each.artifacts, each.bytes, size_text(each.bytes)) for each in found
    ]
    rows.append((total.name, None, total.artifacts, total.bytes, size_text(total.bytes)))
    show_table((by, "sets", "artifacts", "bytes", "size"), rows)
    show_left_out(left_out.kept)
    return code


def cat(
    store: str,
    key: Folder,
    /,
    *,
    pretty: bool = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Write an artifact's bytes to stdout; with --json its text in the document, or its bytes as base64.

    Parameters
    ----------
    store
        The store.
    key
        The artifact.
    pretty
        Lay JSON out, such as a bundle or a record.
    """
    opened = open_existing(store, access)
    _warn_if_retracted(opened, key)
    try:
        return _write_out(opened, key, pretty=pretty, output=output)
    except ArtifactNotFoundError as error:
        raise NothingMatchedError(f"there is no artifact {key!r} in {opened!r}", key=key) from error


def _write_out(opened: ArtifactStore, key: str, *, pretty: bool, output: Output) -> int:
    if pretty:
        try:
            value = json.loads(opened.read_bytes(key))
        except ValueError as error:
            raise WrongCallError(f"{key!r} is not JSON: leave out --pretty", key=key) from error
        if output.json:
            return show_document("cat", {"key": key, "encoding": "json", "content": value})
        print(json.dumps(value, indent=2))
        return 0
    if output.json:
        return show_document("cat", {"key": key} | _content(opened.read_bytes(key)))
    sys.stdout.flush()
    if not isinstance(opened, SupportsStreaming):
        sys.stdout.buffer.write(opened.read_bytes(key))
    else:
        with opened.open_reader(key) as reader:
            while chunk := reader.read(CHUNK_SIZE):
                sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    return 0


def _content(data: bytes) -> dict[str, str]:
    try:
        return {"encoding": "utf-8", "content": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "content": b64encode(data).decode()}


def stat(store: str, key: Folder, /, *, access: Access = ANY, output: Output = PLAIN) -> int:
    """Tell what an artifact is: its size, times and digest, and what the record of its set says of it.

    The bytes are read and hashed. Of a set's folder its state is told. Exit code 1 if they are not as recorded.

    Parameters
    ----------
    store
        The store.
    key
        The artifact, or a set's folder.
    """
    opened = open_existing(store, access)
    try:
        digest = digest_of(opened, key)
    except ArtifactNotFoundError:
        return _stat_set(opened, key, output)
    facts: dict[str, Any] = {"key": key, "size": digest[0], "sha256": digest[1]}
    if isinstance(opened, SupportsInfo):
        facts |= _told_by(opened.info(key))
    facts |= _recorded(opened, key)
    code = int(facts.get("as_recorded") is False)
    if output.json:
        return show_document("stat", {"artifacts": [facts]}, code)
    show_fields({name.replace("_", " "): value for name, value in facts.items()})
    return code


def _stat_set(store: ArtifactStore, folder: str, output: Output) -> int:
    try:
        found = summary_of(look_at_set(store, folder, bundles=False))
    except ExecutionNotFoundError as error:
        raise NothingMatchedError(f"there is no artifact and no set {folder!r} in {store!r}", key=folder) from error
    if output.json:
        return show_document("stat", {"artifacts": [found]})
    facts = {name: value for name, value in attrs.asdict(found, recurse=False).items() if value is not None}
    if found.retraction is not None:
        facts["retraction"] = _retracted_text(found.retraction)
    show_fields(facts)
    return 0


def _told_by(info: ArtifactInfo) -> dict[str, Any]:
    from emdstore.cli.stores import time_of

    return {"modified": time_of(info.modified), "version": info.version, "checksum": info.checksum}


def _recorded(store: ArtifactStore, key: str) -> dict[str, Any]:
    """Return what the record of the set in which a key lies says of it."""
    for folder in (*folders_above(key), ""):
        record = read_record(scoped(store, folder))
        if record is None:
            continue
        inside = key_below(key, folder)
        named = next((each for each in record.artifacts if each.key == inside), None)
        word = "it is the record" if inside == RECORD_NAME else "not named by the record" if named is None else None
        about: dict[str, Any] = {"set": record.fragment, "state": record.state, "role": word}
        if (retraction := read_retraction(store, folder)) is not None:
            about["retracted"] = _retracted_text(retraction)
        if named is not None:
            about |= {"role": named.role, "recorded_sha256": named.sha256, "media_type": named.media_type}
            about["as_recorded"] = digest_of(store, join_key(folder, named.key)) == (named.size, named.sha256)
        return about
    return {}


def _retracted_text(retraction: Retraction) -> str:
    return retraction.reason + (f"; use {retraction.successor}" if retraction.successor else "")


def _warn_if_retracted(store: ArtifactStore, key: str) -> None:
    """Warn if an artifact belongs to a retracted set; without the right to look, show it all the same."""
    for folder in folders_above(key):
        with suppress(EmdstoreError):
            if (retraction := read_retraction(store, folder)) is not None:
                note(f"{folder} is retracted: {_retracted_text(retraction)}")


def tree(
    store: str,
    prefix: Folder = "",
    /,
    *,
    depth: Annotated[int, Parameter(alias="-d")] = 0,
    choosing: Choosing = ANYTHING,
    accept_left_out: AcceptLeftOut = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Show how a store is laid out: folders, indented, with the artifacts in each.

    Parameters
    ----------
    store
        The store.
    prefix
        Only this folder.
    depth
        Only so many levels of folders; below them artifacts are counted. 0 for all.
    """
    opened, selection = open_existing(store, access), choosing.selection(names=choosing.names())
    left_out = FirstLeftOut()
    listed = iter_chosen(opened, prefix, selection, left_out=left_out.note)
    lines = list(_lines((each if isinstance(each, str) else each.key for each in listed), prefix, depth))
    refuse_unmatched(len(lines) + len(left_out.kept), selection, "artifact", store=repr(opened))
    refuse_empty(len(lines) + len(left_out.kept), prefix, "artifact", store=repr(opened))
    code = int(bool(left_out.kept) and not accept_left_out)
    if output.json:
        told = [each.as_dict() for each in left_out.kept]
        entries = [{"level": level, "name": name, "artifacts": count} for level, name, count in lines]
        return show_document("tree", {"entries": entries, "left_out": told}, code)
    for level, name, count in lines:
        say("  " * level + name + (f"  ({count})" if count is not None else ""))
    show_left_out(left_out.kept)
    return code


def _lines(keys: Iterable[str], prefix: str, depth: int) -> Iterator[tuple[int, str, int | None]]:
    """Yield level and name of each folder and artifact; of a folder that is not opened also how much it holds."""
    before: list[str] = []
    for (shown, is_closed), together in groupby(_cut(key_below(key, prefix).split("/"), depth) for key in keys):
        folders = list(shown if is_closed else shown[:-1])
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(folders, before, strict=False)))
        for level in range(common, len(folders) - is_closed):
            yield level, folders[level] + "/", None
        count = sum(1 for _ in together)
        yield (len(folders) - 1, shown[-1] + "/", count) if is_closed else (len(folders), shown[-1], None)
        before = folders


def _cut(parts: list[str], depth: int) -> tuple[tuple[str, ...], bool]:
    return (tuple(parts[:depth]), True) if depth and len(parts) > depth else (tuple(parts), False)
