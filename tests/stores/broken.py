"""Stores that are broken on purpose, each in one way that real ones were, and the tests that must notice.

`broken_contract.py` enrols them in the contract, and `test_teeth.py` runs that. This module does without pytest because
child processes import it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import queue
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import attrs

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import in_folder, is_staging, is_valid_key, join_key, validate_key, validate_prefix
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactInfo, Copied, LeftOut, Place

SECRET = "s3cr3t-k3y"


class GoodStore:
    """Files of a folder, and nothing but the four methods: what a third party might write, and it passes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"

    def path(self, key: str) -> Path:
        path, root = self.root / validate_key(key), os.path.realpath(self.root)
        if not os.path.realpath(path).startswith(root + "/"):
            raise UnsafePathError(f"{key!r} leads out of {self!r}", key=key)
        return path

    def exists(self, key: str, /) -> bool:
        return self.path(key).is_file()

    def read_bytes(self, key: str, /) -> bytes:
        path = self.path(key)
        if not path.is_file():
            raise ArtifactNotFoundError(f"no artifact {key!r} in {self!r}", key=key)
        return path.read_bytes()

    def write_bytes(self, key: str, data: bytes, /) -> None:
        path = self.path(key)
        staged = path.with_name(f".emdstore-{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(data)
            self.put_in_place(staged, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            staged.unlink(missing_ok=True) if path.parent.is_dir() else None
            raise KeyConflictError(f"cannot hold {key!r} beside what is there in {self!r}", key=key) from error
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise StoreError(f"cannot write {key!r} in {self!r}", key=key) from error

    def put_in_place(self, staged: Path, path: Path) -> None:
        staged.replace(path)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        validate_prefix(prefix)
        return iter([key for key in sorted(self.found()) if in_folder(key, prefix)])

    def found(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self.root).as_posix()
                inside = os.path.realpath(path).startswith(os.path.realpath(self.root))
                if is_valid_key(key) and not is_staging(name) and inside and path.is_file():
                    yield key


# -- the register ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Bite:
    """A broken store, how it is opened, and the tests that have to fail."""

    make: Callable[[Path], Any]
    tests: tuple[str, ...]
    options: dict[str, Any]


BITES: dict[str, Bite] = {}


def caught_by(*tests: str, **options: Any) -> Callable[[type], type]:
    def register(store: type) -> type:
        BITES[store.__name__] = Bite(store, tests, options)
        return store

    return register


# -- keys ------------------------------------------------------------------------------------------------------------


class Unchecked(GoodStore):
    """Takes any text for a key."""

    def path(self, key: str) -> Path:
        return Path(f"{self.root}/{key}")


@caught_by("test_refuses_a_key_that_is_not_canonical[parent inside]", "test_refuses_a_key_that_is_not_canonical[dot]")
class FollowsParentSegments(Unchecked):
    pass


@caught_by("test_refuses_a_key_that_is_not_canonical[absolute]")
class AcceptsAbsoluteKeys(GoodStore):
    def path(self, key: str) -> Path:
        return super().path(key.removeprefix("/"))


@caught_by("test_refuses_a_key_that_is_not_canonical[staging name]")
class TakesStagingNamesForKeys(GoodStore):
    def path(self, key: str) -> Path:
        return super().path(key) if ".emdstore-" not in key else self.root / key


@caught_by("test_refuses_a_key_that_is_not_canonical[trailing slash]")
class ChecksEverythingButPrefixes(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return (key for key in sorted(self.found()) if in_folder(key, prefix))


@caught_by("test_similar_keys_are_different_keys[case]", "test_keeps_a_key_exactly[capital]", "test_agrees_with_a_dict")
class FoldsCase(GoodStore):
    def path(self, key: str) -> Path:
        return super().path(key if not isinstance(key, str) else key.lower())


@caught_by("test_similar_keys_are_different_keys[composed and decomposed]", "test_keeps_a_key_exactly[decomposed]")
class NormalisesUnicode(GoodStore):
    def path(self, key: str) -> Path:
        return super().path(unicodedata.normalize("NFC", key))


@caught_by("test_keeps_a_key_exactly[escaped space]", "test_similar_keys_are_different_keys[escapes]")
class DecodesUrls(GoodStore):
    def path(self, key: str) -> Path:
        return super().path(unquote(key))


@caught_by("test_keeps_a_key_exactly[trailing space]")
class StripsKeys(GoodStore):
    def path(self, key: str) -> Path:
        return super().path(key.strip())


@caught_by("test_a_beside_a_folder_a_is_held_or_refused[a-a/b]")
class RaisesBareErrors(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@caught_by("test_a_beside_a_folder_a_is_held_or_refused[a/b-a]")
class ReplacesFoldersByFiles(GoodStore):
    def put_in_place(self, staged: Path, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        staged.replace(path)


# -- values ----------------------------------------------------------------------------------------------------------


@caught_by("test_empty_bytes_are_a_value", "test_keeps_the_bytes_exactly[empty]", "test_agrees_with_a_dict")
class DropsEmptyValues(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        if data:
            super().write_bytes(key, data)


@caught_by("test_keeps_the_bytes_exactly[16 KiB + 1]")
class TruncatesAt16KiB(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        super().write_bytes(key, data[: 16 * 1024])


@caught_by("test_keeps_the_bytes_exactly[line ends]")
class WritesText(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        super().write_bytes(key, data.replace(b"\r\n", b"\n"))


@caught_by("test_keeps_the_bytes_exactly[gzip]")
class Decompresses(GoodStore):
    def read_bytes(self, key: str, /) -> bytes:
        data = super().read_bytes(key)
        return b"" if data.startswith(b"\x1f\x8b") else data


@caught_by("test_writing_again_replaces_the_value[longer value-short]")
class WritesOver(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        old = self.read_bytes(key) if self.exists(key) else b""
        super().write_bytes(key, data + old[len(data) :])


@caught_by("test_an_absent_key_is_not_found[absent]", "test_an_untouched_place_is_empty")
class ReadsAbsentAsEmpty(GoodStore):
    def read_bytes(self, key: str, /) -> bytes:
        return super().read_bytes(key) if self.exists(key) else b""


@caught_by("test_a_mere_prefix_does_not_exist[run1]")
class PrefixesExist(GoodStore):
    def exists(self, key: str, /) -> bool:
        return self.path(key).exists()


@caught_by("test_what_others_wrote_is_read")
class CachesValues(GoodStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cache: dict[str, bytes] = {}

    def read_bytes(self, key: str, /) -> bytes:
        if key not in self.cache:
            self.cache[key] = super().read_bytes(key)
        return self.cache[key]


# -- atomicity -------------------------------------------------------------------------------------------------------


@caught_by(
    "test_a_reader_during_a_write_sees_the_old_or_the_new",
    "test_death_within_a_write_leaves_the_old_or_the_new[100000]",
    "test_a_killed_writer_leaves_the_old_or_the_new",
    "test_readers_beside_writing_processes_see_whole_values",
    "test_a_write_that_fails_leaves_the_old_value",
)
class WritesInPlace(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(data), 4096):
                    file.write(data[start : start + 4096])
                    time.sleep(0.0005)  # whenever it is killed, it is in the middle of it
        except OSError as error:
            raise StoreError(str(error), key=key) from error


@caught_by("test_a_reader_during_a_write_sees_the_old_or_the_new")
class RemovesThenRenames(GoodStore):
    def put_in_place(self, staged: Path, path: Path) -> None:
        path.unlink(missing_ok=True)
        time.sleep(0.005)
        staged.rename(path)


@caught_by("test_two_writers_of_one_key_leave_one_of_both")
class SharesStagingNames(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".emdstore-{path.name}")
        with staged.open("wb", buffering=0) as file:
            for start in range(0, len(data), 4096):
                file.write(data[start : start + 4096])
        time.sleep(0.005)
        staged.replace(path)


@caught_by("test_writers_that_share_a_store_do_not_disturb_each_other")
class RacesToMakeFolders(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        parent = self.path(key).parent
        if not parent.exists():
            time.sleep(0.1)  # long enough for another thread to come, also on a busy machine
            parent.mkdir(parents=True)
        super().write_bytes(key, data)


@caught_by("test_a_write_that_fails_leaves_the_old_value")
class LeavesStagingFiles(GoodStore):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(".emdstore-left")
        try:
            staged.write_bytes(data)
        except OSError as error:
            raise StoreError(str(error), key=key) from error
        staged.replace(path)


@caught_by("test_writing_leaves_nothing_else_behind")
class KeepsBackups(GoodStore):
    def put_in_place(self, staged: Path, path: Path) -> None:
        shutil.copy(staged, path.with_name(".emdstore-backup"))
        super().put_in_place(staged, path)


@caught_by("test_another_process_sees_the_same_artifacts")
class WritesLater(GoodStore):
    waiting: ClassVar[dict[Path, dict[str, bytes]]] = {}

    def write_bytes(self, key: str, data: bytes, /) -> None:
        validate_key(key)
        mine = self.waiting.setdefault(self.root, {})
        mine[key] = data
        if len(mine) > 1:
            for each in list(mine):
                super().write_bytes(each, mine.pop(each))

    def read_bytes(self, key: str, /) -> bytes:
        held = self.waiting.get(self.root, {})
        return held[key] if key in held else super().read_bytes(key)


# -- listings --------------------------------------------------------------------------------------------------------


@caught_by("test_staging_files_never_show")
class ListsStagingFiles(GoodStore):
    def found(self) -> Iterator[str]:
        return (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())


@caught_by("test_lists_in_the_order_of_the_bytes", "test_a_prefix_means_a_folder[a]", "test_agrees_with_a_dict")
class ListsFolderByFolder(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return iter(sorted(super().iter_keys(prefix), key=lambda key: key.split("/")))


@caught_by("test_lists_in_the_order_of_the_bytes")
class ListsInTheOrderOfUtf16(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return iter(sorted(super().iter_keys(prefix), key=lambda key: key.encode("utf-16-be")))


@caught_by("test_lists_in_the_order_of_the_bytes", "test_lists_more_than_one_page", "test_agrees_with_a_dict")
class ListsTwice(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return itertools.chain.from_iterable((key, key) for key in super().iter_keys(prefix))


@caught_by("test_a_prefix_means_a_folder[a]", "test_what_is_no_folder_lists_nothing[absent]", "test_agrees_with_a_dict")
class ListsEverythingUnderEveryPrefix(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        validate_prefix(prefix)
        return iter(sorted(self.found()))


@caught_by("test_a_prefix_means_a_folder[run1]", "test_what_is_no_folder_lists_nothing[run]")
class ListsByStringPrefix(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        validate_prefix(prefix)
        return (key for key in sorted(self.found()) if key.startswith(prefix))


@caught_by("test_a_prefix_means_a_folder[a/b]")
class ListsRelativeToThePrefix(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return (key.removeprefix(f"{prefix}/") for key in super().iter_keys(prefix))


@caught_by("test_a_listing_is_never_stale")
class CachesListings(GoodStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cache: dict[str, list[str]] = {}

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        if prefix not in self.cache:
            self.cache[prefix] = list(super().iter_keys(prefix))
        return iter(self.cache[prefix])


@caught_by("test_lists_more_than_one_page")
class ListsTheFirstPage(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return itertools.islice(super().iter_keys(prefix), 1000)


@caught_by("test_a_listing_is_an_iterator")
class ListsIntoAList(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Any:
        return list(super().iter_keys(prefix))


@caught_by("test_listing_while_others_write_is_sound", rounds=150)
class LooksAtWhatIsGone(LocalArtifactStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        keys = list(super().iter_keys(prefix))
        time.sleep(0.005)
        for key in keys:
            (self.root / key).stat()
        return iter(keys)


@caught_by("test_an_untouched_place_is_empty")
class NeedsItsFolder(GoodStore):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        list(self.root.iterdir())
        return super().iter_keys(prefix)


# -- links -----------------------------------------------------------------------------------------------------------


@caught_by("test_a_link_that_leads_out_is_refused[file]", "test_a_link_that_leads_out_is_refused[folder]")
class FollowsLinksOut(GoodStore):
    def path(self, key: str) -> Path:
        return self.root / validate_key(key)


@caught_by("test_links_out_are_not_listed")
class ListsLinksOut(GoodStore):
    def found(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.root, followlinks=True):
            for name in names:
                yield Path(folder, name).relative_to(self.root).as_posix()


@caught_by("test_links_inside_are_followed")
class RefusesEveryLink(GoodStore):
    def path(self, key: str) -> Path:
        path = super().path(key)
        if Path(os.path.realpath(self.root)) / key != Path(os.path.realpath(path)):
            raise UnsafePathError(f"{key!r} is a link", key=key)
        return path


@caught_by("test_a_folder_that_links_to_itself_is_listed_to_an_end[.]")
class WalksInCircles(GoodStore):
    def found(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.root, followlinks=True):
            for name in names:
                yield Path(folder, name).relative_to(self.root).as_posix()


@caught_by("test_a_dangling_link_is_absent")
class ListsDanglingLinks(GoodStore):
    def found(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                yield Path(folder, name).relative_to(self.root).as_posix()


# -- processes and discretion ----------------------------------------------------------------------------------------


@caught_by("test_pickles_as_its_configuration")
class HoldsALock(GoodStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lock = threading.Lock()


@caught_by("test_pickles_as_its_configuration")
class PicklesItsValues(GoodStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: dict[str, bytes] = {}

    def write_bytes(self, key: str, data: bytes, /) -> None:
        super().write_bytes(key, data)
        self.written[key] = data


@caught_by("test_a_fork_can_go_on", patience=1.5)
class HangsAfterAFork(GoodStore):
    """All reading is done by a thread, which a fork leaves behind."""

    asked: ClassVar[queue.Queue[Any]] = queue.Queue()
    answers: ClassVar[queue.Queue[Any]] = queue.Queue()
    thread: ClassVar[threading.Thread | None] = None

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if self.thread is None:
            type(self).thread = threading.Thread(target=self.serve, daemon=True)
            self.thread.start()

    @classmethod
    def serve(cls) -> None:
        while True:
            cls.answers.put(cls.asked.get()())

    def exists(self, key: str, /) -> bool:
        return super().exists(key)

    def read_bytes(self, key: str, /) -> bytes:
        self.asked.put(lambda: GoodStore.read_bytes(self, key))
        return self.answers.get()


@caught_by("test_repr_tells_where_and_no_secret")
class TellsItsSecret(GoodStore):
    def __repr__(self) -> str:
        return f"TellsItsSecret({str(self.root)!r}, token={SECRET!r})"


@caught_by("test_errors_carry_no_secret")
class TellsItsSecretInErrors(GoodStore):
    def read_bytes(self, key: str, /) -> bytes:
        try:
            return super().read_bytes(key)
        except ArtifactNotFoundError as error:
            raise error from RuntimeError(f"GET https://host/?token={SECRET}")


class Unreachable(GoodStore):
    """Checks its keys, as every store does, and then gets no answer."""

    def exists(self, key: str, /) -> bool:
        raise self.no_answer(validate_key(key))

    def read_bytes(self, key: str, /) -> bytes:
        raise self.no_answer(validate_key(key))

    def write_bytes(self, key: str, data: bytes, /) -> None:
        raise self.no_answer(validate_key(key))

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        raise self.no_answer(validate_prefix(prefix))

    def no_answer(self, key: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"no answer about {key!r} from {self!r}", key=key)


class UnreachableIsAbsent(Unreachable):
    def exists(self, key: str, /) -> bool:
        validate_key(key)
        return False


class ChecksKeysLast(Unreachable):
    def exists(self, key: str, /) -> bool:
        raise self.no_answer(key)


@caught_by("test_an_outage_is_not_absence", unreachable=lambda: UnreachableIsAbsent(Path("/absent")))
class TakesAnOutageForAbsence(GoodStore):
    pass


class PageIsEmpty(Unreachable):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return iter(())


@caught_by("test_somebody_elses_page_is_no_answer", garbled=lambda: PageIsEmpty(Path("/absent")))
class TakesAPageForAnEmptyListing(GoodStore):
    pass


class Flipping(GoodStore):
    def read_bytes(self, key: str, /) -> bytes:
        data = super().read_bytes(key)
        return bytes([data[0] ^ 1]) + data[1:]


@caught_by("test_damaged_bytes_are_never_given_out_whole[small]", damaging=Flipping)
class GivesOutDamagedBytes(GoodStore):
    pass


@caught_by("test_checks_keys_before_any_io", unreachable=lambda: ChecksKeysLast(Path("/absent")))
class LetsTheEngineCheckKeys(GoodStore):
    pass


class OddError(ArtifactNotFoundError):
    def __init__(self, store: str, key: str) -> None:
        super().__init__(f"no {key} in {store}", key=key)


@caught_by("test_errors_cross_processes")
class RaisesWhatDoesNotPickle(GoodStore):
    def read_bytes(self, key: str, /) -> bytes:
        if not self.exists(key):
            raise OddError(repr(self), key)
        return super().read_bytes(key)


# -- capabilities ----------------------------------------------------------------------------------------------------


@caught_by("test_claims_no_half_of_a_capability")
class HasHalfACapability(GoodStore):
    def info(self, key: str, /) -> ArtifactInfo:
        return ArtifactInfo(key, len(self.read_bytes(key)), time.time())


@caught_by("test_info_tells_size_and_time[value]")
class TellsMilliseconds(LocalArtifactStore):
    def info(self, key: str, /) -> ArtifactInfo:
        info = super().info(key)
        return attrs.evolve(info, modified=info.modified * 1000)


@caught_by("test_info_is_of_now")
class CachesInfo(LocalArtifactStore):
    cache: ClassVar[dict[tuple[Path, str], ArtifactInfo]] = {}

    def info(self, key: str, /) -> ArtifactInfo:
        return self.cache.setdefault((self.root, key), super().info(key))


@caught_by("test_info_of_nothing_is_not_found[a]")
class TellsTheSizeOfFolders(LocalArtifactStore):
    def info(self, key: str, /) -> ArtifactInfo:
        path = self.local_path(validate_key(key))
        return ArtifactInfo(key, path.stat().st_size, 0.0) if path.is_dir() else super().info(key)


@caught_by("test_infos_follow_the_listing[]")
class QuotesVersionsInListings(LocalArtifactStore):
    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        return (attrs.evolve(info, version=f'"{info.version}"') for info in super().iter_info(prefix))


@caught_by("test_deleting_nothing_changes_nothing[run1]")
class DeletesFolders(LocalArtifactStore):
    def delete(self, key: str, /) -> None:
        shutil.rmtree(self.local_path(validate_key(key)), ignore_errors=True)
        super().delete(key)


@caught_by("test_a_deleted_artifact_is_gone")
class CannotDeleteTwice(LocalArtifactStore):
    def delete(self, key: str, /) -> None:
        self.read_bytes(key)
        super().delete(key)


@caught_by("test_a_folder_emptied_is_no_obstacle")
class LeavesEmptyFolders(LocalArtifactStore):
    def delete(self, key: str, /) -> None:
        super().delete(key)
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        if (self.root / key).is_dir():
            raise KeyConflictError(f"a folder lies at {key!r}", key=key)
        super().write_bytes(key, data)


@caught_by("test_one_creator_wins")
class LooksThenCreates(LocalArtifactStore):
    def create_bytes(self, key: str, data: bytes, /) -> None:
        if self.exists(key):
            raise ArtifactExistsError(f"{key!r} is there", key=key)
        time.sleep(0.02)
        self.write_bytes(key, data)


@caught_by("test_creates_only_what_is_not_there[]")
class TakesEmptyForAbsent(LocalArtifactStore):
    def create_bytes(self, key: str, data: bytes, /) -> None:
        if self.exists(key) and not self.read_bytes(key):
            self.delete(key)
        super().create_bytes(key, data)


@caught_by("test_one_replacer_wins")
class LooksThenReplaces(LocalArtifactStore):
    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        if hashlib.sha256(self.read_bytes(key)).hexdigest() != seen:
            raise ArtifactChangedError(f"{key!r} has changed", key=key)
        time.sleep(0.02)
        self.write_bytes(key, data)


@caught_by("test_replaces_only_what_was_seen[value]", "test_replaces_only_what_was_seen[]")
class ReplacesWhateverIsThere(LocalArtifactStore):
    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        self.read_bytes(key)
        self.write_bytes(key, data)


@caught_by("test_nothing_is_not_replaced[absent]", "test_nothing_is_not_replaced[absent/deep]")
class ReplacesNothing(LocalArtifactStore):
    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        if not self.exists(key):
            self.write_bytes(key, b"")
        super().replace_bytes(key, data, seen)


class _Appending:
    """A writer that appends to a file; what happens at the end is up to the store."""

    def __init__(self, path: Path, end: Callable[[bool], None]) -> None:
        self.path, self.end = path, end
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def __enter__(self) -> _Appending:
        return self

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def __exit__(self, kind: object, *rest: object) -> None:
        self.end(kind is None)


@caught_by("test_nothing_shows_before_the_end[new]", "test_a_killed_stream_leaves_the_old_value")
class StreamsInPlace(LocalArtifactStore):
    def open_writer(self, key: str, /) -> Any:
        return _Appending(self.local_path(validate_key(key)), lambda well: None)


@caught_by("test_leaving_by_an_exception_undoes_all[10-replacing-ValueError]")
class CommitsOnException(LocalArtifactStore):
    def open_writer(self, key: str, /) -> Any:
        path = self.local_path(validate_key(key))
        staged = path.with_name(f".emdstore-{threading.get_ident()}")
        return _Appending(staged, lambda well: staged.replace(path) and None)


@caught_by("test_leaving_by_an_exception_undoes_all[10-new-KeyboardInterrupt]")
class LeavesWhatWasStreamed(LocalArtifactStore):
    def open_writer(self, key: str, /) -> Any:
        path = self.local_path(validate_key(key))
        staged = path.with_name(f".emdstore-{threading.get_ident()}")
        return _Appending(staged, lambda well: staged.replace(path) and None if well else None)


class _Reader(io.BytesIO):
    def __init__(self, info: ArtifactInfo, data: bytes) -> None:
        super().__init__(data)
        self.info = info


@caught_by("test_reads_in_pieces[9 MiB]")
class StopsAtAShortPiece(LocalArtifactStore):
    def open_reader(self, key: str, /) -> Any:
        return _Reader(self.info(key), self.read_bytes(key)[: 8 * 1024 * 1024])


class _RangeReader(_Reader):
    def __init__(self, store: LocalArtifactStore, key: str) -> None:
        super().__init__(store.info(key), b"")
        self.store, self.key, self.done = store, key, 0

    def read(self, size: int | None = -1, /) -> bytes:
        part = self.store.read_bytes(self.key)[self.done : self.done + (size or 0)]
        self.done += len(part)
        return part


@caught_by("test_a_reader_reads_one_version[longer]")
class ReadsByRanges(LocalArtifactStore):
    def open_reader(self, key: str, /) -> Any:
        return _RangeReader(self, key)


@caught_by("test_local_paths_lead_to_the_bytes")
class TellsRelativePaths(LocalArtifactStore):
    def local_path(self, key: str = "", /) -> Path:
        return Path(os.path.relpath(super().local_path(key)))


@caught_by("test_a_digest_is_of_the_bytes_as_they_are_now[5]")
class NotesDigests(LocalArtifactStore):
    noted: ClassVar[dict[str, tuple[int, str]]] = {}

    def write_bytes(self, key: str, data: bytes, /) -> None:
        super().write_bytes(key, data)
        self.noted[f"{self.root}/{key}"] = len(data), hashlib.sha256(data).hexdigest()

    def digest(self, key: str, /) -> tuple[int, str]:
        try:
            return self.noted[f"{self.root}/{validate_key(key)}"]
        except KeyError:
            raise ArtifactNotFoundError(key, key=key) from None


@caught_by("test_flush_may_be_called_at_any_time")
class CannotFlushNothing(LocalArtifactStore):
    def flush(self) -> None:
        os.close(os.open(self.root, os.O_RDONLY))


@caught_by("test_scopes_nest")
class ForgetsTheOuterScope(LocalArtifactStore):
    def scope(self, prefix: str, /) -> Any:
        root = next((each for each in self.root.parents if each.name == "place"), self.root)
        return ForgetsTheOuterScope(root / validate_prefix(prefix))


@caught_by("test_refuses_a_key_that_is_not_canonical[parent]")
class ScopesAnywhere(LocalArtifactStore):
    def scope(self, prefix: str, /) -> Any:
        return ScopesAnywhere(self.root / prefix)


class _Copies:
    """A copy session of files, as a broken store has it."""

    def __init__(self, source: LocalArtifactStore, dest: LocalArtifactStore) -> None:
        self.source, self.dest = source, dest

    def __enter__(self) -> _Copies:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def copy(self, key: str) -> Copied:
        data = self.source.read_bytes(key)
        self.put(key, data)
        return Copied(len(data), hashlib.sha256(data).hexdigest())

    def put(self, key: str, data: bytes) -> None:
        self.dest.write_bytes(key, data)


class _Links(_Copies):
    def put(self, key: str, data: bytes) -> None:
        path = self.dest.local_path(key)
        path.unlink(missing_ok=True)
        path.hardlink_to(self.source.local_path(key))


@caught_by("test_a_copy_replaces")
class CopiesByLink(LocalArtifactStore):
    def copy_from(self, source: Any, /) -> Any:
        return _Links(source, self)


class _Guesses(_Copies):
    def copy(self, key: str) -> Copied:
        return attrs.evolve(super().copy(key), sha256=hashlib.sha256(key.encode()).hexdigest())


@caught_by("test_copies_whole[empty]")
class MakesUpDigests(LocalArtifactStore):
    def copy_from(self, source: Any, /) -> Any:
        return _Guesses(source, self)


class _Touches(_Copies):
    def copy(self, key: str) -> Copied:
        if not self.source.exists(key):
            self.dest.write_bytes(key, b"")
        return super().copy(key)


@caught_by("test_a_copy_of_nothing_is_not_found")
class CopiesNothingToSomething(LocalArtifactStore):
    def copy_from(self, source: Any, /) -> Any:
        return _Touches(source, self)


class _Unchecked(_Copies):
    def copy(self, key: str) -> Copied:
        path = Path(join_key(str(self.source.root), key))
        if not path.is_file():
            raise ArtifactNotFoundError(key, key=key)
        return super().copy(key)


@caught_by("test_a_copy_checks_its_key")
class CopiesUncheckedKeys(LocalArtifactStore):
    def copy_from(self, source: Any, /) -> Any:
        return _Unchecked(source, self)


@caught_by("test_says_where_it_cannot_copy_from")
class CopiesFromAnything(LocalArtifactStore):
    def copy_from(self, source: Any, /) -> Any:
        return _Copies(source, self)


class _Session:
    """A session that only passes on, for the broken ones to begin from."""

    def __init__(self, store: LocalArtifactStore) -> None:
        self.store = store

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read_bytes(self, key: str) -> bytes:
        return self.store.read_bytes(key)

    def write_bytes(self, key: str, data: bytes) -> None:
        self.store.write_bytes(key, data)


class _HoldsBack(_Session):
    def __init__(self, store: LocalArtifactStore) -> None:
        super().__init__(store)
        self.held: dict[str, bytes] = {}

    def __exit__(self, *_: object) -> None:
        for key, data in self.held.items():
            self.store.write_bytes(key, data)

    def read_bytes(self, key: str) -> bytes:
        return self.held[key] if key in self.held else super().read_bytes(key)

    def write_bytes(self, key: str, data: bytes) -> None:
        self.held[validate_key(key)] = data


@caught_by("test_a_session_reads_and_writes")
class WritesWhenTheSessionEnds(LocalArtifactStore):
    def session(self) -> Any:
        return _HoldsBack(self)


class _Remembers(_Session):
    def __init__(self, store: LocalArtifactStore) -> None:
        super().__init__(store)
        self.seen: dict[str, bytes] = {}

    def read_bytes(self, key: str) -> bytes:
        return self.seen[key] if key in self.seen else super().read_bytes(key)

    def write_bytes(self, key: str, data: bytes) -> None:
        super().write_bytes(key, data)
        self.seen[key] = data


@caught_by("test_a_session_sees_what_others_do")
class RemembersWhatItWrote(LocalArtifactStore):
    def session(self) -> Any:
        return _Remembers(self)


class _Unlooked(_Session):
    def read_bytes(self, key: str) -> bytes:
        try:
            return Path(join_key(str(self.store.root), key)).read_bytes()
        except OSError:
            raise ArtifactNotFoundError(key, key=key) from None


@caught_by("test_a_session_raises_what_the_store_raises")
class ReadsUncheckedKeysInSessions(LocalArtifactStore):
    def session(self) -> Any:
        return _Unlooked(self)


# -- what is left out, and where it is -------------------------------------------------------------------------------


def _a_pipe_in(root: Path) -> list[str]:
    root.mkdir(parents=True, exist_ok=True)
    os.mkfifo(root / "pipe")
    return ["pipe"]


@caught_by("test_tells_what_no_key_can_name", strangers=_a_pipe_in)
class KeepsQuietAboutWhatItLeavesOut(LocalArtifactStore):
    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        return self.iter_info(prefix)


@caught_by("test_finds_what_a_listing_shows[run1]", "test_tells_what_no_key_can_name", strangers=_a_pipe_in)
class TellsOfTheWholeStoreForEveryFolder(LocalArtifactStore):
    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        return super().iter_found()


@caught_by("test_tells_where_it_is")
class IsAnotherPlaceEachTime(LocalArtifactStore):
    def place(self) -> Place:
        return attrs.evolve(super().place(), holder=object())


@caught_by("test_a_scope_is_inside")
class TakesItsFoldersForOtherPlaces(LocalArtifactStore):
    def place(self) -> Place:
        return attrs.evolve(super().place(), path=str(id(self)))


@caught_by("test_what_it_calls_shared_is", shared=False)
class CallsItsMemoryShared(LocalArtifactStore):
    """Whose harness says that no other process sees it."""


GOOD = Bite(GoodStore, (), {"unreachable": lambda: Unreachable(Path("/absent"))})
