"""Trying a store in a folder of its own: what it can do, what it cannot, and how long it takes to answer.

The contract suite of `emdstore.testing` says whether an adapter keeps its promises. This says whether a *site* does: a
disk that folds case, a server whose clock is an hour ahead, credentials that may read and not write.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from emdstore import system
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    EmdstoreError,
    LookRefusedError,
    StoreAccessError,
    UnsupportedError,
)
from emdstore.keys import join_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import OWN_FOLDER
from emdstore.stores.place import place_of
from emdstore.stores.port import (
    ArtifactStore,
    SupportsCreate,
    SupportsDelete,
    SupportsInfo,
    SupportsReplaceIf,
    SupportsStreaming,
)
from emdstore.stores.views import scoped

Outcome = Literal["ok", "note", "problem"]

_SMALL, _LARGE = 20, 8 * 1024 * 1024
_CLOCK_SECONDS = 60.0
_IN_ORDER = ("A/b", "a-b", "a/b", "a0", "b", "ä/ö (°C)", "🌍")
_CASES = ("Case", "case")
_FORMS = tuple(unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@attrs.frozen
class Checked:
    """One thing that was tried.

    Attributes
    ----------
    name
        What was tried.
    outcome
        ``ok``; ``note``: it is as well to know; ``problem``: emdstore cannot be used like that.
    detail
        What was found.
    remedy
        What to do about it, if there is anything to be done.
    """

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""


def try_store(store: ArtifactStore) -> Iterator[Checked]:
    """Try a store: write, read, list, compare and remove, in a folder of its own below ``.emdstore/``.

    Parameters
    ----------
    store
        Any store. What is there is only listed, and at most its first artifact is read.

    Yields
    ------
    Checked
        One after the other, as each is tried. What a store refuses is told, not raised; if it cannot be read at all,
        or cannot be written, that is the last one. If it may not be listed, what can be done by name is tried. What was
        written is removed where the store can do that.
    """
    reading = _try("reading", lambda: _read(store))
    yield reading
    if reading.outcome == "problem":
        return
    folder = join_key(OWN_FOLDER, f"tried-{system.current().token(6)}")
    inside = scoped(store, folder)
    if reading.outcome == "note":
        yield from _try_unseen(inside, folder)
        return
    writing = _try("writing", lambda: _write(inside))
    yield writing
    if writing.outcome != "ok":
        return
    try:
        for name, attempt in _ATTEMPTS.items():
            yield _try(name, lambda attempt=attempt: attempt(inside))  # type: ignore[misc]
    finally:
        yield _try("removal", lambda: _remove(store, inside, folder))


def _try(name: str, attempt: Callable[[], Checked]) -> Checked:
    try:
        return attempt()
    except EmdstoreError as error:
        return Checked(name, "problem", str(error))


def _read(store: ArtifactStore) -> Checked:
    try:
        first = next(iter(store.iter_keys()), None)
    except LookRefusedError as error:
        return Checked("reading", "note", f"only what is named is reached: {error}", "to list, ask for s3:ListBucket")
    if first is None:
        return Checked("reading", "ok", "it is empty")
    try:
        _peek(store, first)
    except StoreAccessError as error:
        return Checked("reading", "problem", str(error), "ask for the permission to read what lies there")
    return Checked("reading", "ok", f"it can be listed and read: the first artifact is {first!r}")


def _peek(store: ArtifactStore, key: str) -> None:
    if isinstance(store, SupportsStreaming):
        with store.open_reader(key) as reader:
            reader.read(1)
    else:
        store.read_bytes(key)


def _write(inside: ArtifactStore) -> Checked:
    try:
        inside.write_bytes("small", b"emdstore")
    except (StoreAccessError, UnsupportedError) as error:
        return Checked(
            "writing", "note", f"for reading only: {error}", "to publish here, ask for the permission to write"
        )
    if (found := inside.read_bytes("small")) != b"emdstore":
        return Checked("writing", "problem", f"what was written reads as {found[:20]!r}", "do not use it for results")
    inside.write_bytes("small", b"")
    if inside.read_bytes("small") != b"" or not inside.exists("small") or inside.exists("absent"):
        return Checked("writing", "problem", "it mistakes what is empty for what is absent")
    return Checked("writing", "ok", "an artifact is written, read and replaced")


def _try_unseen(inside: ArtifactStore, folder: str) -> Iterator[Checked]:
    """Try a store that may not be listed: put something where nothing lies, read it by its name, remove it."""
    if not isinstance(inside, SupportsCreate):
        return
    try:
        inside.create_bytes("small", b"emdstore")
    except StoreAccessError as error:
        yield Checked("writing", "note", f"for reading only: {error}")
        return
    try:
        inside.read_bytes("small")
    except LookRefusedError:
        detail = "for writing only: new artifacts of up to 64 MiB arrive by name; a set is read while it is published"
        yield Checked("writing", "note", detail, "to publish sets here, ask for s3:GetObject")
    else:
        yield Checked("writing", "ok", "an artifact is created, and read by its name: named sets can be published")
    try:
        if isinstance(inside, SupportsDelete):
            inside.delete("small")
    except StoreAccessError:
        detail = f"whether the 8 bytes at '{folder}/small' are gone cannot be seen"
        yield Checked("removal", "note", detail, "have somebody remove them who may")


def _order(inside: ArtifactStore) -> Checked:
    for key in _IN_ORDER:
        inside.write_bytes(join_key("order", key), key.encode())
    found = list(scoped(inside, "order").iter_keys())
    if found == sorted(found, key=str.encode) and set(found) == set(_IN_ORDER):
        return Checked("listing", "ok", "complete at once, and in the order of bytes")
    lacking = sorted(set(_IN_ORDER) - set(found))
    what = f"it lacks {', '.join(map(repr, lacking))}" if lacking else f"it comes as {', '.join(map(repr, found))}"
    return Checked("listing", "problem", what, "sets could be overlooked: report this as a fault of the adapter")


def _cases(inside: ArtifactStore) -> Checked:
    return _apart(inside, "names", (*_CASES, *_FORMS))


def _apart(inside: ArtifactStore, name: str, keys: tuple[str, ...]) -> Checked:
    for number, key in enumerate(keys):
        inside.write_bytes(join_key(name, key), str(number).encode())
    folded = [key for number, key in enumerate(keys) if inside.read_bytes(join_key(name, key)) != str(number).encode()]
    if not folded:
        return Checked("names", "ok", "upper and lower case, and composed and decomposed letters, are told apart")
    return Checked(
        "names",
        "problem",
        "it takes different names for one: " + ", ".join(map(ascii, folded)),
        "use a file system that tells case and Unicode forms apart (on macOS: APFS, case-sensitive)",
    )


def _create_once(inside: ArtifactStore) -> Checked:
    if not isinstance(inside, SupportsCreate):
        return _no_condition("create-once")
    try:
        inside.create_bytes("created", b"first")
    except UnsupportedError:
        return _no_condition("create-once")
    try:
        inside.create_bytes("created", b"second")
    except ArtifactExistsError:
        return Checked("create-once", "ok", "of several writers one creates, and the others are told")
    return Checked(
        "create-once", "problem", "a second writer replaces what the first has created", "do not publish here at once"
    )


def _replace_if(inside: ArtifactStore) -> Checked:
    if not isinstance(inside, SupportsReplaceIf):
        return _no_condition("compare-and-put")
    inside.write_bytes("compared", b"one")
    try:
        inside.replace_bytes("compared", b"two", sha256_of(b"one"))
    except UnsupportedError:
        return _no_condition("compare-and-put")
    try:
        inside.replace_bytes("compared", b"three", sha256_of(b"one"))
    except ArtifactChangedError:
        return Checked("compare-and-put", "ok", "a writer that was overtaken changes nothing")
    return Checked("compare-and-put", "problem", "a writer that was overtaken replaces what is newer")


def _no_condition(name: str) -> Checked:
    return Checked(
        name,
        "note",
        "it has no conditional writes: what is there is read right before and right after instead",
        "let one writer at a time publish an execution here, as the catalog's claims see to",
    )


def _clock(inside: ArtifactStore) -> Checked:
    if not isinstance(inside, SupportsInfo):
        return Checked("times", "note", "it tells no sizes and times: what is unchanged is found by reading it")
    before = system.current().now().timestamp()
    inside.write_bytes("timed", b"now")
    after = system.current().now().timestamp()
    info = inside.info("timed")
    if info.size != len(b"now"):
        return Checked("times", "problem", f"it says that 3 bytes are {info.size}")
    if info.modified != info.modified:
        return Checked("times", "note", "it tells no times: what is unchanged is found by reading it")
    ahead = info.modified - after if info.modified > after else min(0.0, info.modified - before)
    if abs(ahead) > _CLOCK_SECONDS:
        word = "ahead of" if ahead > 0 else "behind"
        detail = f"its clock is {abs(ahead):.0f} s {word} this machine's"
        return Checked("times", "note", detail, "have both clocks set by NTP; --unchanged digest does not rely on them")
    return Checked("times", "ok", "its clock agrees with this machine's")


def _checksums(inside: ArtifactStore) -> Checked:
    if not isinstance(inside, SupportsInfo):
        return Checked("checksums", "note", "a listing has none")
    inside.write_bytes("summed", b"sum")
    if inside.info("summed").checksum is None:
        return Checked("checksums", "note", "a listing has none: --unchanged digest reads what is there")
    return Checked("checksums", "ok", "a listing proves what is unchanged, without reading it")


def _large(inside: ArtifactStore) -> Checked:
    machine = system.current()
    data = bytes(range(256)) * (_LARGE // 256)
    started = machine.monotonic()
    if isinstance(inside, SupportsStreaming):
        with inside.open_writer("large") as writer:
            for at in range(0, _LARGE, 1024 * 1024):
                writer.write(data[at : at + 1024 * 1024])
    else:
        inside.write_bytes("large", data)
    up = machine.monotonic() - started
    started = machine.monotonic()
    same = inside.read_bytes("large") == data
    down = machine.monotonic() - started
    if not same:
        return Checked("throughput", "problem", "8 MiB do not come back as they were written", "do not use it")
    rates = (f"{_LARGE / 1e6 / max(seconds, 1e-6):.0f} MB/s {way}" for way, seconds in (("up", up), ("down", down)))
    return Checked("throughput", "ok", f"{' and '.join(rates)}, for one artifact of 8 MiB")


def _small(inside: ArtifactStore) -> Checked:
    machine = system.current()
    started = machine.monotonic()
    for number in range(_SMALL):
        inside.write_bytes(join_key("many", str(number)), b"x" * 1000)
    each = (machine.monotonic() - started) / _SMALL * 1000
    most = place_of(inside).requests
    return Checked("small artifacts", "ok", f"{each:.1f} ms each, one after the other; up to {most} at a time")


def _remove(store: ArtifactStore, inside: ArtifactStore, folder: str) -> Checked:
    left = list(inside.iter_keys())
    if not isinstance(store, SupportsDelete):
        detail = f"it cannot remove: {len(left)} small artifacts stay in {folder!r}"
        return Checked("removal", "note", detail, "remove that folder by other means")
    with contextlib.suppress(UnsupportedError):
        for key in left:
            store.delete(join_key(folder, key))
    if left := list(inside.iter_keys()):
        return Checked(
            "removal", "note", f"{len(left)} artifacts stay in {folder!r}", "remove that folder by other means"
        )
    return Checked("removal", "ok", "what was written was removed")


_ATTEMPTS: dict[str, Callable[[ArtifactStore], Checked]] = {
    "listing": _order,
    "names": _cases,
    "create-once": _create_once,
    "compare-and-put": _replace_if,
    "times": _clock,
    "checksums": _checksums,
    "small artifacts": _small,
    "throughput": _large,
}
