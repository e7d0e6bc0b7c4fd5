"""What lies in the folders of an SFTP server, in the order of the keys.

A folder takes two round trips at least, and the order of the keys asks for one folder after the other. So the folders
that come next are read ahead, and those in them as soon as they are known: enough of them that nobody waits, and so few
names of each that it does not matter. A folder's own names are all in memory when it is its turn.
"""

from __future__ import annotations

import operator
import stat
from collections.abc import Iterator

from emdstore import system
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, StoreAccessError, UnsafePathError
from emdstore.keys import STAGING_PREFIX, is_left_behind, is_staging, is_valid_key, why_invalid
from emdstore.stores.port import ArtifactInfo, LeftOut
from emdstore.stores.ssh.sftp import wire
from emdstore.stores.ssh.sftp.client import Steps, Task
from emdstore.stores.ssh.sftp.files import describe
from emdstore.stores.ssh.sftp.ground import Ground, handle_of, is_absent, is_ok
from emdstore.stores.ssh.sftp.wire import Answer, Attributes, Names, Status

_FOLDERS_AHEAD = 32
_ANSWERS_AHEAD = 8  # of one folder; OpenSSH tells a hundred names in each

_LEADS_OUT = "is a link that leads out of the store"
_KINDS = {stat.S_IFIFO: "is a named pipe", stat.S_IFSOCK: "is a socket", stat.S_IFCHR: "is a device"}
_KINDS |= {stat.S_IFBLK: "is a device"}

_Entry = tuple[str, Attributes]
"""The key of a file, or that of a folder and a slash: in their order a folder comes where what is in it comes."""

_key_of = operator.itemgetter(0)


