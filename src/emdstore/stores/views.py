"""Stores that show another store: one folder of it, or all of it read-only.

A view has exactly the capabilities of the wrapped store that it can pass on. Because capabilities are found by
`isinstance`, the class of a view is assembled for the store that it wraps, from one small class per capability.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar, cast

import attrs

from emdstore.errors import EmdstoreError, StoreAccessError
from emdstore.keys import join_key, validate_key, validate_prefix
from emdstore.stores.port import (
    CHUNK_SIZE,
    ArtifactInfo,
    ArtifactReader,
    ArtifactStore,
    ArtifactWriter,
    Copied,
    CopiesMany,
    CopySession,
    LeftOut,
    Place,
    StoreSession,
    SupportsCopyFrom,
    SupportsCreate,
    SupportsDelete,
    SupportsDigest,
    SupportsFlush,
    SupportsInfo,
    SupportsLeftOut,
    SupportsPath,
    SupportsPlace,
    SupportsReplaceIf,
    SupportsScope,
    SupportsSession,
    SupportsStreaming,
)

Session = TypeVar("Session", bound=AbstractContextManager[Any])


def scoped(store: ArtifactStore, prefix: str) -> ArtifactStore:
    """Return one folder of a store as a store of its own.

    Parameters
    ----------
    store
        Any store.
    prefix
        The folder; ``""`` is the store itself.

    Returns
    -------
    ArtifactStore
        The store's native sub-store if it has one, otherwise a view with the store's capabilities.

    Raises
    ------
    InvalidKeyError
        If the prefix is not a canonical key.
    UnsafePathError
        If a link leads the folder out of a local store's root.
    """
    if not validate_prefix(prefix):
        return store
    return store.scope(prefix) if isinstance(store, SupportsScope) else ScopedStore(store, prefix)


_OF_FOLDERS = {"iter_keys", "iter_info", "iter_found", "scope", "local_path"}
"""The verbs that take a prefix."""


class StoreView:
    """The base of all views: passes on the four methods and the capabilities of the inner store.

    Subclasses change, refuse or record keys in `_enter`, and name in `_withheld` the capabilities that they cannot pass
    on.

    Parameters
    ----------
    inner
        The store that is shown.
    """

    _withheld: ClassVar[frozenset[type]] = frozenset()
    _keeps_nothing: ClassVar[bool] = False
    """Whether the view keeps no state in this process, so that a copy in a fork does the same."""
    _plain: ClassVar[type[StoreView]]
    _inner: Any

    def __new__(cls, inner: ArtifactStore, *args: object, **options: object) -> Self:
        """Make a view with the capabilities of `inner`."""
        withheld = cls._withheld
        if cls.read_bytes is not StoreView.read_bytes or cls.write_bytes is not StoreView.write_bytes:
            withheld |= {SupportsSession, SupportsDigest}  # those of the store inside would go around them
        found = frozenset(each for each in _VIEWS if each not in withheld and isinstance(inner, each))
        return cast("Self", super().__new__(_composed(cast("Any", cls), found)))

    def __init__(self, inner: ArtifactStore) -> None:
        self._inner = inner

    def _enter(self, verb: str, key: str) -> str:
        """Return the inner store's key for a key (or prefix) of this store, just before a call is passed on."""
        return validate_prefix(key) if verb in _OF_FOLDERS else validate_key(key)

    def _leave(self, key: str) -> str:
        """Return this store's key for a key of the inner store."""
        return key

    def _within(self, place: Place) -> Place:
        """Return where this store is, if the inner one is at `place`."""
        return place

    @contextmanager
    def _entered(self, verb: str, key: str) -> Iterator[str]:
        """Give the inner store's key; an error then carries the key that this store was asked for."""
        inner_key = self._enter(verb, key)
        try:
            yield inner_key
        except EmdstoreError as error:
            if error.key == inner_key:
                error.key = key
            raise

    def _arguments(self) -> tuple[object, ...]:
        """Return the arguments that recreate this view; it pickles and compares by them."""
        return (self._inner,)

    def __reduce__(self) -> tuple[object, ...]:
        return self._plain, self._arguments()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoreView):
            return NotImplemented
        return self._plain is other._plain and self._arguments() == other._arguments()

    def __hash__(self) -> int:
        return hash((self._plain, self._arguments()))

    def __repr__(self) -> str:
        return f"{self._plain.__name__}({', '.join(map(repr, self._arguments()))})"

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        with self._entered("exists", key) as inner_key:
            return cast("bool", self._inner.exists(inner_key))

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        with self._entered("read_bytes", key) as inner_key:
            return cast("bytes", self._inner.read_bytes(inner_key))

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        with self._entered("write_bytes", key) as inner_key:
            self._inner.write_bytes(inner_key, data)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`."""
        return map(self._leave, self._inner.iter_keys(self._enter("iter_keys", prefix)))


@functools.cache
def _composed(view: type[StoreView], capabilities: frozenset[type]) -> Any:
    bases = [_VIEWS[each] for each in _VIEWS if each in capabilities]
    return type(view.__name__, (view, *bases), {"_plain": view, "__module__": view.__module__, "__doc__": view.__doc__})


class _InfoView(StoreView):
    def info(self, key: str, /) -> ArtifactInfo:
        with self._entered("info", key) as inner_key:
            return attrs.evolve(cast("ArtifactInfo", self._inner.info(inner_key)), key=key)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        inner = self._inner.iter_info(self._enter("iter_info", prefix))
        return (attrs.evolve(info, key=self._leave(info.key)) for info in inner)


class _LeftOutView(StoreView):
    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        return map(self._renamed, self._inner.iter_found(self._enter("iter_found", prefix)))

    def _renamed(self, found: ArtifactInfo | LeftOut) -> ArtifactInfo | LeftOut:
        if isinstance(found, LeftOut):
            return attrs.evolve(found, name=self._leave(found.name))
        return attrs.evolve(found, key=self._leave(found.key))


class _StreamingView(StoreView):
    def open_reader(self, key: str, /) -> ArtifactReader:
        with self._entered("open_reader", key) as inner_key:
            reader = cast("ArtifactReader", self._inner.open_reader(inner_key))
        return reader if key == inner_key else _ReaderView(reader, key)

    def open_writer(self, key: str, /) -> ArtifactWriter:
        with self._entered("open_writer", key) as inner_key:
            return cast("ArtifactWriter", self._inner.open_writer(inner_key))


class _ReaderView:
    """A reader whose info has the key that the caller asked for."""

    def __init__(self, inner: ArtifactReader, key: str) -> None:
        self._inner, self._key = inner, key

    @property
    def info(self) -> ArtifactInfo:
        return attrs.evolve(self._inner.info, key=self._key)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        return self._inner.read(size)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, traceback)


class _DigestView(StoreView):
    def digest(self, key: str, /) -> tuple[int, str]:
        with self._entered("digest", key) as inner_key:
            return cast("tuple[int, str]", self._inner.digest(inner_key))


class _DeleteView(StoreView):
    def delete(self, key: str, /) -> None:
        with self._entered("delete", key) as inner_key:
            self._inner.delete(inner_key)


class _CreateView(StoreView):
    def create_bytes(self, key: str, data: bytes, /) -> None:
        with self._entered("create_bytes", key) as inner_key:
            self._inner.create_bytes(inner_key, data)


class _ReplaceIfView(StoreView):
    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        with self._entered("replace_bytes", key) as inner_key:
            self._inner.replace_bytes(inner_key, data, seen)


class _PathView(StoreView):
    def local_path(self, key: str = "", /) -> Path:
        with self._entered("local_path", key) as inner_key:
            return cast("Path", self._inner.local_path(inner_key))


class _FlushView(StoreView):
    def flush(self) -> None:
        self._inner.flush()


class _CopyFromView(StoreView):
    def copy_from(self, source: ArtifactStore, /) -> CopySession | None:
        session = self._inner.copy_from(source)
        if session is None:
            return None
        kind = _ManyCopiesView if isinstance(session, CopiesMany) else _CopySessionView
        return kind(self, cast("CopySession", session))


class _OpenedBy(Generic[Session]):
    """A session of the inner store, entered and left with this one."""

    def __init__(self, view: StoreView, session: Session) -> None:
        self._view, self._session = view, session

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, traceback)


class _CopySessionView(_OpenedBy[CopySession]):
    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        return self._session.copy(self._view._enter("copy", key), moved)


class _ManyCopiesView(_CopySessionView):
    def copy_many(
        self, keys: Sequence[str], moved: Callable[[int], object] | None = None, /
    ) -> Iterator[Copied | EmdstoreError]:
        inner = [self._view._enter("copy", key) for key in keys]
        return cast("CopiesMany", self._session).copy_many(inner, moved)


class _SessionView(StoreView):
    def session(self) -> _StoreSessionView:
        return _StoreSessionView(self, self._inner.session())


class _StoreSessionView(_OpenedBy[StoreSession]):
    def read_bytes(self, key: str, /) -> bytes:
        with self._view._entered("read_bytes", key) as inner_key:
            return self._session.read_bytes(inner_key)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        with self._view._entered("write_bytes", key) as inner_key:
            self._session.write_bytes(inner_key, data)


class _PlaceView(StoreView):
    def place(self) -> Place:
        place = self._within(cast("Place", self._inner.place()))
        return place if self._keeps_nothing else attrs.evolve(place, shared=False)


class _ScopeView(StoreView):
    def scope(self, prefix: str, /) -> StoreView:
        """Return the same kind of view of the inner store's folder."""
        _, *rest = self._arguments()
        return self._plain(self._inner.scope(self._enter("scope", prefix)), *rest)


_VIEWS: dict[type, type[StoreView]] = {
    SupportsInfo: _InfoView,
    SupportsStreaming: _StreamingView,
    SupportsDigest: _DigestView,
    SupportsDelete: _DeleteView,
    SupportsCreate: _CreateView,
    SupportsReplaceIf: _ReplaceIfView,
    SupportsPath: _PathView,
    SupportsFlush: _FlushView,
    SupportsCopyFrom: _CopyFromView,
    SupportsSession: _SessionView,
    SupportsScope: _ScopeView,
    SupportsPlace: _PlaceView,
    SupportsLeftOut: _LeftOutView,
}


class ScopedStore(StoreView):
    """One folder of a store that has no native sub-stores; see `scoped`.

    Parameters
    ----------
    inner
        The store.
    prefix
        The folder.
    """

    # A copy session keeps keys as they are, and here they differ inside and outside.
    _withheld = frozenset({SupportsCopyFrom, SupportsScope})
    _keeps_nothing = True

    def __init__(self, inner: ArtifactStore, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = validate_key(prefix)

    @property
    def inner(self) -> ArtifactStore:
        """The whole store."""
        return cast("ArtifactStore", self._inner)

    @property
    def prefix(self) -> str:
        """The folder."""
        return self._prefix

    def _enter(self, verb: str, key: str) -> str:
        # Checked before and after: `../x` may not become `folder/../x`, and the whole key has limits too.
        return validate_key(join_key(self._prefix, super()._enter(verb, key)))

    def _leave(self, key: str) -> str:
        return key[len(self._prefix) + 1 :]

    def _within(self, place: Place) -> Place:
        return attrs.evolve(place, path=join_key(place.path, self._prefix))

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._prefix


class ReadOnlyStore(StoreView):
    """A store that cannot be changed through this view: for results that are only to be looked at.

    `write_bytes` raises `StoreAccessError` before any I/O, and the capabilities that write are not there.

    Parameters
    ----------
    inner
        The store.
    """

    _withheld = frozenset({SupportsDelete, SupportsCreate, SupportsReplaceIf, SupportsCopyFrom, SupportsFlush})
    _keeps_nothing = True

    def _enter(self, verb: str, key: str) -> str:
        if verb in ("write_bytes", "open_writer"):
            self._refuse(validate_key(key))
        return super()._enter(verb, key)

    def _refuse(self, key: str) -> NoReturn:
        raise StoreAccessError(f"{self!r} is read-only; {key!r} was not written", key=key, store=repr(self))
