"""Comparing a store with a dict over random sequences of calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from emdstore.errors import ArtifactExistsError, ArtifactNotFoundError, KeyConflictError
from emdstore.keys import in_folder, join_key
from emdstore.stores.port import ArtifactStore, SupportsCreate, SupportsDelete, SupportsInfo, SupportsStreaming

# A few names that may collide: as folder and file, by case, by Unicode form, as prefixes, and around '/'.
_SEGMENTS = ["a", "A", "a-b", "a.txt", "a b", "a%20b", "b", "run1", "run10", "é", "e\u0301", "～", "😀"]
KEYS = st.lists(st.sampled_from(_SEGMENTS), min_size=1, max_size=3).map("/".join)
VALUES = st.one_of(st.binary(max_size=8), st.sampled_from([0, 5_000, 20_000]).map(b"\xe9".__mul__))


def store_state_machine(make_store: Callable[[], ArtifactStore]) -> type[RuleBasedStateMachine]:
    """Return a hypothesis state machine that makes the same calls to a store and to a dict.

    Parameters
    ----------
    make_store
        Opens the store, always at the same location. It need not be empty, and what the machine writes stays: every run
        uses its own folder.

    Returns
    -------
    type
        The machine; ``StoreMachine.TestCase`` is a test case of it.
    """
    runs = itertools.count()

    class StoreMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.store = make_store()
            self.model: dict[str, bytes] = {}
            self.folder = f"machine-{next(runs)}"
            while (found := next(self.store.iter_keys(self.folder), None)) is not None:
                # A store that ignores the folder would never have a free one.
                assert in_folder(found, self.folder), f"a listing of {self.folder!r} shows {found!r}"
                self.folder = f"machine-{next(runs)}"

        def key(self, name: str) -> str:
            return join_key(self.folder, name)

        def put(self, name: str, data: bytes, write: Callable[[str, bytes], None]) -> None:
            try:
                write(self.key(name), data)
            except KeyConflictError:
                beside = [other for other in self.model if in_folder(other, name) or in_folder(name, other)]
                assert beside, f"{name!r} was refused beside {sorted(self.model)}"
            else:
                self.model[name] = data

        @rule(name=KEYS, data=VALUES)
        def write(self, name: str, data: bytes) -> None:
            self.put(name, data, self.store.write_bytes)

        @precondition(lambda self: self.model)
        @rule(choice=st.data(), data=VALUES)
        def overwrite(self, choice: st.DataObject, data: bytes) -> None:
            name = choice.draw(st.sampled_from(sorted(self.model)))
            self.store.write_bytes(self.key(name), data)
            self.model[name] = data

        @rule(name=KEYS)
        def read(self, name: str) -> None:
            assert self.store.exists(self.key(name)) == (name in self.model)
            try:
                data = self.store.read_bytes(self.key(name))
            except ArtifactNotFoundError:
                assert name not in self.model
            else:
                assert data == self.model.get(name), f"{name!r} has another value"

        @rule(folder=KEYS)
        def list_a_folder(self, folder: str) -> None:
            expected = sorted(self.key(name) for name in self.model if in_folder(name, folder))
            assert list(self.store.iter_keys(self.key(folder))) == expected

        @rule()
        def open_again(self) -> None:
            self.store = make_store()

        @precondition(lambda self: isinstance(self.store, SupportsDelete))
        @rule(name=KEYS)
        def delete(self, name: str) -> None:
            assert isinstance(self.store, SupportsDelete)
            self.store.delete(self.key(name))
            self.model.pop(name, None)

        @precondition(lambda self: isinstance(self.store, SupportsCreate))
        @rule(name=KEYS, data=VALUES)
        def create(self, name: str, data: bytes) -> None:
            assert isinstance(self.store, SupportsCreate)
            if name in self.model:
                try:
                    self.store.create_bytes(self.key(name), data)
                except ArtifactExistsError:
                    return
                raise AssertionError(f"{name!r} was created twice")
            self.put(name, data, self.store.create_bytes)

        @precondition(lambda self: isinstance(self.store, SupportsStreaming))
        @rule(name=KEYS, parts=st.lists(VALUES, max_size=3), whole=st.booleans())
        def write_stream(self, name: str, parts: list[bytes], whole: bool) -> None:
            streams = self.store
            assert isinstance(streams, SupportsStreaming)

            def write(key: str, data: bytes) -> None:
                with streams.open_writer(key) as writer:
                    for part in parts:
                        writer.write(part)
                    if not whole:
                        raise _GivenUp

            try:
                self.put(name, b"".join(parts), write)
            except _GivenUp:
                assert not whole

        @precondition(lambda self: isinstance(self.store, SupportsInfo))
        @rule()
        def look(self) -> None:
            assert isinstance(self.store, SupportsInfo)
            sizes = [(info.key, info.size) for info in self.store.iter_info(self.folder)]
            assert sizes == sorted((self.key(name), len(data)) for name, data in self.model.items())

        @invariant()
        def lists_what_the_dict_holds(self) -> None:
            assert list(self.store.iter_keys(self.folder)) == sorted(map(self.key, self.model))

        def teardown(self) -> None:
            for name, data in self.model.items():
                assert self.store.read_bytes(self.key(name)) == data, f"{name!r} has another value"
            everything = list(self.store.iter_keys())
            assert everything == sorted(everything)
            assert {self.key(name) for name in self.model} <= set(everything)

    return StoreMachine


def run_store_state_machine(
    make_store: Callable[[], ArtifactStore], *, rounds: int = 25, settings: hypothesis.settings | None = None
) -> None:
    """Compare a store with a dict, by default with the same sequences of calls every time.

    Parameters
    ----------
    make_store
        See `store_state_machine`.
    rounds
        How many sequences of calls are tried.
    settings
        Settings of hypothesis, instead: plain ``settings()`` searches longer, and shortens a failing sequence.

    Raises
    ------
    Exception
        What the store raised, or an `AssertionError` if it differs from the dict, with the sequence of calls.
    """
    if settings is None:
        settings = hypothesis.settings(
            max_examples=rounds,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            # Shortening twenty calls takes hundreds of runs, each with more data in the store than the last.
            phases=[hypothesis.Phase.generate],
            suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
        )
    run_state_machine_as_test(store_state_machine(make_store), settings=settings)


class _GivenUp(Exception):
    """Raised in the block of a writer to abandon it."""
