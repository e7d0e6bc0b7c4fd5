"""The ground that SFTP stands on: one folder of the server, nothing outside of which is read or written.

SFTP has no descriptors of folders, relative to which names could be opened: every request names a whole path, and the
server follows the links in it. So whatever is read or written is looked at in the moment before: each folder on the way
once (and again after a few seconds), and with every artifact where its path really leads.

What that proves: a link that is there leads nowhere outside of the root. What it cannot prove: that nobody swaps a
folder for a link between that look and the next request. Who can do that may write in the root by themselves; they
could have an artifact read, or an unfinished file made, outside of it, with the permissions of the account that is
logged in. A finished artifact is put in place only if a look that was asked together with its unfinished file shows the
folder inside.
"""

from __future__ import annotations

import errno
from typing import Literal, NoReturn

from emdstore import system
from emdstore.errors import (
    EmdstoreError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
    UnsupportedError,
    redact,
)
from emdstore.keys import shown_name
from emdstore.stores.races import races
from emdstore.stores.ssh import side
from emdstore.stores.ssh.sftp import wire
from emdstore.stores.ssh.sftp.client import Client, Gate, GivenUpError, Lost, Steps
from emdstore.stores.ssh.sftp.wire import Answer, Attributes, Names, Request, Status, WireError
from emdstore.stores.system_errors import error_of_errno

Durability = Literal["system", "object"]

_YOUNG_SECONDS = 3.0  # a second that is not over, and how far two clocks may differ
_KNOWN_SECONDS = 5.0
_MOST_KNOWN = 4096


