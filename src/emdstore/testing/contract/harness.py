"""What the contract suite has to know of a store."""

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
    """How the contract suite gets hold of a store, and of its place behind its back.

    Attributes
    ----------
    make
        Opens the store. Every call opens it anew on the same place, as another process would; the place starts empty.
    raw_put, raw_get, raw_keys
        Put, get (None where nothing lies) and list what lies at the place, unfinished files and all, past the methods
        under test. Without them a second instance stands in, which cannot see a fault that both instances share.
    link
        ``link(key, target)`` plants a symbolic link at the key, for stores whose place can hold one.
    plant_strangers
        Plants things at the place that no key can name (``a//b`` in a bucket, a named pipe or a link that leads nowhere
        in a folder), none of them below ``kept``, and returns their names relative to the store's root, as
        `emdstore.stores.LeftOut` has them.
    unreachable
        Opens a store of the same kind whose place cannot be reached: a port where nothing listens, say.
    garbled
        Opens a store of the same kind whose server answers everything with status 200 and a page of somebody else's, as
        the gateway of a network does before one signs in.
    damaging
        Opens the store over a line that changes a byte of every artifact that comes down it.
    secrets
        Credentials that the store was opened with; they may show nowhere.
    claims
        The capability protocols that the store means to have, when that is to be held to exactly.
    shared
        False for a place that other processes cannot see, such as this process' memory.
    pickles, forks
        False for a store that makes no promise there.
    key_bytes
        How long a key can be, for a store whose own prefix takes its part of the limit.
    many
        How many keys make a listing of more than one page.
    rounds
        How often a race is tried, and how many sequences of calls are compared with a dict; lower it on a slow place.
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
        """Put the same bytes at each key, past the methods under test."""
        for key in keys:
            self.raw_put(key, data)


def outcome(call: Callable[[], object]) -> EmdstoreError | None:
    """Make a call; return the error of the family that it raised, or None. Anything else that it raises comes out."""
    try:
        call()
    except EmdstoreError as error:
        return error
    return None


class Clauses:
    """The fixtures that every group of clauses uses."""

    @pytest.fixture
    def harness(self) -> StoreHarness:
        """Tell the suite how to get hold of the store; every enrolled class has its own."""
        raise NotImplementedError("give the class a fixture 'harness' that returns a StoreHarness")

    @pytest.fixture
    def store(self, harness: StoreHarness) -> ArtifactStore:
        """Return the store under test, its place empty."""
        return harness.make()
