"""What every command keeps to: exit codes, errors for people and programs, interruption, terminals, discretion."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from tests.cli.conftest import CLI, COMMAND, environment, with_seconds_to_end
from tests.cli.terminal import on_a_terminal
from tests.ensembles import GOOD
from tests.servers.s3 import FaultProxy, Request, S3Server

import emdstore
from emdstore import LocalArtifactStore
from emdstore.cli.progress import transfer_progress
from emdstore.transfers import TransferProgress

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "nope"),
        (["ls"], "STORE"),
        (["ls", "here", "--bogus"], "--bogus"),
        (["transfer", "here", "there", "--unchanged", "maybe"], "maybe"),
        (["transfer", "here", "there", "--workers", "0"], "--workers"),
        (["ls", "not-there"], "not-there"),
        (["verify", "not-there"], "not-there"),
        (["transfer", "not-there", "there"], "not-there"),
        (["materialize", "not-there", "there"], "not-there"),
        (["replay", "not-there", "--catalog", "c.db"], "not-there"),
        (["ls", "here/a.txt"], "is a file"),
        (["ls", "here", "/absolute"], "/absolute"),
        (["ls", "zzz://x"], "zzz"),
        (["ls", "s3://Not A Bucket/x"], "Not A Bucket"),
        (["transfer", "here", "here"], "same"),
        (["transfer", "here", "here/below"], "inside"),
        (["materialize", "here", "there", "--retryable"], "--failed"),
        (["replay", "here", "--catalog", "mysql://host/x"], "mysql"),
        (["replay", "here", "--catalog", "no-such-folder/c.db"], "no-such-folder"),
        (["replay", "here", "--catalog", "c.db", "--vocabulary", "no.yaml"], "no.yaml"),
        (["show", "x", "--catalog", "not-there.db"], "not-there.db"),
        (["show", "x"], "--catalog"),
    ],
    ids=" ".join,
)
def test_a_users_mistake_exits_2_with_a_message_for_people_and_for_programs(
    cli: CLI, tmp_path: Path, arguments: list[str], message: str
) -> None:
    LocalArtifactStore(tmp_path / "here").write_bytes("a.txt", b"x")
    for_people = cli(*arguments, code=2)
    assert message in for_people.err
    assert for_people.out == ""
    for_programs = cli(*arguments, "--json", code=2)
    assert message in for_programs.json["error"]["message"]
    assert for_programs.json["error"]["type"]
    assert for_programs.err == ""
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", f"s3://key:{SECRET}@bucket/x"],
        ["ls", f"ftp://user:{SECRET}@127.0.0.1:1/x"],
        ["show", "x", "--catalog", f"postgresql://user:{SECRET}@127.0.0.1:1/x"],
        ["ls", "here", f"--secret-access-key={SECRET}"],
        ["ls", "s3://bucket/x", "--endpoint-url", f"http://user:{SECRET}@127.0.0.1:1"],
    ],
    ids=lambda arguments: arguments[-1].partition("=")[0].partition(":")[0],
)
def test_no_secret_is_ever_shown(cli: CLI, arguments: list[str]) -> None:
    env = {"AWS_ACCESS_KEY_ID": "AKTESTS", "AWS_SECRET_ACCESS_KEY": SECRET + "-too", "AWS_REGION": "us-east-1"}
    for more in ([], ["--json"], ["-v"]):
        answer = cli(*arguments, *more, code=None, env=env)
        assert answer.code != 0
        assert SECRET not in answer.out + answer.err


def test_a_missing_bucket_is_wrong_configuration_and_wrong_credentials_too(
    cli: CLI, moto_server: S3Server, seaweed_server: S3Server
) -> None:
    for server, secret in ((moto_server, moto_server.secret_key), (seaweed_server, "wrong")):
        env = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": server.region,
            "AWS_ENDPOINT_URL": server.endpoint_url,
        }
        assert "no-such-bucket" in cli("ls", "s3://no-such-bucket/x", env=env, code=2).err


def test_a_server_that_cannot_be_reached_is_told_apart(cli: CLI) -> None:
    env = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    cli("ls", "s3://bucket/x", "--retries", "0", env=env, code=3)
    cli("db", "check", "--catalog", "postgresql://127.0.0.1:1/x", code=3)
    cli("show", "x", "--catalog", "postgresql://127.0.0.1:1/x", code=3)


def test_an_interrupted_transfer_exits_130_with_what_was_done(tmp_path: Path, moto_server: S3Server) -> None:
    source = LocalArtifactStore(tmp_path / "source")
    for number in range(400):
        source.write_bytes(f"{number:03}.txt", b"x")
    interrupted = threading.Event()
    with FaultProxy(moto_server) as slow:
        slow.before = lambda request: interrupted.wait(60) if len(slow.seen("PUT ")) > 3 else None
        place = f"s3://{moto_server.make_bucket()}/x"
        env = environment(
            AWS_ACCESS_KEY_ID=moto_server.access_key,
            AWS_SECRET_ACCESS_KEY=moto_server.secret_key,
            AWS_REGION=moto_server.region,
            AWS_ENDPOINT_URL=slow.server.endpoint_url,
        )
        running = subprocess.Popen(
            [*with_seconds_to_end(60), "transfer", str(tmp_path / "source"), place, "--workers", "1", "--json"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(slow.seen("PUT ")) > 3, running)
        running.send_signal(signal.SIGINT)
        interrupted.set()
        out, err = running.communicate()
    assert (running.returncode, err) == (130, "")
    report = json.loads(out)
    assert report["interrupted"] is True
    assert 0 < report["counts"]["copied"] < 400


LATE = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "cyclopts":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from emdstore.cli import main
sys.exit(main())
"""


