from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from tests.cli.conftest import CLI, environment
from tests.ensembles import FAILED, GOOD, INCOMPLETE
from tests.servers.s3 import S3Server

from emdstore import LocalArtifactStore
from emdstore.stores.identity import IDENTITY_KEY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    store = LocalArtifactStore(folder)
    for key in ("run1/a.txt", "run1/[red]b[/red] (°C).txt", "run10/c.txt"):
        store.write_bytes(key, key.encode())
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ls_has_one_key_on_a_line_in_the_stores_order(cli: CLI, tree: Path) -> None:
    assert cli("ls", tree).out.splitlines() == ["run1/[red]b[/red] (°C).txt", "run1/a.txt", "run10/c.txt"]
    assert cli("ls", tree, "run1").out.splitlines() == ["run1/[red]b[/red] (°C).txt", "run1/a.txt"]


def test_ls_tells_sizes_and_times(cli: CLI, tree: Path) -> None:
    assert cli("ls", "-l", tree, "run10").out.split()[0] == "11"
    rows = cli("ls", tree, "--json").json["items"]
    assert [row["size"] for row in rows] == [len(row["key"].encode()) for row in rows]
    assert all(row["modified"].endswith("+00:00") for row in rows)


def test_keys_survive_a_terminal_that_cannot_show_them(cli: CLI, tree: Path) -> None:
    assert r"(\xb0C)" in cli("ls", tree, env={"PYTHONIOENCODING": "ascii"}).out


def test_transfer_copies_everything_and_then_nothing(cli: CLI, tree: Path, tmp_path: Path) -> None:
    assert cli("transfer", tree, "copy").out.startswith("3 copied (")
    assert files(tmp_path / "copy") == files(tree)
    again = cli("transfer", tree, "copy", "--json").json
    assert (again["counts"]["copied"], again["counts"]["unchanged"], again["ok"]) == (0, 3, True)
    assert cli("transfer", tree, "copy", "--unchanged", "never", "--workers", 1, "--flush").out.startswith("3 copied (")


def test_a_dry_run_tells_what_would_be_copied_and_copies_nothing(cli: CLI, tree: Path, tmp_path: Path) -> None:
    answer = cli("transfer", tree, "copy", "--dry-run")
    assert "would copy  run10/c.txt" in answer.out
    assert "3 would be copied" in answer.out
    assert not (tmp_path / "copy").exists()


def test_transfer_of_given_keys_tells_which_did_not_arrive(cli: CLI, tree: Path, tmp_path: Path) -> None:
    answer = cli("transfer", tree, "copy", "run10/c.txt", "run2/nope", "../tree/run1/a.txt", code=1)
    assert "missing  run2/nope" in answer.out
    assert "rejected  ../tree/run1/a.txt" in answer.out
    assert list(files(tmp_path / "copy")) == ["run10/c.txt"]
    report = cli("transfer", tree, "copy", "run2/nope", "--json", code=1).json
    assert (report["ok"], report["items"][0]["outcome"]) == (False, "missing")


