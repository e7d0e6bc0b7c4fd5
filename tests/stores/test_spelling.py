"""Places as people type them: what is understood, and what is refused before a byte moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from emdstore import LocalArtifactStore, S3ArtifactStore, open_store
from emdstore.errors import StoreURLError
from emdstore.stores.spelling import check_endpoint, endpoint_of, spelled


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("S3://bucket/Run", "s3://bucket/Run"),
        ("FILE:///Data", "file:///Data"),
        ("Memory://Name", "memory://Name"),
        ("./s3:/bucket", "./s3:/bucket"),
        ("notes:/today", "notes:/today"),
        ("run 3: south", "run 3: south"),
        ("/data/results", "/data/results"),
    ],
)
def test_a_scheme_has_no_case_and_a_path_is_left_alone(typed: str, meant: str) -> None:
    assert spelled(typed) == meant


@pytest.mark.parametrize("typed", ["s3:/bucket/run", "S3:/bucket/run", "s3:bucket/run", Path("s3://bucket/run")])
def test_a_url_that_lacks_a_slash_is_refused_and_makes_no_folder(
    typed: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreURLError, match="write s3://bucket/run, as text"):
        open_store(typed)
    assert list(tmp_path.iterdir()) == []


def test_such_a_folder_can_still_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("./s3:/bucket") == LocalArtifactStore(tmp_path / "s3:" / "bucket")


@pytest.mark.parametrize(
    ("typed", "meant"), [("s33://b", "s3://"), ("fiel:///x", "file://"), ("sftpp://h/x", "sftp://")]
)
def test_a_typo_is_told_with_what_was_probably_meant(typed: str, meant: str) -> None:
    with pytest.raises(StoreURLError, match=f"did you mean {meant}"):
        open_store(typed)


def test_an_unknown_scheme_is_told_without_a_list_of_all_others() -> None:
    with pytest.raises(StoreURLError) as caught:
        open_store("qqqqqq://me:hidden@host/x")
    assert len(str(caught.value)) < 200
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://minio:9000", "https://s3.example.org/base", " http://[::1]:9000 ", "HTTP://h"]
)
def test_an_endpoint_may_have_blanks_around_it(address: str) -> None:
    assert check_endpoint(address) == address.strip().replace("HTTP:", "http:")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("s3.example.org", ("https://s3.example.org", False)),
        ("minio:9000/", ("https://minio:9000", False)),
        ("localhost:9000", ("http://localhost:9000", False)),
        ("127.0.0.1:9000", ("http://127.0.0.1:9000", False)),
        ("https://s3.example.org/base/", ("https://s3.example.org/base", False)),
        ("https://s3.example.org/clim", ("https://s3.example.org", False)),
        ("https://s3.example.org/base/clim/", ("https://s3.example.org/base", False)),
        ("https://s3.example.org/clim-2", ("https://s3.example.org/clim-2", False)),
        ("https://clim.s3.example.org", ("https://s3.example.org", True)),
    ],
)
def test_an_endpoint_is_understood_as_people_type_it(given: str, used: tuple[str, bool]) -> None:
    assert endpoint_of(given, "clim") == used


@pytest.mark.parametrize(
    "address",
    [
        "two words", "http://", "http://:9000", "http://host:port", "ftp://host", "http://me:hidden@host",
        "http://me:hid/den@host", "http://host/?key=hidden", "me:hidden@host:9000", "http://host:99999", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_endpoint_is_told_in_a_sentence_without_its_secrets(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for ask in (
        lambda: S3ArtifactStore("s3://bucket").exists("a"),
        lambda: S3ArtifactStore("s3://bucket", endpoint_url=address).exists("a"),
        lambda: open_store("s3://bucket", endpoint_url=address, engine="s3fs"),
    ):
        with pytest.raises(StoreURLError, match="is not the address of a server") as caught:
            ask()
        assert "hid" not in str(caught.value)
        assert "den" not in str(caught.value).replace("credentials", "")
