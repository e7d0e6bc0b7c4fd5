"""The command that takes rows out of the catalog."""

from __future__ import annotations

import csv
import io
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.catalog.examples import FULL, execution_of
from tests.children import answer_from_mount
from tests.cli.conftest import COMMAND, Answer, environment
from tests.cli.test_manners import on_a_terminal
from tests.servers.s3 import S3Server

from emdstore import Catalog

OLD = b"what was there before\n"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "catalog.db") as catalog:
        catalog.replace_execution(attrs.evolve(FULL, state="published"))
        other = {"provider": "ilamb", "diagnostic": "bias", "group": "h", "status": "failed"}
        catalog.replace_execution(execution_of("ilamb/bias/h/1", **other, scalars=[(2.0, {"region": "a=b, c"}, None)]))
        yield catalog


CALLS = """
import contextlib, io, json, sys
from emdstore.cli.app import run

answers = []
for arguments in json.loads(sys.argv[1]):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    out.flush(), err.flush()
    answers.append([code, *(stream.buffer.getvalue().decode() for stream in (out, err))])
print(json.dumps(answers))
"""


def answers_to(calls: list[str], folder: Path, **env: str) -> list[Answer]:
    """Run several commands in one process, because to start one takes longer than to export."""
    arguments = json.dumps([shlex.split(call) for call in calls])
    done = subprocess.run(
        [sys.executable, "-c", CALLS, arguments], cwd=folder, env=environment(**env), capture_output=True, check=True
    )
    return [Answer(*answer) for answer in json.loads(done.stdout)]


@pytest.mark.needs("tables")
def test_each_format_is_told_by_the_files_name_and_holds_what_the_catalog_does_in_any_store(
    catalog: Catalog, tmp_path: Path, moto_server: S3Server
) -> None:
    bucket = moto_server.make_bucket()
    said, answered, one, several, *others = answers_to(
        [
            "export scalars -o new/scalars.csv --catalog catalog.db",
            "export series -o series.parquet --catalog catalog.db --json",
            "export series --index time -o one.nc --catalog catalog.db --json",
            "export series -o all.nc --catalog catalog.db",
            "export executions -o runs.jsonl --catalog catalog.db",
            f"export outputs -o s3://{bucket}/out/outputs.csv --catalog catalog.db",
        ],
        tmp_path,
        AWS_ACCESS_KEY_ID=moto_server.access_key,
        AWS_SECRET_ACCESS_KEY=moto_server.secret_key,
        AWS_REGION=moto_server.region,
        AWS_ENDPOINT_URL=moto_server.endpoint_url,
    )
    assert [answer.code for answer in (said, answered, one, several, *others)] == [0, 0, 0, 2, 0, 0]
    assert one.json["items"][0]["rows"] == catalog.series(index_name="time").count() > 0
    assert "(--index)" in several.err
    assert said.out.startswith("7 scalars (")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new/scalars.csv").read_text())))
    assert [row["value"] for row in rows] == ["2.0", "1.25", "", "", "-inf", "0.0", "1e+300"]
    assert [row["region"] for row in rows] == [scalar.dimensions.get("region", "") for scalar in catalog.scalars()]
    assert answered.json["items"][0] == {
        "kind": "series",
        "file": "series.parquet",
        "format": "parquet",
        "rows": 3,
        "bytes": (tmp_path / "series.parquet").stat().st_size,
    }
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "series.parquet").equals(catalog.series().to_arrow())
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [(line["fragment"], line["scalars"]) for line in lines] == [("ilamb/bias/h/1", 1), (FULL.fragment, 6)]
    uploaded = moto_server.client().get_object(Bucket=bucket, Key="out/outputs.csv")["Body"].read()
    assert uploaded == b"".join(catalog.outputs().export("csv"))


SELECTIONS = {
    "--where region=global region=NINO3.4 season=DJF": [1.25, None],
    "--where region=NINO3.4 --where season=JJA --provider pmp": [None],
    "--diagnostic enso --group historical/g58 --status uploaded --fragment pmp/enso": [
        1.25,
        None,
        None,
        "-inf",
        0,
        1e300,
    ],
    "--where 'region=a=b, c'": [2.0],
    "--provider pmp --provider ilamb --status failed": [2.0],
    "--provider nobody": [],
    "--dataset nothing": [],
    "--status aborted": [],
    "--where region=nowhere": [],
    "--latest --where region=global": [1.25],
    "--latest --provider ilamb": [],
}