class _Folder:
    """A folder that is listed, now or soon; its key has a slash at the end, or is ``""``.

    Attributes
    ----------
    entries
        What is in it and can be listed.
    left_out
        What cannot.
    unfinished
        What is not finished, or was left behind.
    """

    def __init__(self, ground: Ground, key: str, above: tuple[str, ...]) -> None:
        self.key = key
        self.entries: list[_Entry] = []
        self.left_out: list[LeftOut] = []
        self.unfinished: list[_Entry] = []
        self._ground, self._above = ground, above  # where the folders that hold it really are, and in the end itself
        self._base = ground.path(key) if key else ground.path("x")[:-1]
        self._first: Task[None] | None = None
        self._handle: bytes | None = None  # while there may be more names
        self._folders: list[_Folder] | None = None
        self._is_given_up = False

    def begin(self) -> None:
        """Ask for the first names."""
        if self._first is None:
            self._first = self._ground.client.start(self._open())

    def read(self) -> None:
        """Read all its names; raises what keeps it from being read."""
        self.begin()
        assert self._first is not None
        self._first.result()
        if self._handle is not None:
            self._ground.client.run(self._read_rest())
            self._folders = None
        self.entries.sort(key=_key_of)

    def folders(self) -> list[_Folder]:
        """Return the folders in it that are known by now, in their order."""
        if self._folders is None:
            if self._first is None or not self._first.is_done:
                return []
            keys = sorted(key for key, _ in self.entries if key[-1] == "/")
            self._folders = [_Folder(self._ground, key, self._above) for key in keys]
        return self._folders

    def take_folders(self) -> list[_Folder]:
        """Return the folders in it, the first one last, and keep them no longer than the caller does."""
        taken, self._folders = self.folders()[::-1], []
        return taken

    def give_up(self) -> None:
        """Close what is open, now or when it is."""
        self._is_given_up = True
        if self._first is not None and self._first.is_done:
            self._close()
        for each in self._folders or ():
            each.give_up()

    # -- steps -----------------------------------------------------------------------------------------------------

    def _open(self) -> Steps[None]:
        """Open the folder, and read enough of it to finish most folders."""
        folder = self.key[:-1]
        path = self._ground.path(folder)
        real, opened = yield [wire.real_path(path), wire.open_folder(path)]
        self._handle = handle_of(opened)
        try:
            if self._handle is None:
                yield from self._ground.refuse(opened, "list", folder)
            self._above = (*self._above, (yield from self._ground.check(real, folder)))
            yield from self._read_some(2)
        except BaseException:
            self._close()
            raise
        if self._is_given_up:
            self._close()

    def _read_rest(self) -> Steps[None]:
        try:
            while self._handle is not None:
                yield from self._read_some(_ANSWERS_AHEAD)
        finally:
            self._close()

    def _read_some(self, count: int) -> Steps[None]:
        assert self._handle is not None
        for answer in (yield [wire.read_folder(self._handle)] * count):
            if isinstance(answer, Names) and answer.names:  # no names at all could go on for ever
                yield from self._look_at(answer.names)
            elif isinstance(answer, Status) and answer.code == wire.EOF:
                self._close()
                break
            else:
                yield from self._ground.refuse(answer, "list", self.key[:-1])

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._ground.client.post(wire.close(handle))

    def _look_at(self, names: list[_Entry]) -> Steps[None]:
        """Sort the entries by what they are; ask for what the server did not tell."""
        unknown, links = [], []
        for name, found in names:
            key = self.key + name
            if _is_certain(found) and is_valid_key(key) and "/" not in name:
                self.entries.append((key, found))  # nearly all are
                continue
            if name in (".", "..") or self._is_passed_over(name, found):
                continue
            if found.is_link:
                links.append(key)
            elif found.mode is None or (found.size is None and found.is_file):
                unknown.append(key)
            else:
                self._put(key, found)
        if unknown:
            for key, told in zip(unknown, (yield [wire.lstat(self._ground.path(key)) for key in unknown]), strict=True):
                if not isinstance(told, Attributes):
                    if not is_absent(told):
                        self.left_out.append(LeftOut(key, f"cannot be looked at: {told.text}"))
                elif told.is_link:
                    links.append(key)
                else:
                    self._put(key, told)
        if links:
            answers = yield [request for key in links for request in self._ground.ask_for_target(key)]
            for key, real, there in zip(links, answers[::2], answers[1::2], strict=True):
                yield from self._follow(key, real, there)

    def _is_passed_over(self, name: str, found: Attributes) -> bool:
        """Tell whether something is no artifact by its name, and note it."""
        key = self.key + name
        if is_staging(name):
            self.unfinished.append((key, found))
            return True
        reason = why_invalid(key)
        if reason is None and "/" not in name:
            return False
        why = "is no name in its folder" if reason is None else f"is no key: {reason}"
        self.left_out.append(LeftOut(key + "/" if found.is_folder else key, why))
        return True

    def _put(self, key: str, found: Attributes) -> None:
        if found.is_folder:
            self.entries.append((key + "/", found))
        elif found.is_file:
            self.entries.append((key, found))
        else:
            kind = _KINDS.get(stat.S_IFMT(found.mode or 0), "is something else")
            self.left_out.append(LeftOut(key, f"{kind}, not a file"))

    def _follow(self, key: str, real: Answer, there: Answer) -> Steps[None]:
        try:
            target = yield from self._ground.judge(key, key, real, there)
        except UnsafePathError:
            self.left_out.append(LeftOut(key, _LEADS_OUT))
        except EmdstoreError as error:
            self.left_out.append(LeftOut(key, f"is a link that cannot be followed: {error}"))
        else:
            if target is None:
                self.left_out.append(LeftOut(key, "is a link that leads nowhere"))
            elif target.is_folder and isinstance(real, Names) and real.names[0][0] in self._above:
                self.left_out.append(LeftOut(key, "is a link to a folder that holds it"))
            else:
                self._put(key, target)


def _is_certain(found: Attributes) -> bool:
    return found.mode is not None and stat.S_ISREG(found.mode) and found.size is not None