class Ground:
    """A folder of an SFTP server.

    Parameters
    ----------
    client
        The connection.
    root
        The folder: an absolute path, or one relative to the user's home; ``"."`` is the home. It need not exist, and
        may be a link.
    name
        The store, as errors name it.
    durability
        See `emdstore.stores.LocalArtifactStore`.

    Attributes
    ----------
    unfinished
        The unfinished files that are there now, as the server calls them.
    """

    def __init__(self, client: Client, root: str, name: str, durability: Durability) -> None:
        self.client, self.top, self.name, self.durability = client, root, name, durability
        self._base = {".": "", "/": "/"}.get(root, root + "/")
        self.unfinished: set[str] = set()
        self._real: str | None = None
        self._known: dict[str, float] = {}
        self._gates: dict[tuple[str, bool], Gate] = {}
        self._ahead: float | None = None  # how many seconds the server's clock is ahead

    def __repr__(self) -> str:
        return self.name

    def path(self, key: str) -> str:
        """Return what the server calls a key or a folder; ``""`` is the root."""
        return self._base + key if key else self.top

    def has(self, extension: str) -> bool:
        """Tell whether the server offers an extension."""
        return extension in self.client.extensions

    def telling(self, key: str) -> Telling:
        """Return a context in which what went wrong with the connection becomes an error of ours."""
        return Telling(self.name, key)

    # -- folders ---------------------------------------------------------------------------------------------------

    def knows(self, folder: str) -> bool:
        """Tell whether a folder was looked at a moment ago."""
        return system.current().monotonic() < self._known.get(folder, 0.0)

    def note(self, folder: str) -> None:
        """Note that each folder on the way to this one, and this one, is a folder inside of the root."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[folder] = system.current().monotonic() + _KNOWN_SECONDS

    def forget(self, folder: str) -> None:
        """Forget what was known of a folder."""
        self._known.pop(folder, None)

    def enter(self, folder: str, key: str, *, create: bool = False) -> Steps[None]:
        """Look at each folder on the way, as `visit` does, unless that was done a moment ago, or is being done."""
        if self.knows(folder):
            return
        gate = self._gates.get((folder, create))
        if gate is not None:
            yield gate
            if not self.knows(folder):  # what was found out is an error, and each has its own
                yield from self.visit(folder, key, create=create)
            return
        self._gates[folder, create] = gate = Gate()
        try:
            yield from self.visit(folder, key, create=create)
        finally:
            self._gates.pop((folder, create), None)
            self.client.open(gate)

    def visit(self, folder: str, key: str, *, create: bool = False) -> Steps[None]:
        """Look at each folder on the way to a key, and make those that are missing, if asked.

        Raises
        ------
        ArtifactNotFoundError
            If one is missing, or is none, and none is to be made.
        KeyConflictError
            If one is to be made where something else lies.
        UnsafePathError
            If a link leads out.
        """
        way = [folder[:at] for at, letter in enumerate(folder) if letter == "/"] + ([folder] if folder else [])
        refused: Answer | None = None
        for turn in races():
            top, real, *there = yield [
                wire.stat_of(self.top),
                wire.real_path(self.top),
                *(wire.lstat(self.path(each)) for each in way),
            ]
            if is_absent(top) or is_absent(real):
                if not create:
                    raise side.not_found(key, self.name)
                if refused is not None:
                    yield from self.refuse(refused, _MAKING[0], key)
                refused = yield from self._make_root()
                continue
            self._take_root(top, real, key)
            missing = yield from self._first_missing(way, there, key, create=create)
            if missing is None:
                self.note(folder)
                return
            if not create:
                raise side.not_found(key, self.name)
            if turn > 1 and refused is not None:
                yield from self.refuse(refused, _MAKING[1], key)
            made = yield [wire.make_folder(self.path(each)) for each in way[missing:]]
            if all(map(is_ok, made)):
                self.note(folder)
                return
            first: Answer = next(each for each in made if not is_ok(each))
            if not is_failure(first):  # which may mean that another writer has made it
                yield from self.refuse(first, _MAKING[1], key)
            refused = first
        raise StoreUnavailableError(f"{folder!r} in {self.name} is removed again and again", key=key, store=self.name)

    def _take_root(self, top: Answer, real: Answer, key: str) -> None:
        if not isinstance(top, Attributes):
            raise self.error_of(top, "look at", key)
        if not top.is_folder and top.mode is not None:
            raised = StoreError(
                f"the root of {self.name} is not a folder; choose another one, or move away what is there",
                key=key or None,
                store=self.name,
            )
            raised.errno = errno.ENOTDIR
            raise raised
        self._real = self._text_of(real, key)

    def _make_root(self) -> Steps[Answer | None]:
        """Make the root and what is missing above it; return the server's last word if it refused."""
        parts = self.top.split("/")
        folders = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        made = yield [wire.make_folder(each) for each in folders if each not in ("", ".")]
        if not made:  # a home, which others have to make
            return Status(wire.NO_SUCH_FILE, "")
        return None if is_ok(made[-1]) else made[-1]

    def _first_missing(self, way: list[str], there: list[Answer], key: str, *, create: bool) -> Steps[int | None]:
        for at, (folder, found) in enumerate(zip(way, there, strict=True)):
            if not isinstance(found, Attributes):
                if is_absent(found):
                    return at
                raise self.error_of(found, "look at", key)
            if found.is_link:
                target = yield from self.follow(folder, key)
                if target is None:
                    if not create:
                        raise side.not_found(key, self.name)
                    raise KeyConflictError(
                        f"cannot hold {key!r} in {self.name}: {folder!r} is a link that leads nowhere; remove it",
                        key=key,
                        store=self.name,
                    )
                found = target
            if not found.is_folder and found.mode is not None:
                if create:
                    raise side.is_below_artifact(key, folder, self.name)
                raise side.not_found(key, self.name)
        return None

    # -- links -----------------------------------------------------------------------------------------------------

    def follow(self, place: str, key: str) -> Steps[Attributes | None]:
        """Return what a link leads to, None if to nothing; refuse one that leads out of the root."""
        real, there = yield self.ask_for_target(place)
        return (yield from self.judge(place, key, real, there))

    def ask_for_target(self, place: str) -> list[Request]:
        """Return the request that follows a link."""
        return [wire.real_path(self.path(place)), wire.stat_of(self.path(place))]

    def judge(self, place: str, key: str, real: Answer, there: Answer) -> Steps[Attributes | None]:
        """Return what a link leads to, from the answers to `ask_for_target`; see `follow`."""
        if isinstance(real, Names):
            yield from self.check(real, key, of_link=place)
        elif not is_absent(real):
            raise self.error_of(real, "follow a link to", key)
        if isinstance(there, Attributes) and isinstance(real, Names):
            return there
        if isinstance(there, Attributes) or is_absent(there) or is_failure(there):  # which may be too many links
            return None
        raise self.error_of(there, "follow a link to", key)

    def check(self, real: Answer, key: str, *, of_link: str | None = None) -> Steps[str]:
        """Return where something really is, if that is inside of the root, and `UnsafePathError` otherwise."""
        where = self._text_of(real, key)
        if self._real is None or not _lies_in(where, self._real):  # or the root is a link that was changed
            self._real = self._text_of((yield wire.real_path(self.top)), key)
            if not _lies_in(where, self._real):
                raise side.leads_out(key, self.name)
        if of_link is not None and where == f"{self._real.rstrip('/')}/{of_link}":
            raise UnsafePathError(
                f"{key!r} in {self.name} is reached through a link, and the server does not tell where it leads; put "
                "the file itself there instead",
                key=key,
                store=self.name,
            )
        return where

    def _text_of(self, real: Answer, key: str) -> str:
        if isinstance(real, Names) and len(real.names) == 1:
            return real.names[0][0]
        if isinstance(real, Status):
            raise self.error_of(real, "look at", key)
        raise WireError("no path, where one was asked for")

    # -- artifacts -------------------------------------------------------------------------------------------------

    def look(self, key: str) -> Steps[Attributes]:
        """Return what is known of the artifact at a key; `ArtifactNotFoundError` if there is none."""
        yield from self.enter(key.rpartition("/")[0], key)
        found, real = yield [wire.lstat(self.path(key)), wire.real_path(self.path(key))]
        if not isinstance(found, Attributes):
            raise self.error_of(found, "look at", key)
        if found.is_link:
            target = yield from self.follow(key, key)
            if target is None:
                raise side.not_found(key, self.name)
            found = target
        else:
            yield from self.check(real, key)
        if not found.is_file:
            raise side.not_found(key, self.name)
        return found

    # -- times -----------------------------------------------------------------------------------------------------

    @property
    def wants_time(self) -> bool:
        """Whether nothing is known of the server's clock yet; a file that was just made there tells."""
        return self._ahead is None

    def learn_time(self, answer: Answer) -> None:
        """Learn from a file that was just made what time it is over there."""
        if isinstance(answer, Attributes) and answer.modified is not None:
            self._ahead = answer.modified - system.current().now().timestamp()

    def is_young(self, found: Attributes) -> bool:
        """Tell whether a file may be written again without another time of modification, which is in whole seconds."""
        now = system.current().now().timestamp() + (self._ahead or 0.0)
        return found.modified is None or found.modified > now - _YOUNG_SECONDS

    # -- errors ----------------------------------------------------------------------------------------------------

    def refuse(self, status: Answer, verb: str, key: str) -> Steps[NoReturn]:
        """Raise the error that says what the server's answer means, after a look at what it does not say."""
        room = None
        if isinstance(status, Status) and status.code == wire.FAILURE and self.has(wire.STATVFS):
            told = yield wire.statvfs(self.top)
            if isinstance(told, wire.Reply):
                room = wire.room_of(told)
        raise self.error_of(status, verb, key, room)

    def error_of(self, status: Answer, verb: str, key: str, room: wire.Room | None = None) -> EmdstoreError:
        """Return the error that says what the server's answer means."""
        if not isinstance(status, Status) or status.code == wire.OK:
            raise WireError(f"{type(status).__name__} is no answer to what was asked")
        if status.code == wire.NO_SUCH_FILE and verb not in _MAKING:
            return side.not_found(key, self.name)
        said = redact(shown_name(status.text)[:200]).strip().rstrip(".") or f"error {status.code}"
        if (number := _number_of(status, room)) is not None:
            return error_of_errno(number, said, key, self.name, verb)
        kind, advice = _MEANINGS.get(status.code, _MEANINGS[wire.FAILURE])
        what = f"{key!r} in {self.name}" if key else self.name
        return kind(f"cannot {verb} {what}: {said}; {advice}", key=key or None, store=self.name)