def test_ctrl_c_while_the_command_line_is_still_imported_is_said_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", LATE, "help"], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("command", ["ls results", "show {good} --catalog catalog.db"])
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(command: str, demo_folder: Path) -> None:
    arguments = command.format(good=GOOD).split()
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=demo_folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 141


def test_a_narrow_terminal_gets_whole_names_and_no_colour_if_it_wants_none(demo_folder: Path, tmp_path: Path) -> None:
    call = ["show", GOOD, "--catalog", demo_folder / "catalog.db"]
    seen = on_a_terminal(call, cwd=tmp_path, columns=40, NO_COLOR="1")
    assert "\x1b[3" not in seen.raw
    # What is longer than the terminal is wide is not broken here: the terminal does so, and copies it whole.
    assert f"fragment         {GOOD}" in seen.lines
    assert not any(line.startswith(" ") and len(line) > 40 and "   " in line.strip() for line in seen.lines)


@pytest.mark.parametrize("columns", [80, 40])
def test_a_name_stands_whole_on_one_line_however_narrow_the_terminal_is(
    demo_folder: Path, tmp_path: Path, columns: int
) -> None:
    catalog = str(demo_folder / "catalog.db")
    config = f'scratch = "s"\nresults = "{demo_folder}/results"\ncatalog = "{catalog}"\n'
    (tmp_path / "emdstore.toml").write_text(config)
    with emdstore.Catalog(catalog) as database:
        fragments = [each.fragment for each in database.executions()]
        shown = max(fragments, key=len)
        keys = [each.key for each in database.artifacts(fragment=shown)]
    listed = on_a_terminal(["list"], cwd=tmp_path, columns=columns)
    assert set(fragments) <= {line.strip() for line in listed.lines}
    seen = on_a_terminal(["show", shown], cwd=tmp_path, columns=columns)
    assert f"fragment         {shown}" in seen.lines
    assert all(any(key in line for line in seen.lines) for key in keys)


