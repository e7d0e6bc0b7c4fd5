"""Clause 1: keys are canonical, checked before any I/O, and taken exactly as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256

import pytest

from emdstore.errors import InvalidKeyError, KeyConflictError
from emdstore.stores.port import (
    ArtifactStore,
    SupportsCreate,
    SupportsDelete,
    SupportsInfo,
    SupportsLeftOut,
    SupportsPath,
    SupportsReplaceIf,
    SupportsScope,
    SupportsStreaming,
)
from emdstore.testing.contract.harness import Clauses, StoreHarness, outcome

NFC = "caf\u00e9.nc"
NFD = "cafe\u0301.nc"

INVALID_KEYS = {
    "empty": "",
    "slash": "/",
    "absolute": "/a",
    "trailing slash": "a/",
    "double slash": "a//b",
    "dot": ".",
    "dot first": "./a",
    "dot inside": "a/./b",
    "dot last": "a/.",
    "parent": "..",
    "parent first": "../a",
    "parent inside": "a/../b",
    "parent last": "a/..",
    "backslash": "a\\b",
    "windows parent": "..\\a",
    "nul": "a\x00b",
    "newline": "a\n",
    "delete character": "a\x7f",
    "lone surrogate": "a\ud800",
    "long segment": "a" * 256,
    "long segment in bytes": "é" * 128,
    "long key": "/".join(["a" * 200] * 6),
    "staging name": ".emdstore-a",
    "staging folder": "a/.emdstore-b/c",
    "bytes": b"a",
    "none": None,
}

AWKWARD_KEYS = {
    "space": "a b.png",
    "leading space": " a",
    "trailing space": "a ",
    "trailing dot": "a.",
    "degrees": "tas (°C).png",
    "percent": "100%.txt",
    "escaped space": "a%20b",
    "escaped slash": "a%2Fb",
    "escaped parent": "%2e%2e/a",
    "plus": "a+b",
    "hash": "a#b.html",
    "question mark": "a?b=c",
    "ampersand": "a&b",
    "equals": "group=x/a",
    "semicolon": "a;b",
    "colon": "12:00:00",
    "url": "s3:a",
    "at": "user@host",
    "comma": "a,b",
    "quotes": 'it\'s "so"',
    "backtick": "`a`",
    "dollar": "$HOME/a",
    "tilde": "~/a",
    "brackets": "[a]{b}<c>",
    "glob": "*/a*",
    "pipe": "a|b",
    "caret": "a^b",
    "exclamation mark": "!a",
    "dash": "-rf",
    "hidden": ".a/.b",
    "dots": "...",
    "dots first": "..a",
    "dots inside": "a..b",
    "reserved on windows": "CON/nul.txt",
    "composed": NFC,
    "decomposed": NFD,
    "capital": "TAS.NC",
    "sharp s": "straße",
    "ligature": "ﬁle",
    "no-break space": "a\u00a0b",
    "zero width": "a\u200bb",
    "right to left": "א/ב",
    "japanese": "気温/図.png",
    "emoji": "🌡️.png",
    "longest segment": "a" * 255,
    "longest segment in bytes": "é" * 127,
    "longest key": "/".join(["a" * 127] * 8),
    "deep": "/".join("abcdefgh" * 8),
}

Call = Callable[[], object]


def calls_with_key(store: ArtifactStore, key: str) -> dict[str, Call]:
    """Return every method of the store that takes the key of an artifact."""
    calls: dict[str, Call] = {
        "exists": partial(store.exists, key),
        "read_bytes": partial(store.read_bytes, key),
        "write_bytes": partial(store.write_bytes, key, b"new"),
    }
    if isinstance(store, SupportsInfo):
        calls["info"] = partial(store.info, key)
    if isinstance(store, SupportsStreaming):
        calls["open_reader"] = partial(_read_stream, store, key)
        calls["open_writer"] = partial(_write_stream, store, key)
    if isinstance(store, SupportsDelete):
        calls["delete"] = partial(store.delete, key)
    if isinstance(store, SupportsCreate):
        calls["create_bytes"] = partial(store.create_bytes, key, b"new")
    if isinstance(store, SupportsReplaceIf):
        calls["replace_bytes"] = partial(store.replace_bytes, key, b"new", sha256(b"value").hexdigest())
    if isinstance(store, SupportsPath) and key != "":
        calls["local_path"] = partial(store.local_path, key)
    return calls


def calls_with_prefix(store: ArtifactStore, prefix: str) -> dict[str, Call]:
    """Return every method of the store that takes a folder."""
    calls: dict[str, Call] = {"iter_keys": lambda: list(store.iter_keys(prefix))}
    if isinstance(store, SupportsInfo):
        infos: SupportsInfo = store
        calls["iter_info"] = lambda: list(infos.iter_info(prefix))
    if isinstance(store, SupportsLeftOut):
        telling: SupportsLeftOut = store
        calls["iter_found"] = lambda: list(telling.iter_found(prefix))
    if isinstance(store, SupportsScope):
        calls["scope"] = partial(store.scope, prefix)
    return calls


def _read_stream(store: SupportsStreaming, key: str) -> None:
    with store.open_reader(key) as reader:
        reader.read()


def _write_stream(store: SupportsStreaming, key: str) -> None:
    with store.open_writer(key) as writer:
        writer.write(b"new")


class KeyClauses(Clauses):
    """Clause 1."""

    @pytest.mark.parametrize("key", INVALID_KEYS.values(), ids=INVALID_KEYS.keys())
    def test_refuses_a_key_that_is_not_canonical(self, harness: StoreHarness, store: ArtifactStore, key: str) -> None:
        """Every method raises `InvalidKeyError`, and nothing is written anywhere.

        Guards against names in a bundle such as ``../../other/run.json`` or ``/etc/passwd`` that join to a path outside
        the store, and against two spellings of one key.
        """
        calls = calls_with_key(store, key)
        if key != "":  # as a prefix this is everything
            calls |= calls_with_prefix(store, key)
        for verb, call in calls.items():
            assert isinstance(outcome(call), InvalidKeyError), f"{verb}({key!r}) was accepted"
        assert set(harness.raw_keys()) == set()

    def test_checks_keys_before_any_io(self, harness: StoreHarness) -> None:
        """An invalid key is reported as such even if the store cannot be reached.

        Guards against leaving the check to the engine, which makes it late and with its own error.
        """
        if harness.unreachable is None:
            pytest.skip("the harness has no hook 'unreachable'")
        store = harness.unreachable()
        for call in (calls_with_key(store, "../a") | calls_with_prefix(store, "a/")).values():
            assert isinstance(outcome(call), InvalidKeyError)

    @pytest.mark.parametrize("key", AWKWARD_KEYS.values(), ids=AWKWARD_KEYS.keys())
    def test_keeps_a_key_exactly(self, harness: StoreHarness, store: ArtifactStore, key: str) -> None:
        """What was written to a key is found at that key and no other.

        Guards against URL quoting that is applied twice or not at all (``%20``, ``+``, ``#``, ``?``), globbing, shell
        and home expansion, stripping, and Unicode normalisation: plots are named ``tas (°C).png`` in real sets.
        """
        if len(key.encode()) > harness.key_bytes:
            assert isinstance(outcome(lambda: store.write_bytes(key, b"value")), InvalidKeyError)
            assert set(harness.raw_keys()) == set()
            return
        store.write_bytes(key, b"value")
        assert store.exists(key)
        assert store.read_bytes(key) == b"value"
        assert list(store.iter_keys()) == [key]
        assert harness.raw_get(key) == b"value"
        assert set(harness.raw_keys()) == {key}

    @pytest.mark.parametrize(
        "keys",
        [
            pytest.param([NFC, NFD], id="composed and decomposed"),
            pytest.param(["tas.nc", "TAS.nc", "Tas.nc"], id="case"),
            pytest.param(["a b", "a%20b", "a+b", "a%2520b", "a_b"], id="escapes"),
            pytest.param(["a", "a ", " a", "a.", ".a"], id="spaces and dots at the ends"),
            pytest.param(["ﬁ", "fi"], id="compatibility forms"),
            pytest.param(["a.nc", "a.nc.gz", "a"], id="suffixes"),
        ],
    )
    def test_similar_keys_are_different_keys(
        self, harness: StoreHarness, store: ArtifactStore, keys: list[str]
    ) -> None:
        """Each spelling has its own value.

        Guards against stores that fold case or normalise Unicode: the second plot then overwrites the first.
        """
        for key in keys:
            store.write_bytes(key, key.encode())
        assert {key: store.read_bytes(key) for key in keys} == {key: key.encode() for key in keys}
        assert {key: harness.raw_get(key) for key in keys} == {key: key.encode() for key in keys}
        assert list(store.iter_keys()) == sorted(keys)

    @pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a"), ("a", "a/b/c")])
    def test_a_beside_a_folder_a_is_held_or_refused(
        self, harness: StoreHarness, store: ArtifactStore, first: str, second: str
    ) -> None:
        """Both exist, or every writing method refuses the second with `KeyConflictError` and the first is unchanged.

        Guards against a bare `NotADirectoryError` or `IsADirectoryError`, and against a folder replaced by a file.
        """
        store.write_bytes(first, b"first")
        calls = calls_with_key(store, second)
        held: set[str] = set()
        for verb in ("write_bytes", "open_writer", "create_bytes"):
            if verb in calls and not held:
                error = outcome(calls[verb])
                if error is None:
                    held.add(second)
                else:
                    assert isinstance(error, KeyConflictError)
                    assert second in str(error)
        assert store.read_bytes(first) == b"first"
        assert store.exists(second) == bool(held)
        assert set(harness.raw_keys()) == {first} | held

    def test_nothing_lies_below_an_artifact(self, store: ArtifactStore) -> None:
        """A key below an artifact is simply absent.

        Guards against `NotADirectoryError` where callers expect `ArtifactNotFoundError`.
        """
        store.write_bytes("a", b"value")
        assert not store.exists("a/b")
        with pytest.raises(FileNotFoundError, match="a/b"):
            store.read_bytes("a/b")
        assert list(store.iter_keys("a/b")) == []

    def test_lists_only_keys_that_it_would_accept(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Foreign objects whose names are not valid keys are not listed, and do not break the listing.

        Guards against the zero-byte ``folder/`` objects that S3 consoles make: a listing that yields one sends every
        caller into `InvalidKeyError`.
        """
        harness.raw_put("a/kept.txt", b"value")
        with suppress(InvalidKeyError, OSError):  # as a file system has it
            harness.raw_put("folder/", b"")
        for key in store.iter_keys():
            assert store.exists(key)
        assert "a/kept.txt" in list(store.iter_keys())
