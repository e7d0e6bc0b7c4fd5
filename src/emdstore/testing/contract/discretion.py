"""Clause 7 and the errors: what a store says of itself is of use, true, and safe to log."""

from __future__ import annotations

import pickle
import traceback

import pytest

from emdstore.errors import ArtifactNotFoundError, IntegrityError, StoreError
from emdstore.stores.port import ArtifactStore, SupportsStreaming
from emdstore.testing.contract.harness import Clauses, StoreHarness, outcome
from emdstore.testing.contract.keys import calls_with_key, calls_with_prefix


def _shown(error: BaseException) -> str:
    """Return everything that a log, a debugger or a report may show of an error and its causes."""
    chain: BaseException | None = error
    parts = ["".join(traceback.format_exception(error))]
    while chain is not None:
        parts += [repr(chain), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(parts)


class DiscretionClauses(Clauses):
    """Clause 7's last sentence, and the errors."""

    def test_repr_tells_where_and_no_secret(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Before and after first use.

        Guards against the attrs or dataclass default that prints every option, keys and tokens among them.
        """
        shown = [repr(store), str(store)]
        store.write_bytes("a", b"x")
        shown += [repr(store), str(store), f"{store}"]
        assert all(shown)
        assert [secret for secret in harness.secrets if any(secret in text for text in shown)] == []

    def test_errors_carry_no_secret(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Not in the message, the attributes, the traceback or an engine's own error behind it.

        Guards against engines that put the whole URL or configuration into their message.
        """
        stores = [store] if harness.unreachable is None else [store, harness.unreachable()]
        for each in stores:
            for call in (calls_with_key(each, "absent") | calls_with_prefix(each, "../a")).values():
                error = outcome(call)
                text = "" if error is None else _shown(error)
                assert [secret for secret in harness.secrets if secret in text] == []

    def test_an_outage_is_not_absence(self, harness: StoreHarness) -> None:
        """If the store cannot be reached, every method raises `StoreError`, and none reports an empty store.

        Guards against ``except Exception: return False``: an outage then looks like an empty store, and everything is
        copied again or nothing is ingested.
        """
        if harness.unreachable is None:
            pytest.skip("the harness has no hook 'unreachable'")
        store = harness.unreachable()
        calls = calls_with_key(store, "a/b") | calls_with_prefix(store, "a")
        for verb in calls.keys() - {"scope", "local_path"}:
            assert isinstance(outcome(calls[verb]), StoreError), f"{verb} did not notice the outage"

    def test_somebody_elses_page_is_no_answer(self, harness: StoreHarness) -> None:
        """If a gateway answers with its own page and status 200, every method raises `StoreError`.

        Guards against taking a login page for an empty listing, for the bytes of an artifact, or for a successful
        write.
        """
        if harness.garbled is None:
            pytest.skip("the harness has no hook 'garbled'")
        store = harness.garbled()
        calls = calls_with_key(store, "a/b") | calls_with_prefix(store, "a")
        for verb in calls.keys() - {"scope", "local_path"}:
            assert isinstance(outcome(calls[verb]), StoreError), f"{verb} took the page for an answer"

    @pytest.mark.parametrize("size", [3, 300_000], ids=["small", "300 kB"])
    def test_damaged_bytes_are_never_given_out_whole(self, harness: StoreHarness, size: int) -> None:
        """Bytes that were damaged in transit raise `IntegrityError`, whether read at once or in pieces.

        Guards against wrong bytes under the artifact's name, with a digest that matches them.
        """
        if harness.damaging is None:
            pytest.skip("the harness has no hook 'damaging'")
        harness.raw_put("a/value", bytes(range(251)) * (size // 251) + b"end")
        store = harness.damaging()
        with pytest.raises(IntegrityError, match="a/value"):
            store.read_bytes("a/value")
        if isinstance(store, SupportsStreaming):
            with pytest.raises(IntegrityError), store.open_reader("a/value") as reader:
                list(iter(reader.read, b""))

    def test_errors_cross_processes(self, store: ArtifactStore) -> None:
        """An error unpickles with its type, message and key.

        Guards against exceptions with arguments of their own, which break the pool that a worker reports to.
        """
        with pytest.raises(ArtifactNotFoundError) as caught:
            store.read_bytes("a/absent")
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy), copy.key) == (type(caught.value), str(caught.value), "a/absent")