def test_a_progress_bar_has_no_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a terminal on which work is not forked, and so takes twice as long."""
    ours, theirs = pty.openpty()
    before = threading.active_count()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with transfer_progress("transfer") as show:
            for done in range(3):
                show(TransferProgress(done, done, 3, 3, complete=True))
                assert threading.active_count() == before
    os.close(ours)


def test_a_pipe_sees_no_progress_and_no_colour(cli: CLI, demo_folder: Path) -> None:
    answer = cli("transfer", demo_folder / "results", "two")
    assert answer.err == ""
    assert "\x1b" not in answer.out


def test_control_characters_in_data_are_shown_and_not_sent(cli: CLI, tmp_path: Path) -> None:
    run = LocalArtifactStore(tmp_path / "run")
    run.write_bytes("out.log", b"")
    dimensions = {"json_structure": ["metric"], "metric": {"\x1b[2J": {}}}
    run.write_bytes("diagnostic.json", json.dumps({"DIMENSIONS": dimensions, "RESULTS": {"\x1b[2J": 1}}).encode())
    cli("materialize", "run", "results/a/b/c/1", "--metric", "diagnostic.json")
    cli("replay", "results", "--catalog", "catalog.db")
    out = cli("show", "a/b/c/1", "--catalog", "catalog.db").out
    assert r"\x1b[2J" in out
    assert "\x1b" not in out


@pytest.mark.slow
def test_help_tells_the_commands_and_what_each_takes(cli: CLI) -> None:
    everything = cli("--help").out
    for command in ("demo", "ls", "transfer", "verify", "materialize", "replay", "show"):
        assert command in everything
        assert "--json" in cli(command, "--help").out
    assert "--dry-run" in cli("transfer", "--help").out


def test_the_version_is_told_without_loading_the_parser(cli: CLI) -> None:
    told, engines = cli("--version").out.splitlines()
    assert told == emdstore.__version__
    assert f"SQLAlchemy {metadata.version('sqlalchemy')}" in engines.split(", ")
    probe = (
        "import sys; sys.argv = ['emdstore', '--version']\n"
        "from emdstore.cli import main\n"
        "assert main() == 0\n"
        "assert not {'cyclopts', 'rich', 'sqlalchemy', 'fsspec'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], env=environment(), check=True, capture_output=True)


@pytest.mark.slow  # the lowest Cyclopts imports every command
def test_what_works_on_stores_alone_loads_neither_the_catalog_nor_what_other_commands_need(tmp_path: Path) -> None:
    # Each of these takes longer to import than a small transfer takes.
    heavy = ["sqlalchemy", "alembic", "fsspec", "obstore", "asyncio", "numpy", "importlib.metadata"]
    ours = [
        "catalog.rows",
        "ingestion.replay",
        "exchange",
        "executions.workspace",
        "stores.s3",
        "stores.ssh",
        "cli.documents",
    ]
    unwanted = {*heavy, *(f"emdstore.{name}" for name in ours)}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("data")
    probe = (
        "import sys\n"
        "from emdstore.cli import main\n"
        "for arguments in (['ls', 'a'], ['transfer', 'a', 'b'], ['sets', 'b'], ['verify', 'b']):\n"
        "    sys.argv = ['emdstore', *arguments]\n"
        "    assert main() == 0\n"
        f"sys.exit(' '.join({unwanted} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "file").read_text() == "data"


def test_without_the_extra_the_command_line_says_what_to_install() -> None:
    probe = (
        "import sys; sys.modules['cyclopts'] = None; sys.argv = ['emdstore', 'ls', 'x']\n"
        "from emdstore.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", probe], env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'emdstore[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_python_m_emdstore_is_the_script(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")

    def module(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "emdstore", *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    assert module("--version")[1].startswith(emdstore.__version__ + "\n")
    assert module("ls", "folder") == (0, "a.txt\n")
    assert module("ls", "nowhere") == (2, "")
    assert module("--help")[1].startswith("Usage: emdstore ")


PROVIDER, DIAGNOSTIC = GOOD.split("/")[0], "/".join(GOOD.split("/")[:2])
FOLDERS = [  # a command, and the folder that it is given
    ("ls results", PROVIDER),
    ("verify results", DIAGNOSTIC),
    ("replay results --catalog {out}.db --prefix", DIAGNOSTIC),
    ("export scalars -o - --format csv --catalog catalog.db --fragment", PROVIDER),
    ("show --catalog catalog.db", GOOD),
    ("report results --catalog catalog.db -o {out} --fragment", DIAGNOSTIC),
]


@pytest.mark.parametrize(("command", "folder"), FOLDERS, ids=[command.split()[0] for command, _ in FOLDERS])
def test_a_folder_may_be_written_as_a_shell_completes_it(
    cli: CLI, demo_folder: Path, tmp_path: Path, command: str, folder: str
) -> None:
    for name in ("results", "catalog.db"):
        (tmp_path / name).symlink_to(demo_folder / name)

    def ask(spelt: str, out: str) -> str:
        said = cli(*command.format(out=out).split(), spelt).out
        return said.partition("; ")[0].replace(out, "")

    plain = ask(folder, "out-1")
    assert ask(folder + "/", "out-2") == plain
    assert ask("./" + folder + "/", "out-3") == plain
    if "show" not in command:
        cli(*command.format(out="out-4").split(), folder + "x/", code=4)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_batch_system_ends_a_command_as_ctrl_c_does(
    tmp_path: Path, moto_server: S3Server, sent: signal.Signals
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(bytes(80_000_000))
    was_sent = threading.Event()

    def hold(request: Request) -> None:
        if "partNumber" in request.path:  # until a part gets through, the upload cannot be given up
            if was_sent.is_set():
                time.sleep(0.3)
            was_sent.wait(60)

    with FaultProxy(moto_server) as slow:
        slow.before = hold
        place = f"s3://{moto_server.make_bucket()}/x"
        env = environment(
            AWS_ACCESS_KEY_ID=moto_server.access_key,
            AWS_SECRET_ACCESS_KEY=moto_server.secret_key,
            AWS_REGION=moto_server.region,
            AWS_ENDPOINT_URL=slow.server.endpoint_url,
        )
        running = subprocess.Popen(
            [*with_seconds_to_end(60), "transfer", "source", place, "--json"],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: slow.seen("partNumber"), running)
        running.send_signal(sent)
        was_sent.set()
        out, _ = running.communicate()
        assert slow.seen("DELETE ")  # the upload was given up
    assert running.returncode == 128 + sent
    assert (json.loads(out)["interrupted"], json.loads(out)["ok"]) == (True, False)


def test_what_nobody_thought_of_is_told_in_a_line_and_tells_no_secret(tmp_path: Path) -> None:
    probe = (
        f"import sys; sys.argv = ['emdstore', 'ls', 'https://me:{SECRET}@host/x', *sys.argv[1:]]\n"
        "import emdstore.cli.stores as stores\n"
        f"def broken(*_): raise RuntimeError('the engine knows {SECRET}, and Authorization: Basic {SECRET}')\n"
        "stores.open_existing = broken\n"
        "from emdstore.cli import main\n"
        "sys.exit(main())"
    )

    def ask(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", probe, *more], env=environment(), capture_output=True, text=True)

    plain, verbose, for_programs = ask(), ask("-v"), ask("--json")
    assert [each.returncode for each in (plain, verbose, for_programs)] == [1, 1, 1]
    assert "Traceback" not in plain.stderr
    assert "Traceback" in verbose.stderr
    assert json.loads(for_programs.stdout)["error"]["type"] == "RuntimeError"
    for each in (plain, verbose, for_programs):
        assert SECRET not in each.stdout + each.stderr.replace(probe, "")


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        ("transfer {} out", 0.3),
        ("transfer {} out", 600),
        ("verify {}", 0.3),
        ("replay {} --catalog new.db", 0.3),
        ("sets {}", 0.3),
    ],
)
def test_ctrl_c_ends_a_command_that_waits_for_a_silent_server(
    demo_folder: Path, tmp_path: Path, moto_server: S3Server, command: str, seconds: float
) -> None:
    """After a while, or at the second Ctrl-C, and in no case only when the server answers."""
    bucket = moto_server.make_bucket()
    env = {
        "AWS_ACCESS_KEY_ID": moto_server.access_key,
        "AWS_SECRET_ACCESS_KEY": moto_server.secret_key,
        "AWS_REGION": moto_server.region,
    }
    place = f"s3://{bucket}/x"
    fill = [*COMMAND, "transfer", str(demo_folder / "results" / GOOD), f"{place}/{GOOD}"]
    at_once = environment(**env, AWS_ENDPOINT_URL=moto_server.endpoint_url)
    subprocess.run(fill, cwd=tmp_path, env=at_once, check=True, capture_output=True)
    ended = threading.Event()
    with FaultProxy(moto_server) as silent:
        held = "execution.json" if "sets" in command else "diagnostic.json"
        silent.before = lambda request: ended.wait() if held in request.path else None
        running = subprocess.Popen(
            [*with_seconds_to_end(seconds), *command.format(place).split(), "--timeout", "600", "--json"],
            cwd=tmp_path,
            env=environment(**env, AWS_ENDPOINT_URL=silent.server.endpoint_url),
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: silent.seen(f"GET .*{held}"), running)
        running.send_signal(signal.SIGINT)
        while seconds == 600 and running.poll() is None:
            time.sleep(0.3)  # two that come at once are one
            running.send_signal(signal.SIGINT)
        out, _ = running.communicate()
        ended.set()
    assert running.returncode == 130
    assert json.loads(out)["ok"] is False


def test_ctrl_c_ends_a_commit_that_waits_for_a_silent_server_and_the_next_one_finishes(
    cli: CLI, tmp_path: Path, moto_server: S3Server
) -> None:
    env = {
        "AWS_ACCESS_KEY_ID": moto_server.access_key,
        "AWS_SECRET_ACCESS_KEY": moto_server.secret_key,
        "AWS_REGION": moto_server.region,
    }
    ended = threading.Event()
    with FaultProxy(moto_server) as server:
        env["AWS_ENDPOINT_URL"] = str(server.server.endpoint_url)
        cli("init", "--results", f"s3://{moto_server.make_bucket()}/x", env=env)
        cli("run", "--provider", "p", "--diagnostic", "d", "--", "sh", "-c", "exit 1", env=env, code=1)
        server.before = lambda request: ended.wait() if request.method == "PUT" else None
        running = subprocess.Popen(
            [*with_seconds_to_end(0.3), "commit", "--pending", "--timeout", "600", "--json"],
            cwd=tmp_path,
            env=environment(**env),
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: server.seen("PUT "), running)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate()
        assert running.returncode == 130
        assert json.loads(out)["ok"] is False
        server.before = lambda request: None
        assert "failed" in cli("commit", "--pending", env=env).out
        ended.set()  # not before: what is held would be written late


def wait_until(holds: Callable[[], object], running: subprocess.Popen[str]) -> None:
    while not holds():
        assert running.poll() is None
        time.sleep(0.02)
