"""Results behind a web server: a read-only source, by index pages or by the list of files that lies beside them."""

from __future__ import annotations

import base64
import functools
import http.server
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from emdstore.errors import StoreAccessError, StoreError
from emdstore.sets.transfer import transfer
from emdstore.stores.urls import open_store

WANTED = {"basic": f"Basic {base64.b64encode(b'me:hidden').decode()}", "bearer": "Bearer hidden"}


class _Site(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, for whoever says who they are."""

    wanted: str | None = None
    has_pages = True

    def log_message(self, *args: object) -> None:
        pass

    def send_head(self) -> Any:
        if self.wanted is not None and self.headers.get("Authorization") != self.wanted:
            self.send_error(401)
            return None
        if self.path == "/moved/a.txt":
            self.send_response(302)
            self.send_header("Location", "/b/c.txt")
            self.end_headers()
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> Any:
        if self.has_pages:
            return super().list_directory(path)
        self.send_error(403)
        return None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Any, str, Path]]:
    """A web server for one folder: its handler, its address and the folder."""
    root = tmp_path / "www"
    for name, data in {"b/c.txt": b"see", "a (°C).txt": b"value", "set/execution.json": b"{}"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    kind = type("Site", (_Site,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(root)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield kind, f"http://127.0.0.1:{server.server_port}", root
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        ("basic", {"user": "me", "password": "hidden"}),
        ("bearer", {"token": "hidden"}),
        ("bearer", {"headers": {"Authorization": "Bearer hidden"}}),
        ("basic", "netrc"),
    ],
)
def test_a_site_that_wants_to_know_who_asks(
    site: tuple[Any, str, Path], wanted: str, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, url, _ = site
    kind.wanted = WANTED[wanted]
    with pytest.raises(StoreAccessError):
        open_store(url, retries=0).read_bytes("b/c.txt")
    if options == "netrc":
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hidden\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        options = {}
    store = open_store(url, **options)
    assert store.read_bytes("b/c.txt") == b"see"
    assert "hidden" not in repr(store)


@pytest.mark.parametrize("ask", ["exists", "info", "read_bytes"])
def test_a_server_that_refuses_is_not_one_that_has_no_such_file(site: tuple[Any, str, Path], ask: str) -> None:
    kind, url, _ = site
    kind.wanted = WANTED["basic"]
    with pytest.raises(StoreAccessError):
        getattr(open_store(url, retries=0), ask)("b/c.txt")


def test_what_was_moved_is_found(site: tuple[Any, str, Path]) -> None:
    assert open_store(site[1]).read_bytes("moved/a.txt") == b"see"


@pytest.mark.parametrize("name", ["SHA256SUMS", "manifest-sha256.txt"])
def test_a_site_without_index_pages_is_read_by_its_list_of_files(
    site: tuple[Any, str, Path], name: str, tmp_path: Path
) -> None:
    kind, url, root = site
    kind.has_pages = False
    with pytest.raises(StoreError, match="SHA256SUMS"):
        list(open_store(url, retries=0).iter_keys())
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    lines = [f"{sha256((root / each).read_bytes()).hexdigest()}  {each}\n" for each in files]
    (root / name).write_text("".join(lines), encoding="utf-8")
    store = open_store(url)
    assert list(store.iter_keys()) == files
    assert list(store.iter_keys("b")) == ["b/c.txt"]
    transfer(store, tmp_path / "copy").raise_for_failures()
    assert (tmp_path / "copy/a (°C).txt").read_bytes() == b"value"
    (root / "b/c.txt").write_bytes(b"SEE")
    with pytest.raises(StoreError, match="damaged"):
        open_store(url).read_bytes("b/c.txt")