def iter_found(ground: Ground, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
    """Yield what is known of the files below a prefix, by key, and what lies there and is no artifact."""
    for folder in _iter_folders(ground, prefix):
        if isinstance(folder, LeftOut):
            yield folder
        elif isinstance(folder, _Folder):
            yield from folder.left_out
        else:
            yield describe(*folder)


def _iter_folders(ground: Ground, prefix: str) -> Iterator[_Folder | _Entry | LeftOut]:
    """Yield each folder when it was read, and then what is in it, in order."""
    top = _Folder(ground, prefix + "/" if prefix else "", ())
    with ground.telling(prefix):
        try:
            ground.client.run(ground.visit(prefix, prefix))
            top.read()
        except ArtifactNotFoundError:
            return
        coming: list[list[_Folder]] = []
        try:
            yield from _iter_folder(top, coming)
        finally:
            for level in coming:
                for folder in level:
                    folder.give_up()


def _iter_folder(folder: _Folder, coming: list[list[_Folder]]) -> Iterator[_Folder | _Entry | LeftOut]:
    """Yield what is in a folder that was read.

    `coming` has, of each folder that holds this one, those in it that come after this one, the next one last.
    """
    yield folder
    here = folder.take_folders()
    coming.append(here)
    for entry in folder.entries:
        if entry[0][-1] != "/":
            yield entry
            continue
        _read_ahead(coming)
        below = here.pop()
        try:
            below.read()
        except ArtifactNotFoundError:
            continue  # gone since
        except UnsafePathError:
            yield LeftOut(entry[0], _LEADS_OUT)
        except EmdstoreError as error:
            why = "permission denied" if isinstance(error, StoreAccessError) else str(error)
            yield LeftOut(entry[0], f"cannot be read: {why}", error)
        else:
            yield from _iter_folder(below, coming)
    coming.pop()


def _read_ahead(coming: list[list[_Folder]]) -> None:
    """Begin to read the folders that come next, in the order of their keys, and those in them."""
    room = _FOLDERS_AHEAD
    for level in reversed(coming):
        for folder in reversed(level):
            room = _begin(folder, room)
            if not room:
                return


def _begin(folder: _Folder, room: int) -> int:
    folder.begin()
    room -= 1
    for below in folder.folders():
        if not room:
            break
        room = _begin(below, room)
    return room


def remove_staging(ground: Ground, *, older_than: float, dry_run: bool) -> tuple[str, ...]:
    """Remove what killed writers left behind; see `LocalArtifactStore.remove_staging`."""
    removed: list[str] = []
    with ground.telling(""):
        limit = ground.client.run(_time_there(ground)) - older_than
        for folder in _iter_folders(ground, ""):
            if not isinstance(folder, _Folder):
                continue
            for key, found in folder.unfinished:
                if not found.is_file or not is_left_behind(key.rpartition("/")[2]):
                    continue
                if found.modified is None or found.modified > limit:
                    continue
                if dry_run or ground.client.run(_remove(ground, key)):
                    removed.append(key)
    return tuple(sorted(removed))


def _remove(ground: Ground, key: str) -> Steps[bool]:
    removed = yield wire.remove(ground.path(key))
    if not is_ok(removed) and not is_absent(removed):  # absent: its writer is alive after all, and has just finished
        yield from ground.refuse(removed, "remove", key)
    return is_ok(removed)


def _time_there(ground: Ground) -> Steps[float]:
    """Return what time it is by the server's clock, which has written the times of its files.

    An empty file tells it, for a moment. Where none can be made, nothing was left behind either, or not by this
    account.
    """
    path = ground.path(STAGING_PREFIX + system.current().token(8))
    opened = yield wire.open_file(path, wire.WRITE | wire.CREATE | wire.EXCLUSIVE)
    handle = handle_of(opened)
    if handle is None:
        return system.current().now().timestamp()
    try:
        told = yield wire.fstat(handle)
    finally:
        ground.client.post(wire.close(handle))
        ground.client.post(wire.remove(path))
    if isinstance(told, Attributes) and told.modified is not None:
        return float(told.modified)
    return system.current().now().timestamp()