class Telling:
    """A block whose waiting may end because the connection did, or because an answer is none."""

    __slots__ = ("_key", "_name")

    def __init__(self, name: str, key: str) -> None:
        self._name, self._key = name, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Lost):
            raise error.of(self._key) from error.cause
        if isinstance(error, GivenUpError):
            raise StoreUnavailableError(
                f"{self._name} was closed while something was under way", key=self._key or None, store=self._name
            ) from None
        if isinstance(error, WireError):
            raise StoreError(
                f"the server of {self._name} answers what makes no sense: {error}",
                key=self._key or None,
                store=self._name,
            ) from None


def is_ok(answer: Answer) -> bool:
    """Tell whether something was done."""
    return isinstance(answer, Status) and answer.code == wire.OK


def is_absent(answer: Answer) -> bool:
    """Tell whether there is no such file."""
    return isinstance(answer, Status) and answer.code == wire.NO_SUCH_FILE


def is_failure(answer: Answer) -> bool:
    """Tell whether something was not done, and the server's protocol has no code for why."""
    return isinstance(answer, Status) and answer.code == wire.FAILURE


def handle_of(answer: Answer) -> bytes | None:
    """Return the handle of what was opened; None if it was not."""
    return answer.handle if isinstance(answer, wire.Handle) else None


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


_INTACT = "what was there before is intact"
_MAKING = ("make the root for", "make a folder for")
_MEANINGS: dict[int, tuple[type[StoreError], str]] = {
    wire.FAILURE: (
        StoreError,
        f"{_INTACT}; the server does not say why: a used-up quota, a limit of sizes, or a fault of its file system",
    ),
    wire.NO_SUCH_FILE: (StoreError, "a folder above it is missing, and cannot be made"),
    wire.BAD_MESSAGE: (StoreError, f"{_INTACT}; the server takes it for no valid request, such as too long a name"),
    wire.NO_CONNECTION: (StoreUnavailableError, "try again"),
    wire.CONNECTION_LOST: (StoreUnavailableError, "try again"),
    wire.UNSUPPORTED: (UnsupportedError, "the server does not know such requests; nothing was changed"),
}


def _number_of(status: Status, room: wire.Room | None) -> int | None:
    """Return the system's number for what an answer means, None if it does not tell.

    OpenSSH has one code for most failures, and its text says no more; others say in the text what it was.
    """
    text = status.text.lower()
    if status.code == wire.PERMISSION_DENIED:
        return errno.EACCES
    if status.code != wire.FAILURE:
        return None
    if "quota" in text:
        return errno.EDQUOT
    if "no space" in text or (room is not None and not (room.free_bytes and room.free_files)):
        return errno.ENOSPC
    if "read-only" in text or (room is not None and room.is_read_only):
        return errno.EROFS
    return None
