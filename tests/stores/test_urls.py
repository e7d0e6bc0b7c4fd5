"""Which store a URL opens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emdstore.errors import InvalidKeyError, MissingExtraError, StoreURLError
from emdstore.stores import urls
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.s3 import S3ArtifactStore
from emdstore.stores.urls import open_store, safe_url


def test_a_path_is_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "a b", str(tmp_path / "a b"), "a b", "./a b"):
        assert open_store(place) == LocalArtifactStore(tmp_path / "a b")


@pytest.mark.parametrize("written", ["file://{}", "file://localhost{}"])
def test_a_file_url_is_a_local_folder(tmp_path: Path, written: str) -> None:
    folder = tmp_path / "tas (°C) #1? ü"
    assert open_store(written.format(folder)) == LocalArtifactStore(folder)
    assert open_store(folder.as_uri()) == LocalArtifactStore(folder)
    assert FsspecArtifactStore(written.format(folder)) == LocalArtifactStore(folder)


def test_local_options_reach_the_local_store(tmp_path: Path) -> None:
    assert open_store(tmp_path, durability="object") == LocalArtifactStore(tmp_path, durability="object")


def test_a_memory_url_is_one_store_for_the_process() -> None:
    one, other = open_store("memory://urls-1"), open_store("memory://urls-2")
    one.write_bytes("sub/k", b"v")
    assert open_store("memory://urls-1").read_bytes("sub/k") == b"v"
    assert open_store("memory://urls-1/sub").read_bytes("k") == b"v"
    assert not other.exists("sub/k")
    with pytest.raises(InvalidKeyError):
        open_store("memory://urls-1/a//b")


def test_s3_is_served_by_the_engine_that_is_asked_for() -> None:
    store = open_store("s3://bucket/p", endpoint_url="http://127.0.0.1:9", part_size=6 * 1024 * 1024)
    assert isinstance(store, S3ArtifactStore)
    assert store.part_size == 6 * 1024 * 1024
    assert isinstance(open_store("s3://bucket/p", engine="obstore"), S3ArtifactStore)
    by_s3fs = open_store("s3://bucket/p", engine="s3fs")
    assert isinstance(by_s3fs, FsspecArtifactStore)
    assert repr(by_s3fs) == "FsspecArtifactStore('s3://bucket/p')"


def test_both_engines_take_the_same_options(seaweed_server: Any) -> None:
    url = f"s3://{seaweed_server.make_bucket()}/p"
    open_store(url, engine="obstore", **seaweed_server.options).write_bytes("k", b"v")
    assert open_store(url, engine="s3fs", **seaweed_server.options).read_bytes("k") == b"v"


@pytest.mark.parametrize(
    ("installed", "kind"),
    [({"obstore", "s3fs"}, S3ArtifactStore), ({"obstore"}, S3ArtifactStore), ({"s3fs"}, FsspecArtifactStore)],
)
def test_obstore_is_preferred_where_it_is_installed(
    installed: set[str], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "find_spec", lambda name: name in installed or None)
    assert isinstance(open_store("s3://bucket"), kind)


def test_without_any_engine_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'emdstore\[s3\]'"):
        open_store("s3://bucket")


def test_other_schemes_go_to_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    import zipfile

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("run/out.log", "log")
    store = open_store(f"zip://::file://{tmp_path}/set.zip")
    assert list(store.iter_keys()) == ["run/out.log"]
    assert store.read_bytes("run/out.log") == b"log"


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("nonsense://x", {}, "fsspec knows"),
        ("s3://user:password@bucket", {}, "without credentials"),
        ("s3://bucket//x", {}, "empty segment"),
        ("s3://bucket", {"no_such_option": 1}, "no_such_option"),
        ("/tmp", {"no_such_option": 1}, "no_such_option"),
        ("memory://x", {"no_such_option": 1}, "no_such_option"),
        ("/tmp", {"engine": "obstore"}, "makes no sense"),
        ("s3://bucket", {"engine": "boto"}, "makes no sense"),
        ("file://host/x", {}, "file:///absolute/path"),
        ("file://", {}, "file:///absolute/path"),
        ("simplecache::s3://bucket", {}, "stale"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreURLError, match=said) as caught:
        open_store(url, **options)
    assert "password" not in str(caught.value)


def test_a_url_is_shown_without_its_secrets() -> None:
    assert safe_url("sftp://me:secret@host/p") == "sftp://***@host/p"
    assert safe_url("https://host/p?X-Amz-Signature=abc&prefix=1") == "https://host/p?X-Amz-Signature=***&prefix=1"


def test_no_engine_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys\n"
        "from emdstore.stores.urls import open_store\n"
        "open_store('/tmp'); open_store('memory://x')\n"
        "assert not {'obstore', 'fsspec', 's3fs', 'boto3'} & set(sys.modules), sorted(sys.modules)\n"
        "from emdstore.stores.s3 import S3ArtifactStore\n"
        "S3ArtifactStore('s3://bucket')\n"
        "assert not {'obstore', 'fsspec', 's3fs'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_a_folder_may_have_colons_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "UKESM::r1").mkdir()
    (tmp_path / "zip::r1").mkdir()
    monkeypatch.chdir(tmp_path)
    for place in ("UKESM::r1", str(tmp_path / "UKESM::r1"), "zip::r1", "CNRM::not there"):
        store = open_store(place)
        assert isinstance(store, LocalArtifactStore)
        assert store.root == tmp_path / place
    assert isinstance(open_store("zip::/not there.zip"), FsspecArtifactStore)


@pytest.mark.parametrize("place", ["/data", "file:///data", "memory://m", "s3://bucket", "zip://::file:///data/a.zip"])
def test_every_place_may_be_given_patience(place: str) -> None:
    open_store(place, timeout=3, connect_timeout=1.5, retries=0)


def test_patience_has_the_same_names_for_both_engines_of_s3() -> None:
    store = open_store("s3://bucket", timeout=3, connect_timeout=1.5, retries=0)
    assert isinstance(store, S3ArtifactStore)
    assert (store.timeout, store.connect_timeout, store.retries) == (3, 1.5, 0)
    other: Any = open_store("s3://bucket", engine="s3fs", timeout=3, connect_timeout=1.5, retries=0)
    said = other.ground.open().fs.config_kwargs
    assert (said["read_timeout"], said["connect_timeout"], said["retries"]["total_max_attempts"]) == (3, 1.5, 1)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1.0}, {"connect_timeout": 0}, {"retries": -1}])
def test_patience_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StoreURLError, match="makes no sense"):
        open_store("s3://bucket", **options)
