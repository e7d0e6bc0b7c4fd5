"""What the contract suite needs to know about a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import attrs
import pytest

from emdstore.errors import ArtifactNotFoundError, EmdstoreError
from emdstore.keys import MAX_KEY_BYTES
from emdstore.stores.port import ArtifactStore

RawPut = Callable[[str, bytes], object]
RawGet = Callable[[str], bytes | None]
RawKeys = Callable[[], Iterable[str]]


def _put_through_another_instance(harness: StoreHarness) -> RawPut:
    return lambda key, data: harness.make().write_bytes(key, data)


def _get_through_another_instance(harness: StoreHarness) -> RawGet:
    def get(key: str) -> bytes | None:
        try:
            return harness.make().read_bytes(key)
        except ArtifactNotFoundError:
            return None

    return get


def _keys_through_another_instance(harness: StoreHarness) -> RawKeys:
    return lambda: harness.make().iter_keys()


@attrs.frozen
class StoreHarness:
    """How the contract suite accesses a store, both through its methods and behind its back.

    Attributes
    ----------
    make
        Opens the store. Every call opens the same store anew, as another process would. The store starts empty.
    raw_put, raw_get, raw_keys
        Put, get (None if absent) and list without the methods under test, including unfinished files. By default a
        second instance of the store is used, which cannot reveal faults that both instances share.
    link
        ``link(key, target)`` creates a symbolic link at the key, for stores that can have one.
    plant_strangers
        Creates things that no key can name (``a//b`` in a bucket, a named pipe or a dangling link in a folder), none of
        them below ``kept``, and returns their names relative to the store's root, as in `emdstore.stores.LeftOut`.
    unreachable
        Opens a store of the same kind that cannot be reached, for example at a port where nothing listens.
    garbled
        Opens a store of the same kind whose server answers everything with status 200 and a foreign page, like the
        login page of a network's gateway.
    damaging
        Opens the store over a connection that changes a byte of every artifact that is downloaded.
    secrets
        The store's credentials, which must not be shown anywhere.
    claims
        The exact capability protocols that the store should have.
    shared
        False if other processes cannot see the store, such as one in memory.
    pickles, forks
        False if the store does not promise this.
    key_bytes
        The maximum length of a key, if the store's own prefix takes part of the limit.
    many
        The number of keys that fill more than one page of a listing.
    rounds
        How often a race is tried, and how many sequences of calls are compared with a dict; reduce it for a slow store.
    patience
        Seconds after which a call in another process counts as hung.
    """

    make: Callable[[], ArtifactStore]
    raw_put: RawPut = attrs.field(default=attrs.Factory(_put_through_another_instance, takes_self=True), kw_only=True)
    raw_get: RawGet = attrs.field(default=attrs.Factory(_get_through_another_instance, takes_self=True), kw_only=True)
    raw_keys: RawKeys = attrs.field(
        default=attrs.Factory(_keys_through_another_instance, takes_self=True), kw_only=True
    )
    link: Callable[[str, str], object] | None = attrs.field(default=None, kw_only=True)
    plant_strangers: Callable[[], Collection[str]] | None = attrs.field(default=None, kw_only=True)
    unreachable: Callable[[], ArtifactStore] | None = attrs.field(default=None, kw_only=True)
    garbled: Callable[[], ArtifactStore] | None = attrs.field(default=None, kw_only=True)
    damaging: Callable[[], ArtifactStore] | None = attrs.field(default=None, kw_only=True)
    secrets: Collection[str] = attrs.field(default=(), kw_only=True)
    claims: Collection[type] | None = attrs.field(default=None, kw_only=True)
    shared: bool = attrs.field(default=True, kw_only=True)
    pickles: bool = attrs.field(default=True, kw_only=True)
    forks: bool = attrs.field(default=True, kw_only=True)
    key_bytes: int = attrs.field(default=MAX_KEY_BYTES, kw_only=True)
    many: int = attrs.field(default=1_100, kw_only=True)
    rounds: int = attrs.field(default=25, kw_only=True)
    patience: float = attrs.field(default=30.0, kw_only=True)

    def put_all(self, keys: Iterable[str], data: bytes = b"x") -> None:
        """Put the same bytes at each key, without the methods under test."""
        for key in keys:
            self.raw_put(key, data)


def outcome(call: Callable[[], object]) -> EmdstoreError | None:
    """Make a call; return the emdstore error that it raised, or None. Other exceptions propagate."""
    try:
        call()
    except EmdstoreError as error:
        return error
    return None


class Clauses:
    """The fixtures that every group of clauses uses."""

    @pytest.fixture
    def harness(self) -> StoreHarness:
        """Return the harness of the store under test; every test class defines its own."""
        raise NotImplementedError("give the class a fixture 'harness' that returns a StoreHarness")

    @pytest.fixture
    def store(self, harness: StoreHarness) -> ArtifactStore:
        """Return the store under test, empty."""
        return harness.make()
