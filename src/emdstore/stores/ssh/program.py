"""The far-end program: what a store by SSH runs on the other machine. It keeps there what the local store keeps here.

It is sent over the connection (see `emdstore.stores.ssh.farend`) and installed nowhere. It needs Python 3.6 and its
standard library, and nothing of emdstore, so nothing is imported from there. What 3.6 could not evaluate in annotations
is in quotes.

Both ends send frames: a request's number, a kind, a little JSON, and bytes. Requests are answered as they are done.
What is large or long (a file, a listing) comes in pieces, as many as the other end has said that it takes, so that both
ends hold little and what is small passes by what is large. The program does one thing at a time: it is bound by the
connection, and what it does takes microseconds. It ends when its input ends, and takes unfinished files with it.
"""

import collections
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import signal
import stat
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # over there it costs time to import
    from collections.abc import Callable, Iterator
    from typing import Any

PROTOCOL = 2
HEADER = struct.Struct("!IBII")
"""A request's number, the kind of the frame, the length of its JSON and of its bytes."""

# What is asked.
PING, STAT, GET, PUT, OPEN, CHUNK, COMMIT, ABORT, LIST, DELETE, DIGEST, SWEEP, FLUSH, TAKEN, CANCEL = range(1, 16)
# The same of several small files in one frame.
GET_MANY, PUT_MANY = range(16, 18)
# What is answered: the end of a request, a piece, a failure; that of a file more was written.
DONE, PIECE, FAILED, WRITTEN = range(64, 68)

PIECE_BYTES = 256 * 1024
SMALL_BYTES = PIECE_BYTES
"""A file of this size comes in one piece, with its digest."""
WINDOW = 4 * 1024 * 1024
"""How many bytes of one file may be on their way."""
MANY_WINDOW = 1024 * 1024
"""How many bytes may be on their way of the small files that were asked for together."""
LIST_WINDOW = 4
"""How many pieces of one listing may be on their way."""

_TELLS = 32 * 1024 * 1024  # after so many bytes of what is hashed it says that it goes on
_LISTED = 500
_LIST_SECONDS = 0.02
_MOST_LINKS = 40
_MOST_RACES = 100
_MOST_OPEN = 16
_PATIENCE = 5.0
_PAUSE = 0.002
_INPUT_BYTES = 2 * 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_SET_PIPE_BYTES = 1031  # Linux's F_SETPIPE_SZ, which Python names since 3.10
_PARTS = 512  # at most so many go to the system at once
_OUTPUT_BYTES = 128 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
_KINDS = {stat.S_IFIFO: "is a named pipe", stat.S_IFSOCK: "is a socket"}
_LEADS_OUT = "is a link that leads out of the store"


class Refusal(Exception):
    """What is not done, and why: a word that the other end knows, and details."""

    def __init__(self, code: str, **details: "Any") -> None:
        super().__init__(code)
        self.answer = dict(details, code=code)


class Busy(Exception):
    """Another writer holds the lock of the folder."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


_FAILURES = (Refusal, OSError, MemoryError)


def keep_memory() -> None:
    """Have the C library keep what was freed: it gives back all above twice the largest block that was ever freed.

    Otherwise each piece of a file would take fresh pages from the system.
    """
    bytearray(WINDOW)


def widen_pipes() -> None:
    """Have the server hand over more at once than a system's usual 64 KiB, for which both would wait all the time."""
    if sys.platform == "linux":
        for fd in (0, 1):
            with contextlib.suppress(OSError):  # not a pipe, or more than this user may have
                fcntl.fcntl(fd, _SET_PIPE_BYTES, _PIPE_BYTES)


def answer_to(error: BaseException) -> "dict[str, Any]":
    """Return what the other end is told of a failure."""
    if isinstance(error, Refusal):
        return error.answer
    if not isinstance(error, OSError):
        return {"code": "os", "errno": "ENOMEM", "said": os.strerror(errno.ENOMEM)}
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO):
        return {"code": "missing"}
    return {"code": "os", "errno": errno.errorcode.get(error.errno or 0, ""), "said": error.strerror or str(error)}


def shown(name: bytes) -> str:
    """Return a name as JSON takes it; bytes that are no UTF-8 survive."""
    return name.decode("utf-8", "surrogateescape")


def is_plain(name: bytes) -> bool:
    """Tell whether a name can be a segment of a key."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return "\\" not in text and not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in text)


def stamp(status: os.stat_result) -> "list[int]":
    """Return what the other end wants to know of a file: size, times in nanoseconds, inode."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def check_unchanged(before: os.stat_result, after: os.stat_result, size: int) -> None:
    """Refuse a file that changed while it was read. What says that it has 0 bytes, and gives more, is believed."""
    if (
        (size != before.st_size and before.st_size)
        or after.st_size != before.st_size
        or after.st_mtime_ns != before.st_mtime_ns
    ):
        raise Refusal("changing", before=before.st_size, after=after.st_size)