def test_options_select_the_rows_that_are_written_to_stdout(catalog: Catalog, tmp_path: Path) -> None:
    export = "export scalars --format jsonl -o - --catalog catalog.db"
    answers = answers_to([f"{export} {options}" for options in SELECTIONS], tmp_path)
    found = [[json.loads(line)["value"] for line in answer.out.splitlines()] for answer in answers]
    assert dict(zip(SELECTIONS, found, strict=True)) == SELECTIONS
    assert [answer.code for answer in answers] == [0 if values else 4 for values in SELECTIONS.values()]


MISTAKES = {
    "scalars -o x.xls": "--format",
    "scalars -o -": "--format",
    "scalars -o - --format csv": "give a file",
    "scalars -o folder --format csv": "not a file",
    "scalars -o x.csv --where region": "NAME=VALUE",
    "executions -o x.csv --where region=global": "no dimensions",
    "scalars -o x.csv --index time": "about series",
    "scalars -o x.csv --fragment pmp/nso": "pmp/nso",
    "scalars -o x.csv --status done": "done",
    "scalars": "--output",
    "scalers -o x.csv": "scalers",
    "scalars -o x.csv --catalog none.db": "none.db",
    "scalars -o 'y\\z.csv'": "backslash",
}


def test_a_mistake_is_said_and_nothing_is_written(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    list(catalog.executions())  # the database's own files are there from now on
    before = sorted(tmp_path.iterdir())
    where = {call: "" if "--catalog" in call else "--catalog catalog.db" for call in MISTAKES}
    answers = answers_to([f"export {call} {where[call]} --json" for call in MISTAKES], tmp_path)
    for call, answer in zip(MISTAKES, answers, strict=True):
        assert (answer.code, answer.err) == (4 if "--fragment" in call else 2, ""), call
        assert MISTAKES[call] in answer.json["error"]["message"]
    assert sorted(tmp_path.iterdir()) == before


# -- never half a file -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "catalog.db"
    with Catalog(file) as catalog:
        scalars = ((float(n), {"text": f"{n:0200}"}, None) for n in range(40_000))
        catalog.replace_execution(execution_of("a", scalars=scalars))
    return file


STOPPED = """
import os, signal, sys
from contextlib import contextmanager
from emdstore.cli import app, documents, export, main

@contextmanager
def stopped_at_the_second_piece(_):
    yield lambda _, done, total: os.kill(os.getpid(), NUMBER) if done > 10_000 else None

def not_to_be_cut_off(*told, envelope=documents.envelope):
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "what is said may be cut off"
    return envelope(*told)

documents.envelope = not_to_be_cut_off
app._SECONDS_TO_END = 60  # for a busy machine
export.set_progress = stopped_at_the_second_piece
sys.exit(main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_export_that_is_stopped_leaves_the_old_file(
    large_catalog: Path, tmp_path: Path, number: int, code: int
) -> None:
    (tmp_path / "out.csv").write_bytes(OLD)
    command = [sys.executable, "-c", STOPPED.replace("NUMBER", str(int(number)))]
    arguments = ["export", "scalars", "-o", "out.csv", "--catalog", str(large_catalog), "--json"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "out.csv").read_bytes() == OLD
    left = [path for path in tmp_path.iterdir() if path.name != "out.csv"]
    if number == signal.SIGINT:
        assert "out.csv was not written" in json.loads(done.stdout)["error"]["message"]
        assert left == []
    else:
        assert [path.stat().st_size > 0 for path in left] == [True]  # it had begun


FILL = """
import json, subprocess, sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "out.csv").write_bytes(OLD)
export = ["export", "scalars", "-o", "out.csv", "--catalog", CATALOG, "--json"]
done = subprocess.run([*COMMAND, *export], cwd=folder, capture_output=True, text=True)
left = {path.name: path.read_text() for path in folder.iterdir()}
print(json.dumps([done.returncode, json.loads(done.stdout)["error"]["message"], left]))
"""


@pytest.mark.needs("mounts")
def test_a_full_disk_is_said_and_leaves_the_old_file(large_catalog: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    known = f"OLD, CATALOG, COMMAND = {OLD!r}, {str(large_catalog)!r}, {COMMAND!r}"
    code, message, left = answer_from_mount("size=2m", folder, known + FILL)
    assert (code, left) == (1, {"out.csv": OLD.decode()})
    assert "space" in message


def test_a_terminal_sees_how_many_rows_are_done(large_catalog: Path, tmp_path: Path) -> None:
    call = ["export", "scalars", "-o", "out.jsonl", "--catalog", large_catalog]
    seen = on_a_terminal(call, cwd=tmp_path, columns=120).raw
    assert "40000 scalars" in seen
    assert "of 40000" in seen
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 40_000


def test_a_reader_of_an_export_that_has_seen_enough_ends_it_quietly(large_catalog: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "export", "scalars", "-o", "-", "--format", "csv", "--catalog", str(large_catalog)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline().startswith(b'"execution_id"')
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 141
