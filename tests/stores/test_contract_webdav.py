"""`FsspecArtifactStore` by WebDAV, on a real server whose folder is looked at from behind."""

from __future__ import annotations

import itertools

import httpx
import pytest
from tests.servers.webdav import WebdavServer
from tests.stores.test_contract_fsspec import CLAIMS
from tests.stores.test_contract_local import files_in
from webdav4.client import Client, HTTPError

from emdstore.errors import InvalidKeyError
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import open_store
from emdstore.testing import StoreContract, StoreHarness
from emdstore.testing.contract.keys import AWKWARD_KEYS

_folders = itertools.count()


@pytest.mark.once
class TestWebdav(StoreContract):
    @pytest.fixture
    def harness(self, webdav_server: WebdavServer, gateway: str) -> StoreHarness:
        folder = f"place {next(_folders)} (°C)"
        url = webdav_server.url(folder)
        root = webdav_server.root / folder
        files = {name: hook for name, hook in files_in(root).items() if name != "link"}

        def put(key: str, data: bytes) -> None:
            """Put it there as the store does: what is changed in place has its ETag for another second."""
            new = webdav_server.root.parent / "new"
            new.write_bytes(data)
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            new.replace(root / key)

        return StoreHarness(
            lambda: open_store(url, **webdav_server.options),
            **files | {"raw_put": put},
            unreachable=lambda: open_store(f"dav://127.0.0.1:1/{folder}", retries=0),
            garbled=lambda: open_store(f"{gateway.replace('http', 'dav')}/{folder}", retries=0),
            secrets=[webdav_server.password],
            claims=CLAIMS,
            rounds=2,
            many=20,
        )

    @pytest.mark.parametrize("key", AWKWARD_KEYS.values(), ids=AWKWARD_KEYS.keys())
    def test_keeps_a_key_exactly(self, harness: StoreHarness, store: ArtifactStore, key: str) -> None:
        """All but those that some servers, this one among them, would put at another key."""
        if not {"?", ";"} & set(key):
            super().test_keeps_a_key_exactly(harness, store, key)
            return
        with pytest.raises(InvalidKeyError, match="lose what follows"):
            store.write_bytes(key, b"value")
        assert not set(harness.raw_keys())

    def test_a_folder_emptied_is_no_obstacle(self) -> None:  # type: ignore[override]
        pytest.skip("a folder stays: DELETE would remove what somebody has just put into it")

    def test_no_folder_is_listed_to_write_to_it(self, store: FsspecArtifactStore) -> None:
        """Guards against requests that take as long as the folder is full."""
        depths: list[str | None] = []
        client = store.ground.open().fs.client.http
        client.event_hooks = {"request": [lambda request: depths.append(request.headers.get("depth"))]}
        store.write_bytes("a/b", b"value")
        assert store.read_bytes("a/b") == b"value"
        assert "0" in depths
        assert "1" not in depths

    def test_a_folder_that_another_writer_makes_just_then(
        self, harness: StoreHarness, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the server looks whether it is there, and fails if it is there after all."""
        make = Client.mkdir

        def lose_the_race(client: Client, path: str) -> None:
            make(client, path)
            raise HTTPError(httpx.Response(500, request=httpx.Request("MKCOL", path)))

        store.write_bytes("old", b"value")
        monkeypatch.setattr(Client, "mkdir", lose_the_race)
        store.write_bytes("folder/new", b"value")
        assert set(harness.raw_keys()) == {"old", "folder/new"}