def write_all(fd: int, data: "Any") -> None:
    """Write bytes to a file, all of them."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


# -- the folder --------------------------------------------------------------------------------------------------------


class Folder:
    """An open folder, which is closed when nobody has it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class Root:
    """The folder, nothing outside of which is ever opened: segment by segment, through descriptors.

    The folder of the last key stays open while requests are waiting, since sorted keys come folder by folder.
    """

    def __init__(self, path: bytes, durable: bool, staging: bytes, digests: bytes, token: bytes) -> None:
        self.path = os.path.join(os.path.expanduser(b"~"), path)
        self.durable, self.staging, self.digests = durable, staging, digests
        self.token, self.count = token, 0
        self.entered: Folder | None = None
        self.folder = b""
        self.folds: bool | None = None
        self.staged: dict[bytes, Folder] = {}  # names and their folders, of what is unfinished

    def forget(self) -> None:
        """Let go of the folder that is open."""
        self.entered = None

    def enter(self, folder: bytes, create: bool = False) -> Folder:
        """Return a folder, which stays open for the next request."""
        if self.entered is None or folder != self.folder:
            self.entered = Folder(self.open_folder(folder, create))
            self.folder, self.folds = folder, None
        return self.entered

    def open_folder(self, folder: bytes, create: bool = False) -> int:
        """Return a descriptor of a folder, which the caller closes."""
        for _ in range(_MOST_LINKS):
            try:
                fd = self.open_root(create)
            except FileNotFoundError:
                raise Refusal("missing") from None
            except (NotADirectoryError, FileExistsError):
                raise Refusal("root") from None
            done = 0
            segments = folder.split(b"/") if folder else []
            try:
                for segment in segments:
                    try:
                        below = os.open(segment, _FOLDER, dir_fd=fd)
                    except FileNotFoundError:
                        if not create:
                            raise
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(segment, dir_fd=fd)
                        if self.durable:
                            os.fsync(fd)
                        below = os.open(segment, _FOLDER, dir_fd=fd)
                    os.close(fd)
                    fd = below
                    done += 1
                return fd
            except OSError as error:
                os.close(fd)
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                blocker = b"/".join(segments[: done + 1])
                path = os.path.join(self.path, blocker)
                if os.path.islink(path):
                    folder = b"/".join([self.inside(path), *segments[done + 1 :]]).strip(b"/")
                elif os.path.isdir(path):
                    continue  # it was a link a moment ago
                elif create and os.path.lexists(path):
                    raise Refusal("below", blocker=shown(blocker)) from None
                else:
                    raise Refusal("missing") from None
        raise Refusal("links")

    def open_root(self, create: bool) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
        missing, above = [], self.path
        while not os.path.exists(above):
            missing.append(above)
            above = os.path.dirname(above)
        os.makedirs(self.path, exist_ok=True)
        for folder in missing if self.durable else ():
            sync_folder(os.path.dirname(folder))
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def inside(self, path: bytes) -> bytes:
        """Return where a path really is, relative to the real root; refuse what lies outside."""
        for _ in range(_MOST_RACES):
            try:
                root, real = os.path.realpath(self.path), os.path.realpath(path)
                break
            except OSError:  # a link was swapped between being seen and being read
                continue
        else:
            raise Refusal("links")
        if real != root and not real.startswith(root.rstrip(b"/") + b"/"):
            raise Refusal("unsafe")
        return real[len(root) :].strip(b"/")

    def open_file(self, key: bytes) -> "tuple[int, os.stat_result]":
        """Return a descriptor of the regular file at a key, which the caller closes, and what it is."""
        target = key
        for _ in range(_MOST_LINKS):
            folder, _, name = target.rpartition(b"/")
            try:
                fd = os.open(name, _READ, dir_fd=self.enter(folder).fd)
            except OSError as error:
                self.forget()  # it may have gone stale
                if error.errno == errno.ENOENT:  # or another folder has this one's name by now
                    fd = os.open(name, _READ, dir_fd=self.enter(folder).fd)
                elif error.errno == errno.ELOOP:
                    target = self.inside(os.path.join(self.path, target))
                    continue
                else:
                    raise
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                return fd, status
            os.close(fd)
            raise Refusal("missing")
        raise Refusal("links")

    def stat(self, key: bytes) -> os.stat_result:
        """Return what the regular file at a key is, or the one that a link there leads to."""
        folder, _, name = key.rpartition(b"/")
        fd = self.open_folder(folder)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
        if stat.S_ISLNK(found.st_mode):
            fd, found = self.open_file(key)
            os.close(fd)
        elif not stat.S_ISREG(found.st_mode):
            raise Refusal("missing")
        return found

    def prune(self, folder: bytes) -> None:
        """Remove a folder and those above it while they are empty; the root stays."""
        self.forget()
        while folder:
            above, _, name = folder.rpartition(b"/")
            try:
                fd = self.open_folder(above)
            except (OSError, Refusal):
                return
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError:
                return
            finally:
                os.close(fd)
            folder = above

    def delete(self, key: bytes) -> None:
        """Remove a file, or a link; to remove what is not there is no error."""
        folder, _, name = key.rpartition(b"/")
        try:
            fd = self.open_folder(folder)
        except FileNotFoundError:
            return
        except Refusal as refusal:
            if refusal.answer["code"] == "missing":
                return
            raise
        try:
            mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                self.inside(os.path.join(self.path, key))
            if not stat.S_ISDIR(mode):
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return
        finally:
            os.close(fd)
        self.prune(folder)

    def discard_staged(self) -> None:
        """Remove all unfinished files of this program."""
        for name, folder in list(self.staged.items()):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder.fd)

    def sweep(self, older_than: float, dry_run: bool) -> "list[str]":
        """Remove what killed writers left behind; return the names."""
        removed = []
        limit = time.time() - older_than
        top = os.path.realpath(self.path)
        for folder, _, names, fd in os.fwalk(os.fsdecode(top)) if os.path.exists(top) else ():
            for name in names:
                given = os.fsencode(name)
                if not given.startswith(self.staging) or given == self.digests or given in self.staged:
                    continue
                try:
                    if os.stat(given, dir_fd=fd, follow_symlinks=False).st_mtime <= limit:
                        if not dry_run:
                            os.unlink(given, dir_fd=fd)
                        removed.append(shown(os.path.relpath(os.path.join(os.fsencode(folder), given), top)))
                except FileNotFoundError:  # its writer is alive after all, and has just finished
                    continue
        return sorted(removed)