def test_a_results_tree_goes_to_s3_and_comes_back(
    cli: CLI, demo_folder: Path, moto_server: S3Server, tmp_path: Path
) -> None:
    place = f"s3://{moto_server.make_bucket()}/results"
    env = {
        "AWS_ACCESS_KEY_ID": moto_server.access_key,
        "AWS_SECRET_ACCESS_KEY": moto_server.secret_key,
        "AWS_REGION": moto_server.region,
    }
    server = ("--endpoint-url", moto_server.endpoint_url)
    here = {key: data for key, data in files(demo_folder / "results").items() if key != IDENTITY_KEY}
    count = len(here)  # a copy is another store
    assert cli("transfer", demo_folder / "results", place, *server, env=env).out.startswith(f"{count} copied")
    assert len(cli("ls", place, env=env | {"AWS_ENDPOINT_URL": moto_server.endpoint_url}).out.splitlines()) == count
    problems = cli("verify", place, *server, "--json", env=env).json["items"]
    assert [(each["fragment"], each["finding"]) for each in problems] == [(INCOMPLETE, "incomplete")]
    assert cli("replay", place, *server, "--catalog", "catalog.db", env=env).out.startswith("7 ingested")
    cli("transfer", place, "back", *server, env=env)
    assert files(tmp_path / "back") == here
    (tmp_path / "config").write_text("[profile site]\naws_access_key_id = a\naws_secret_access_key = s\nregion = r\n")
    config = {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    assert len(cli("ls", place, *server, "--profile", "site", env=config).out.splitlines()) == count
    assert "'other'" in cli("ls", place, *server, "--profile", "other", env=config, code=2).err
    assert len(cli("ls", place, *server, "--anonymous").out.splitlines()) == count
    assert "no.pem" in cli("ls", place, *server, "--anonymous", "--ca-bundle", "no.pem", code=2).err
    assert "is not verified" in cli("ls", place, *server, "--anonymous", "--no-verify").err


@pytest.fixture
def published(demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the demo's results that may be damaged."""
    shutil.copytree(demo_folder / "results", tmp_path / "published")
    return tmp_path / "published"


def test_verify_finds_nothing_wrong_in_what_was_published(cli: CLI, published: Path) -> None:
    said = cli("verify", published).out
    assert "in 7 sets as recorded, 1 finding" in said
    assert "sets: 4 published, 2 failed, 1 incomplete" in said


def test_verify_tells_corrupt_missing_and_stale(cli: CLI, published: Path) -> None:
    plot = published / GOOD / "plots" / "tas_bias_map.png"
    plot.write_bytes(bytes([plot.read_bytes()[0] ^ 1]) + plot.read_bytes()[1:])
    (published / INCOMPLETE / "yearly.csv").unlink()
    (published / GOOD / "left-over.txt").write_text("x")
    problems = cli("verify", published, "--json", code=1).json["items"]
    assert {(each["finding"], each["key"]) for each in problems} == {
        ("corrupt", "plots/tas_bias_map.png"),
        ("missing", "yearly.csv"),
        ("stale", "left-over.txt"),
    }
    lines = cli("verify", published, code=1).out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["missing", "corrupt", "stale"]
    assert cli("verify", published, FAILED).code == 0


def test_stale_files_alone_are_shown_and_are_no_failure(cli: CLI, published: Path) -> None:
    (published / FAILED / "left-over.txt").write_text("x")
    assert "left-over.txt" in cli("verify", published).out


@pytest.mark.parametrize("command", ["ls {}", "transfer {} copy", "verify {}", "sets {}", "replay {} --catalog new.db"])
def test_what_is_left_out_is_told_and_is_no_success_unless_it_is_accepted(
    cli: CLI, published: Path, command: str
) -> None:
    (published / "nowhere").symlink_to("gone")
    os.mkfifo(published / GOOD / "pipe")
    said = {("nowhere", "is a link that leads nowhere"), (f"{GOOD}/pipe", "is a named pipe, not a file")}
    arguments = command.format(published).split()
    answer = cli(*arguments, code=1)
    assert all(f"left out  {name}: {reason}" in answer.err for name, reason in said)
    document = cli(*arguments, "--json", code=1).json
    assert {(each["name"], each["reason"]) for each in document["left_out"]} == said
    assert document["ok"] is False
    assert cli(*arguments, "--accept-left-out", "--json").json["left_out"] == document["left_out"]


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_keys_are_the_same_in_every_locale(cli: CLI, tree: Path, tmp_path: Path, utf8: str) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
    assert cli("ls", tree, "--json", env=env).json == cli("ls", tree, "--json").json
    assert cli("ls", tree, env=env).out == cli("ls", tree).out
    cli("transfer", tree, "copy", "run1/[red]b[/red] (°C).txt", env=env)
    assert list(files(tmp_path / "copy")) == ["run1/[red]b[/red] (°C).txt"]


def test_a_python_that_would_read_other_keys_opens_no_folder(tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import emdstore, sys; emdstore.LocalArtifactStore(sys.argv[1])", tree],
        env=environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
        capture_output=True,
        text=True,
    )
    assert "StoreError" in done.stderr
    assert "set PYTHONUTF8=1" in done.stderr


@pytest.mark.parametrize("command", [["ls"], ["verify"], ["replay", "--catalog", "new.db", "--prefix"]])
def test_a_folder_that_holds_nothing_is_told(cli: CLI, published: Path, command: list[str]) -> None:
    verb, *options = command
    assert "landmarc" in cli(verb, published, *options, "landmarc", code=4).err


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "{place}"], ["verify", "{place}"], ["transfer", "{place}", "out"],
        ["transfer", "{place}", "out", "--dry-run"],
        ["replay", "{place}", "--catalog", "c.db"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_misspelt_prefix_of_a_bucket_is_a_wrong_call_and_not_an_empty_store(
    cli: CLI, tmp_path: Path, moto_server: S3Server, command: list[str]
) -> None:
    bucket = moto_server.make_bucket()
    env = {
        "AWS_ACCESS_KEY_ID": moto_server.access_key,
        "AWS_SECRET_ACCESS_KEY": moto_server.secret_key,
        "AWS_REGION": moto_server.region,
        "AWS_ENDPOINT_URL": moto_server.endpoint_url,
    }
    (tmp_path / "results_2025").mkdir()
    (tmp_path / "results_2025" / "a.txt").write_text("a")
    cli("transfer", "results_2025", f"s3://{bucket}/results_2025", env=env)
    wrong = [each.format(place=f"s3://{bucket}/results-2025") for each in command]
    said = cli(*wrong, env=env, code=2)
    assert f"there is nothing in S3ArtifactStore('s3://{bucket}/results-2025'" in said.err
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    cli(*(each.format(place="empty") for each in command))  # a folder that is there may be empty


def test_a_url_where_a_key_is_meant_is_told(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for command in (["ls", "here", "s3://bucket/x"], ["transfer", "here", "there", "file:///x/y"]):
        assert (
            "it is a URL; a key is what comes after"
            in cli(*command, code=2 if "ls" in command else None).err + cli(*command, code=None).out
        )


@pytest.mark.parametrize(
    "option", ["--timeout=0", "--timeout=nan", "--connect-timeout=-1", "--retries=-1", "--timeout=x"]
)
def test_a_bound_that_makes_no_sense_is_a_wrong_call(cli: CLI, tmp_path: Path, option: str) -> None:
    (tmp_path / "here").mkdir()
    cli("ls", "here", option, code=2)


@pytest.mark.parametrize("engine", ["obstore", "s3fs"])
def test_how_long_to_wait_is_said_by_an_option_or_by_the_environment(cli: CLI, engine: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    env = {
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
    }
    options = ["--timeout", "0.5", "--retries", "0"]
    with silent:
        for arguments, more in ((options, {}), ([], {"EMDSTORE_TIMEOUT": "0.5", "EMDSTORE_RETRIES": "0"})):
            began = time.monotonic()
            cli("ls", "s3://bucket/x", "--engine", engine, *arguments, env={**env, **more}, code=3)
            assert time.monotonic() - began < 15


@pytest.mark.parametrize("command", ["retract p/d/g/1 --reason wrong", "commit p/d/g/1"])
def test_a_command_on_a_workspace_waits_for_its_store_as_long_as_it_is_told(
    cli: CLI, tmp_path: Path, command: str
) -> None:
    env = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_REGION": "here"}
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        env["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cli("init", "--results", "s3://bucket/results", env=env)
        if command.startswith("commit"):
            run = cli("run", "--provider", "p", "--diagnostic", "d", "--json", "--", "true", env=env)
            command = f"commit {run.json['execution']['fragment']}"
        began = time.monotonic()
        answer = cli(*command.split(), "--timeout", "0.5", "--retries", "0", env=env, code=None)
    assert answer.code in (1, 3)
    assert time.monotonic() - began < 15  # each of twelve tries would wait 20 seconds


def test_a_store_that_tells_no_times_is_listed_all_the_same(cli: CLI, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/b.txt", b"abc")
    url = f"zip://::file://{tmp_path}/set.zip"
    assert cli("ls", url, "--long").out.split() == ["3", "-", "a/b.txt"]
    assert cli("ls", url, "--json").json["items"] == [{"key": "a/b.txt", "size": 3, "modified": None}]
