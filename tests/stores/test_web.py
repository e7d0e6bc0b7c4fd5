"""Results behind a web server: a read-only source, by index pages or by the list of files that lies beside them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.github import GithubFileSystem
from tests.servers.web import Pages, run_web

from emdstore.errors import StoreAccessError, StoreError
from emdstore.sets.transfer import transfer
from emdstore.stores.urls import open_store

WANTED = {"basic": f"Basic {base64.b64encode(b'me:hidden').decode()}", "bearer": "Bearer hidden"}


class _Site(Pages):
    """Files of a folder, for whoever says who they are."""

    wanted: str | None = None
    has_pages = True

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
    with run_web(root, kind) as address:
        yield kind, address, root


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


def test_pages_that_link_to_quoted_names_list_the_names_of_the_files(
    site: tuple[Any, str, Path], tmp_path: Path
) -> None:
    _, url, root = site
    for name in ("ü ü/100%25.txt", "ü ü/#1?.txt", "ü ü/a&b.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(name.encode())
    transfer(open_store(url), tmp_path / "copy").raise_for_failures()
    copied, here = (
        {p.relative_to(f).as_posix(): p.read_bytes() for p in f.rglob("*.txt")} for f in (tmp_path / "copy", root)
    )
    assert copied == here
    assert list(open_store(url).iter_keys("ü ü")) == ["ü ü/#1?.txt", "ü ü/100%25.txt", "ü ü/a&b.txt"]


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


class _GitHub(Pages):
    """GitHub's API, for one repository."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/repos/org/repo/")
        blob, tree = {"type": "blob", "mode": "", "size": 5, "sha": ""}, {"type": "tree", "mode": "", "sha": "folder"}
        answers: dict[str, Any] = {
            "git/trees/main": {"tree": [{**tree, "path": "run"}, {**blob, "path": "b.txt"}]},
            "git/trees/folder": {"tree": [{**blob, "path": "out.log"}]},
            "contents/b.txt": {"content": base64.b64encode(b"value").decode()},
        }
        body = json.dumps(answers.get(path, {})).encode()
        self.send_response(200 if path in answers else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_repository_on_github_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_web(tmp_path, _GitHub) as address:
        for name in ("url", "content_url"):
            ours = getattr(GithubFileSystem, name).replace("https://api.github.com", address)
            monkeypatch.setattr(GithubFileSystem, name, ours)
        store = open_store("github://org:repo@main/")
        assert list(store.iter_keys()) == ["b.txt", "run/out.log"]
        assert (store.read_bytes("b.txt"), store.exists("absent")) == (b"value", False)
        with pytest.raises(StoreError, match="neither put whole objects nor rename"):
            store.write_bytes("new", b"value")