def sync_folder(path: bytes) -> None:
    """Flush a folder: the names in it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: bytes) -> None:
    """Flush the file system that a folder is in."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        import ctypes  # for this alone, and not everywhere there

        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError):
        os.sync()
    else:
        if call(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


def remove_empty_folders(folder_fd: int, name: bytes) -> None:
    """Remove a tree of folders without a file; raises `IsADirectoryError` if it holds one."""
    fd = os.open(name, _FOLDER, dir_fd=folder_fd)
    try:
        for each in os.listdir(fd):
            below = os.fsencode(each)
            if stat.S_ISDIR(os.stat(below, dir_fd=fd, follow_symlinks=False).st_mode):
                remove_empty_folders(fd, below)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=folder_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None


# -- writing -----------------------------------------------------------------------------------------------------------


class Staged:
    """An unfinished file beside its place."""

    def __init__(self, root: Root, key: bytes) -> None:
        self.root, self.key, self.is_there = root, key, False
        folder, _, self.name = key.rpartition(b"/")
        root.count += 1
        self.staged = root.staging + root.token + b"-%x" % root.count
        for attempt in range(_MOST_RACES):
            if attempt > 1:  # at random, or processes that take turns meet in the same step each time
                time.sleep(ord(os.urandom(1)) / 255 * min(0.001 * 2**attempt, 0.1))
            try:
                self.folder = root.enter(folder, create=True)
                self.fd = self.open(self.folder.fd)
                break
            except FileNotFoundError:  # another process has just pruned the folder
                root.forget()
            except OSError:
                root.forget()  # on a network file system it may have gone stale
                raise
        else:
            raise Refusal("pruned")
        root.staged[self.staged] = self.folder

    def open(self, folder_fd: int) -> int:
        """Open the file, but first refuse what could not take its place."""
        root, name = self.root, self.name
        try:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                root.inside(os.path.join(root.path, self.key))
            elif stat.S_ISDIR(mode):
                try:
                    # A folder without artifacts is nothing in this root, so it may not stand in the way of one.
                    remove_empty_folders(folder_fd, name)
                except IsADirectoryError:
                    raise Refusal("folder") from None
        except FileNotFoundError:
            pass  # nothing is there yet, as it should be
        fd = os.open(self.staged, _STAGE, 0o666, dir_fd=folder_fd)
        try:
            if root.folds is None:
                root.folds = has(self.staged.upper(), folder_fd)
            if root.folds and has(name, folder_fd) and os.fsdecode(name) not in os.listdir(folder_fd):
                raise Refusal("folds")
        except BaseException:
            os.close(fd)
            os.unlink(self.staged, dir_fd=folder_fd)
            raise
        return fd

    def discard(self) -> None:
        """Remove it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.root.staged.pop(self.staged, None) is not None and not self.is_there:
            with contextlib.suppress(OSError):
                os.unlink(self.staged, dir_fd=self.folder.fd)

    def put_in_place(self, how: str, over: str) -> None:
        """Close it and give it its name; whatever fails, it is gone, and what had the name keeps it.

        `how` is ``replace``, ``create`` (nothing may have the name) or ``over`` (what has it must have this SHA-256).
        Close comes before rename because network file systems report write errors at close.
        """
        folder = self.folder.fd
        try:
            fd, self.fd = self.fd, -1
            try:
                if self.root.durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            if how == "over":
                with Lock(self.root, folder):
                    if digest_at(self.root, self.key) != over:
                        raise Refusal("changed")
                    os.rename(self.staged, self.name, src_dir_fd=folder, dst_dir_fd=folder)
            elif how == "create":
                self.create()
            else:
                os.rename(self.staged, self.name, src_dir_fd=folder, dst_dir_fd=folder)
                self.is_there = True
            if self.root.durable:
                os.fsync(folder)
        except FileExistsError:
            raise Refusal("exists") from None
        except IsADirectoryError:
            raise Refusal("folder") from None
        except FileNotFoundError:
            raise Refusal("swept") from None
        finally:
            self.discard()

    def create(self) -> None:
        folder = self.folder.fd
        try:
            os.link(self.staged, self.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            # Over NFS the answer may be lost, and the request that is sent again finds what the first one made.
            ours = os.stat(self.staged, dir_fd=folder, follow_symlinks=False)
            there = os.stat(self.name, dir_fd=folder, follow_symlinks=False)
            if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with Lock(self.root, folder):
                if has(self.name, folder):
                    raise FileExistsError from None
                os.rename(self.staged, self.name, src_dir_fd=folder, dst_dir_fd=folder)


def write_small(root: Root, asked: "dict[str, Any]", data: "Any") -> None:
    """Write a file of which all bytes are here."""
    key, how, over = asked["key"].encode("utf-8"), asked.get("how", "replace"), asked.get("over", "")
    if hashlib.sha256(data).hexdigest() != asked["sha256"]:
        raise Refusal("damaged")
    if how == "over" and digest_at(root, key) != over:  # no folder is made for what is not there
        raise Refusal("changed")
    staged = Staged(root, key)
    try:
        write_all(staged.fd, data)
        keep(staged.fd, asked)
    except BaseException:
        staged.discard()
        raise
    staged.put_in_place(how, over)


def keep(fd: int, asked: "dict[str, Any]") -> None:
    """Give a copy what it keeps of its source: the time, and that whoever may read a program may run it."""
    if "mtime" in asked:
        os.utime(fd, ns=(asked["mtime"], asked["mtime"]))
    if asked.get("program"):
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.fchmod(fd, mode | (mode & 0o444) >> 2)


def has(name: bytes, folder_fd: int) -> bool:
    """Tell whether something has a name in a folder."""
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


class Lock:
    """The lock of one folder, held for two system calls: that of local stores, so that those there wait for us too."""

    def __init__(self, root: Root, folder_fd: int) -> None:
        self.name, self.folder_fd = root.staging + b"lock", folder_fd
        self.fd = -1

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.name, flags, 0o666, dir_fd=self.folder_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                self.fd = fd
                return
            holder = os.pread(fd, 200, 0)
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Busy(shown(holder)) from None
            raise
        ours = os.fstat(fd)
        try:
            there = os.stat(self.name, dir_fd=self.folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            os.close(fd)  # it was given back, and removed, between the two calls
            raise Busy("")
        self.fd = fd
        with contextlib.suppress(OSError):
            os.fchmod(fd, 0o666)  # another user may have to wait for it
            os.pwrite(fd, ("%s:%d" % (os.uname().nodename, os.getpid())).encode(), 0)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self.folder_fd)
        os.close(self.fd)


def read_small(fd: int, before: os.stat_result) -> bytes:
    """Return all bytes of an open file; refuse it if it changes meanwhile."""
    data = os.read(fd, before.st_size + 1)  # one more: a file that grows shows by it
    while len(data) < before.st_size or not before.st_size:
        more = os.read(fd, PIECE_BYTES)
        if not more:
            break
        data += more
    check_unchanged(before, os.fstat(fd), len(data))
    return data


def described_small(fd: int, before: os.stat_result) -> "tuple[dict[str, Any], bytes]":
    """Return what is told of an open file, and its bytes; the file is closed."""
    try:
        data = read_small(fd, before)
    finally:
        os.close(fd)
    told: dict[str, Any] = {"stat": stamp(before), "sha256": hashlib.sha256(data).hexdigest()}
    if before.st_mode & 0o111:
        told["program"] = True
    return told, data


def digest_at(root: Root, key: bytes) -> "str | None":
    """Return the SHA-256 of a small file; None if nothing lies there."""
    try:
        fd, before = root.open_file(key)
    except FileNotFoundError:
        return None
    except Refusal as refusal:
        if refusal.answer["code"] == "missing":
            return None
        raise
    try:
        return hashlib.sha256(read_small(fd, before)).hexdigest()
    finally:
        os.close(fd)


# -- what comes in pieces ----------------------------------------------------------------------------------------------


class Reading:
    """A file that goes out in pieces, or (`only_digest`) is read and hashed."""

    takes_turns = True

    def __init__(self, fd: int, before: os.stat_result, only_digest: bool) -> None:
        self.fd, self.before, self.only_digest = fd, before, only_digest
        self.digest, self.size = hashlib.sha256(), 0
        self.room = WINDOW

    def step(self) -> "tuple[int, Any, bytes]":
        """Return the next frame: its kind, JSON and bytes; None as its kind if there is none yet."""
        data = os.read(self.fd, PIECE_BYTES)
        if data:
            self.digest.update(data)
            self.size += len(data)
            if self.only_digest:
                tells = self.size // _TELLS > (self.size - len(data)) // _TELLS
                return PIECE if tells else 0, None, b""
            self.room -= len(data)
            return PIECE, {}, data
        check_unchanged(self.before, os.fstat(self.fd), self.size)
        return DONE, {"size": self.size, "sha256": self.digest.hexdigest()}, b""

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class ReadingMany:
    """Small files that go out together, in the order in which they were asked for; of each what it is, or why not."""

    takes_turns = False  # or each would have another folder opened

    def __init__(self, root: Root, keys: "list[str]") -> None:
        self.root, self.keys, self.at, self.room = root, keys, 0, MANY_WINDOW

    def step(self) -> "tuple[Any, ...]":
        """Return the next frame."""
        files: list[dict[str, Any]] = []
        parts: list[bytes] = []
        size = 0
        while self.at < len(self.keys) and size < PIECE_BYTES:
            try:
                fd, before = self.root.open_file(self.keys[self.at].encode("utf-8"))
                if before.st_size > MANY_WINDOW:  # it has grown since it was listed
                    os.close(fd)
                    raise Refusal("large")
                told, data = described_small(fd, before)
            except _FAILURES as error:
                told, data = answer_to(error), b""
            else:
                told["size"] = len(data)
                parts.append(data)
            self.at += 1
            size += len(data)
            files.append(told)
        self.room -= size
        return (PIECE if self.at < len(self.keys) else DONE, {"files": files}, *parts)

    def close(self) -> None:
        """Do nothing: no file is open."""


class Entry:
    """What `os.scandir` gives of a name, for Python 3.6, which cannot scan an open folder."""

    def __init__(self, name: str, folder_fd: int) -> None:
        self.name = name
        self.status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        with contextlib.suppress(OSError):
            self.target = os.stat(name, dir_fd=folder_fd)

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    def is_dir(self, follow_symlinks: bool) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def is_file(self, follow_symlinks: bool) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def stat(self, follow_symlinks: bool = True) -> os.stat_result:
        return self.target if follow_symlinks else self.status


def entries_of(folder_fd: int) -> "Any":
    """Yield what is in an open folder."""
    if sys.version_info >= (3, 7):
        with os.scandir(folder_fd) as entries:
            yield from entries
        return
    for name in os.listdir(folder_fd):
        with contextlib.suppress(FileNotFoundError):
            yield Entry(name, folder_fd)


class Listing:
    """What lies below a prefix, in pieces, in the order of the bytes of the keys.

    An artifact is ``[key, size, mtime, ctime, inode]``; anything else is ``[name, reason]`` or, if it could not be
    read, ``[name, reason, number, text]``. A name that is no key has no reason: the other end knows it.
    """

    takes_turns = True

    def __init__(self, root: Root, prefix: bytes) -> None:
        self.root, self.room, self.only_digest = root, LIST_WINDOW, False
        self.found = self.top(prefix)

    def step(self) -> "tuple[int, Any, bytes]":
        """Return the next piece."""
        listed: list[list[Any]] = []
        until = time.monotonic() + _LIST_SECONDS
        for each in self.found:
            listed.append(each)
            if len(listed) >= _LISTED or (len(listed) % 64 == 0 and time.monotonic() > until):
                self.room -= 1
                return PIECE, {}, json.dumps(listed).encode("ascii")
        return DONE, {}, json.dumps(listed).encode("ascii")

    def close(self) -> None:
        """Close the folders that are open."""
        self.found.close()

    def top(self, prefix: bytes) -> "Any":
        try:
            fd = self.root.open_folder(prefix)
        except FileNotFoundError:
            return
        except Refusal as refusal:
            if refusal.answer["code"] == "missing":
                return
            raise
        here = os.fstat(fd)
        yield from self.folder(fd, prefix + b"/" if prefix else b"", ((here.st_dev, here.st_ino),))

    def folder(self, fd: int, prefix: bytes, above: "tuple[tuple[int, int], ...]") -> "Iterator[list[Any]]":
        try:
            listed: list[tuple[bytes, Any]] = []
            for entry in entries_of(fd):
                name = os.fsencode(entry.name)
                key = prefix + name
                if name.startswith(self.root.staging):
                    continue
                if entry.is_file(follow_symlinks=False) and len(key) <= 255 and is_plain(name):  # nearly all are
                    listed.append((key, entry))
                    continue
                found = self.look_at(key, name, entry)
                if isinstance(found, list):
                    yield found
                elif found is not None:
                    listed.append((found, entry))
            listed.sort(key=lambda each: each[0])
            if len(above) > _MOST_OPEN:
                for _, entry in listed:
                    with contextlib.suppress(FileNotFoundError):
                        entry.stat(follow_symlinks=False)  # which it remembers
                os.close(fd)
                fd = -1
            for key, entry in listed:
                if not key.endswith(b"/"):
                    artifact = self.artifact(key, entry)
                    if artifact is not None:
                        yield artifact
                    continue
                try:
                    if fd < 0 or entry.is_symlink():
                        below = self.root.open_folder(key[:-1])
                    else:
                        below = os.open(os.fsencode(entry.name), _FOLDER, dir_fd=fd)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # gone or swapped since the folder was read
                except Refusal as refusal:
                    if refusal.answer["code"] == "unsafe":
                        yield [shown(key), _LEADS_OUT]
                    continue
                except OSError as error:
                    yield [shown(key), "cannot be read", errno.errorcode.get(error.errno or 0, ""), error.strerror]
                    continue
                status = os.fstat(below)
                if (status.st_dev, status.st_ino) in above:
                    os.close(below)
                    yield [shown(key[:-1]), "is a link to a folder that holds it"]
                    continue
                yield from self.folder(below, key, (*above, (status.st_dev, status.st_ino)))
        finally:
            if fd >= 0:
                os.close(fd)

    def artifact(self, key: bytes, entry: "Any") -> "list[Any] | None":
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                status = self.root.stat(key)
        except FileNotFoundError:  # removed since the folder was read
            return None
        except Refusal as refusal:  # a link that was swapped since
            return [shown(key), _LEADS_OUT] if refusal.answer["code"] == "unsafe" else None
        return [shown(key), *stamp(status)] if stat.S_ISREG(status.st_mode) else None

    def look_at(self, key: bytes, name: bytes, entry: "Any") -> "list[Any] | bytes | None":
        """Return how an entry is listed that is not simply a file; None if it is nothing."""
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_plain(name) or len(name) > 255 or len(key) > 1024:
            return [shown(key + b"/" if is_folder else key), ""]
        if is_folder:
            return key + b"/"
        if entry.is_file(follow_symlinks=False):
            return key
        if not entry.is_symlink():
            return self.stranger(key, entry)
        path = os.path.join(self.root.path, key)
        try:
            self.root.inside(path)
            mode = os.stat(path).st_mode
        except Refusal as refusal:
            unsafe = refusal.answer["code"] == "unsafe"
            return [shown(key), _LEADS_OUT if unsafe else "is a link that cannot be followed"]
        except FileNotFoundError:
            return [shown(key), "is a link that leads nowhere"] if os.path.lexists(path) else None
        except OSError as error:
            return [shown(key), "is a link that cannot be followed: %s" % error.strerror]
        if stat.S_ISREG(mode):
            return key
        return key + b"/" if stat.S_ISDIR(mode) else self.stranger(key, entry)

    def stranger(self, key: bytes, entry: "Any") -> "list[Any] | None":
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            return None
        devices = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        what = "is a device" if devices else _KINDS.get(stat.S_IFMT(mode), "is something else")
        return [shown(key), what + ", not a file"]


class Writing:
    """A file that comes in pieces."""

    def __init__(self, staged: Staged) -> None:
        self.staged, self.digest, self.size, self.told = staged, hashlib.sha256(), 0, 0

    def add(self, data: "Any") -> None:
        """Append bytes."""
        write_all(self.staged.fd, data)
        self.digest.update(data)
        self.size += len(data)


# -- requests ----------------------------------------------------------------------------------------------------------


class Input:
    """What has come and was not used yet, in one buffer that stays: fresh memory costs more than a copy.

    Both ends use it. `read_into` waits for something, puts it into a buffer, and returns how much it was, 0 at the end.
    """

    def __init__(self, read_into: "Callable[[memoryview], int]") -> None:
        self.read_into = read_into
        self.buffer = memoryview(bytearray(_INPUT_BYTES))
        self.begin = self.end = 0

    def fill(self) -> bool:
        """Wait for more, and take it; False at the end."""
        count = self.read_into(self.buffer[self.end :])
        self.end += count
        return count > 0

    def give(self, data: bytes) -> None:
        """Take what was read before."""
        self.make_room(len(data))
        self.buffer[self.end : self.end + len(data)] = data
        self.end += len(data)

    def make_room(self, size: int) -> None:
        """Move what is here to the beginning, if a frame of this size would not fit behind it."""
        if self.begin + size > len(self.buffer):
            here = bytes(self.buffer[self.begin : self.end])
            if size > len(self.buffer):
                self.buffer = memoryview(bytearray(size))
            self.buffer[: len(here)] = here
            self.begin, self.end = 0, len(here)

    def header(self) -> "tuple[int, int, int, int] | None":
        """Return the header of the next frame, if all of the frame is here."""
        if self.begin == self.end:
            self.begin = self.end = 0
        here = self.end - self.begin
        self.make_room(HEADER.size)
        if here < HEADER.size:
            return None
        number, kind, meta, body = HEADER.unpack_from(self.buffer, self.begin)
        size = HEADER.size + meta + body
        self.make_room(size)
        return (number, kind, meta, body) if here >= size else None

    def take(self, size: int) -> memoryview:
        """Return the next bytes; they are gone when more is filled in."""
        self.begin += size
        return self.buffer[self.begin - size : self.begin]


class Program:
    """Reads requests from one descriptor and answers on another."""

    def __init__(self, root: Root, source: int, sink: int) -> None:
        self.root, self.source, self.sink = root, source, sink
        self.input = Input(lambda buffer: os.readv(source, [buffer]))
        self.output: list[bytes] = []
        self.output_bytes = 0
        self.going: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self.writing: dict[int, Writing] = {}
        self.failed: set[int] = set()  # files of which more comes, which nobody wants any more
        self.later: list[tuple[float, int, dict[str, Any], bytes]] = []

    def serve(self) -> None:
        """Answer until the input ends."""
        ready = select.poll()
        ready.register(self.source, select.POLLIN)
        while True:
            while self.take():
                if self.output_bytes > _OUTPUT_BYTES:
                    self.send()
            for number, going in list(self.going.items()):
                while going.room > 0 and number in self.going:
                    self.attempt(number, self.proceed, number, going)
                    if going.takes_turns:
                        break
                    if self.output_bytes > _OUTPUT_BYTES:
                        self.send()
            for each in [self.later.pop(0) for _ in self.later]:
                self.put(*each)
            self.send()
            if any(going.room > 0 for going in self.going.values()):
                wait = 0.0
            elif self.later:
                wait = _PAUSE * 1000
            else:
                wait = None
                if self.input.begin == self.input.end and not ready.poll(0):
                    self.root.forget()  # whoever comes after a while is not to find another folder by this name
            if (wait is None or ready.poll(wait)) and not self.input.fill():
                return

    def take(self) -> bool:
        """Do the next request, if all of it is here."""
        header = self.input.header()
        if header is None:
            return False
        number, kind, meta, body = header
        self.input.take(HEADER.size)
        told = bytes(self.input.take(meta)).decode("ascii")
        self.attempt(number, self.do, number, kind, json.loads(told) if told else {}, self.input.take(body))
        return True

    def attempt(self, number: int, call: "Any", *args: "Any") -> None:
        """Call, and answer with what fails."""
        try:
            call(*args)
        except _FAILURES as error:
            self.fail(number, answer_to(error))

    def fail(self, number: int, answer: "dict[str, Any]") -> None:
        going = self.going.pop(number, None)
        if going is not None:
            going.close()
        writing = self.writing.pop(number, None)
        if writing is not None:
            writing.staged.discard()
            self.failed.add(number)
        self.answer(number, FAILED, answer)

    def answer(self, number: int, kind: int, meta: "Any" = None, *body: bytes) -> None:
        told = json.dumps(meta).encode("ascii") if meta else b""
        size = sum(map(len, body))
        self.output.append(HEADER.pack(number, kind, len(told), size) + told)
        self.output += body
        self.output_bytes += HEADER.size + len(told) + size

    def send(self) -> None:
        """Write what was answered."""
        if self.output:
            parts = [memoryview(part) for part in self.output if part]
            self.output, self.output_bytes = [], 0
            while parts:
                written = os.writev(self.sink, parts[:_PARTS])
                while parts and written >= len(parts[0]):
                    written -= len(parts.pop(0))
                if written:
                    parts[0] = parts[0][written:]

    def proceed(self, number: int, going: "Any") -> None:
        """Take one step of what comes in pieces."""
        kind, meta, *body = going.step()
        if kind:
            self.answer(number, kind, meta, *body)
        if kind == DONE:
            self.going.pop(number).close()
        else:
            self.going.move_to_end(number)

    def do(self, number: int, kind: int, asked: "dict[str, Any]", body: "Any") -> None:
        root = self.root
        key = asked["key"].encode("utf-8") if "key" in asked else b""
        if kind == PUT:
            self.put(time.monotonic() + _PATIENCE, number, asked, bytes(body) if "over" in asked else body)
        elif kind in (GET, DIGEST):
            fd, before = root.open_file(key)
            if kind == GET and before.st_size <= SMALL_BYTES:
                told, data = described_small(fd, before)
                self.answer(number, DONE, told, data)
            else:
                self.going[number] = Reading(fd, before, kind == DIGEST)
                if kind == GET:
                    self.answer(number, PIECE, {"stat": stamp(before), "program": bool(before.st_mode & 0o111)})
        elif kind == GET_MANY:
            self.going[number] = ReadingMany(root, asked["keys"])
        elif kind == PUT_MANY:
            self.put_many(number, asked["files"], body)
        elif kind == CHUNK:
            writing = self.writing.get(number)
            if writing is not None:
                writing.add(body)
                if writing.size - writing.told >= PIECE_BYTES:
                    self.answer(number, WRITTEN, {"bytes": writing.size - writing.told})
                    writing.told = writing.size
        elif kind == OPEN:
            try:
                self.writing[number] = Writing(Staged(root, key))
            except BaseException:
                self.failed.add(number)  # more of it is on its way
                raise
        elif kind == COMMIT:
            if number in self.failed:
                self.failed.discard(number)
                return
            writing = self.writing.pop(number)
            try:
                if [writing.size, writing.digest.hexdigest()] != [asked["size"], asked["sha256"]]:
                    raise Refusal("damaged")
            except Refusal:
                writing.staged.discard()
                raise
            try:
                keep(writing.staged.fd, asked)
            except BaseException:
                writing.staged.discard()
                raise
            writing.staged.put_in_place("replace", "")
            self.answer(number, DONE)
        elif kind == ABORT:
            self.failed.discard(number)
            unwanted = self.writing.pop(number, None)
            if unwanted is not None:
                unwanted.staged.discard()
            self.answer(number, DONE)
        elif kind == STAT:
            self.answer(number, DONE, {"stat": stamp(root.stat(key))})
        elif kind == LIST:
            self.going[number] = Listing(root, key)
        elif kind == TAKEN:
            going = self.going.get(number)
            if going is not None:
                going.room += asked["room"]
        elif kind == CANCEL:
            unwanted = self.going.pop(number, None)
            if unwanted is not None:
                unwanted.close()
        elif kind == DELETE:
            root.delete(key)
            self.answer(number, DONE)
        elif kind == SWEEP:
            names = root.sweep(asked["older_than"], asked["dry_run"])
            self.answer(number, DONE, None, json.dumps(names).encode("ascii"))
        elif kind == FLUSH:
            sync_file_system(root.path)
            self.answer(number, DONE)
        elif kind == PING:
            self.answer(number, DONE)
        else:
            raise Refusal("unknown")

    def put(self, until: float, number: int, asked: "dict[str, Any]", body: "Any") -> None:
        try:
            self.attempt(number, self.write, number, asked, body)
        except Busy as busy:
            if time.monotonic() < until:
                self.later.append((until, number, asked, bytes(body)))
            else:
                self.fail(number, {"code": "locked", "holder": busy.holder, "seconds": _PATIENCE})

    def write(self, number: int, asked: "dict[str, Any]", body: "Any") -> None:
        write_small(self.root, asked, body)
        self.answer(number, DONE)

    def put_many(self, number: int, files: "list[dict[str, Any]]", body: "Any") -> None:
        """Write small files; the answer says which of them could not be written, and why."""
        failed: list[tuple[int, dict[str, Any]]] = []
        at = 0
        for place, asked in enumerate(files):
            try:
                write_small(self.root, asked, body[at : at + asked["size"]])
            except _FAILURES as error:
                failed.append((place, answer_to(error)))
            at += asked["size"]
        self.answer(number, DONE, {"failed": failed} if failed else None)


def read_options(source: int) -> "Any":
    """Read what the other end wants, which comes before its requests: a length, and JSON."""

    def read(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(source, size - len(data))
            if not more:
                raise SystemExit(0)
            data += more
        return data

    return json.loads(read(*struct.unpack("!I", read(4))).decode("ascii"))


def main() -> None:
    """Greet and serve."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    options = read_options(0)
    staging, digests, token = (options[each].encode("ascii") for each in ("staging", "digests", "token"))
    root = Root(options["root"].encode("utf-8"), options["durable"], staging, digests, token)
    greeting = {"protocol": PROTOCOL, "python": sys.version.split()[0]}
    write_all(1, options["greeting"].encode("ascii") + json.dumps(greeting).encode("ascii") + b"\n")
    keep_memory()
    widen_pipes()
    try:
        Program(root, 0, 1).serve()
    except (BrokenPipeError, ConnectionResetError, SystemExit):
        pass  # nobody is left who asks, or could be told
    finally:
        root.discard_staged()
