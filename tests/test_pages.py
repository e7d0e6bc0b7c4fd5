"""The code in the pages is run: each page in a folder that has what pages speak of, on servers of the tests.

A block that cannot be run here says why in a comment before it: ``<!-- not run: it installs emdstore -->``. The others
of a page follow each other, unless there is ``<!-- on its own -->`` before one, or ``<!-- each line -->``: then it, or
each of its lines, has such a folder for itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from tests.adoption.outputs import OUTPUTS
from tests.real_sets import RealSets
from tests.servers.s3 import S3Server
from tests.servers.sshd import SSHServer
from tests.test_docs import PAGES, tokens

import emdstore
from emdstore import (
    ArtifactNotFoundError,
    InMemoryArtifactStore,
    LocalArtifactStore,
    StoreError,
    Workspace,
    create_release,
    open_store,
    point_alias,
    replay,
    transfer,
)
from emdstore.catalog import Catalog
from emdstore.demo import write_set
from emdstore.emds import decode_output_bundle

LANGUAGES = ("python", "sh", "bash")
NOT_RUN = re.compile(r"<!-- not run: (.{10,}) -->")
EACH_LINE, ALONE = "<!-- each line -->", "<!-- on its own -->"
EXIT_CODES = {"diff": {0, 1}, "compare": {0, 1}, "gc": {0, 4}, "replay real": {0, 1}}
"""Of commands that tell by it what they found."""


@attrs.frozen
class Block:
    language: str
    code: str
    alone: bool = False
    each_line: bool = False


def blocks_to_run(page: Path) -> Iterator[Block]:
    before = ""
    for token in tokens(page):
        if token.type == "fence" and token.info in LANGUAGES and not NOT_RUN.search(before):
            yield Block(token.info, token.content, ALONE in before, EACH_LINE in before)
        before = token.content if token.type == "html_block" else ""


RUN = {name: found for name, page in PAGES.items() if (found := list(blocks_to_run(page)))}
NEEDS = {
    "docs/query.md": ["tables"],
    "docs/releases.md": ["tables"],
    "docs/ssh.md": ["openssh"],
    "README.md": ["openssh"],
}
NEEDS |= {"docs/cookbook.md": ["openssh"]}
WITHOUT = {
    "README.md": ["catalog.db"],
    "docs/cookbook.md": ["catalog.db"],
    "docs/getting-started.md": ["emdstore-demo"],
    "docs/hpc.md": ["scratch"],
    "docs/releases.md": ["results/.emdstore/releases", "results/.emdstore/aliases"],
    "docs/workspace.md": ["catalog.db"],
}
"""What is not there where the reader of a page begins."""


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages speak of: a workspace with some sets in scratch, in results and in the catalog; not to be changed."""
    folder = tmp_path_factory.mktemp("pages")
    settings = 'scratch = "scratch"\nresults = "results"\ncatalog = "catalog.db"\n[stores.archive]\nurl = "archive"\n'
    (folder / "emdstore.toml").write_text(settings)
    sets = [("pmp", "enso", "h"), ("pmp", "enso_tel", "historical"), ("ilamb", "csoil", "historical")]
    with Workspace.open(folder) as workspace:
        for (provider, diagnostic, group), name in ((each, name) for each in sets for name in ("1", "2")):
            with workspace.start_execution(
                provider=provider, diagnostic=diagnostic, group=group, name=name
            ) as execution:
                (execution.output_directory / "map.png").write_bytes(b"a picture")
                execution.add_plot("map.png", long_name="Bias", dimensions={"region": "global"})
                for metric, value in (("rmse", 0.7), ("bias", 0.1)):
                    execution.add_scalar(value, region="global", metric=metric, season="DJF")
                execution.add_series(
                    [0.1, 0.2], [1, 2], index_name="time", dimensions={"region": "global", "metric": "bias"}
                )
                execution.add_input(f"CMIP6.CMIP.{provider}.MIROC6.{name}")
                execution.add_input("CMIP6.CMIP.CSIRO.ACCESS-ESM1-5.historical", doi="10.22033/ESGF/CMIP6.4272")
            execution.commit_output_assets()
        for name in ("1", "2"):
            create_release(workspace.results, f"2026.{name}", [f"pmp/enso_tel/historical/{name}"])
        point_alias(workspace.results, "production", "2026.1")
        replay(workspace.results, workspace.catalog)
    shutil.rmtree(folder / "scratch/pmp/enso")  # as after `gc`
    for name in ("before.db", "after.db", "emdstore-demo/catalog.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "catalog.db", folder / name)
    shutil.copytree(folder / "results", folder / "emdstore-demo/results")
    shutil.copytree(folder / "results", folder / "real")
    write_set(folder / "run")
    for make in OUTPUTS.values():
        make(folder)
    shutil.copytree(folder / "run", folder, dirs_exist_ok=True)
    (folder / "run/settings.json").unlink()
    (folder / "trend.png").write_bytes(b"a picture")
    (folder / "scalars.csv").write_text('"value"\n0.7\n')
    (folder / "tolerances.json").write_text("{}")
    (folder / "cv_cmip7_aft.yaml").write_text("dimensions: []\n")
    (folder / "enso.py").write_text("print('computing')\n")
    for name in ("my_diagnostic.sh", "enso.sh"):
        (folder / name).write_text(f'#!/bin/sh\necho computing; cp -r {folder}/run/. "$EMDSTORE_OUTPUT_DIR"\n')
        (folder / name).chmod(0o755)
    return folder


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@attrs.frozen
class World:
    """Where the code of one page is run."""

    furnished: Path
    folder: Path
    places: Mapping[str, str]
    environment: Mapping[str, str]

    def there(self, code: str) -> str:
        """Return code with its places being those of this world."""
        for name, place in self.places.items():
            code = re.sub(rf"(?<![\w.]){re.escape(name)}", lambda _, place=place: place, code)
        return code

    def furnish(self) -> None:
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            remove(path)
        shutil.copytree(self.furnished, self.folder, dirs_exist_ok=True)

    def run(self, script: str) -> None:
        if "emdstore init" in script:
            (self.folder / "emdstore.toml").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", self.there(script)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        wanted = next((codes for name, codes in EXIT_CODES.items() if script.startswith(f"emdstore {name} ")), {0})
        assert done.returncode in wanted, f"{script}\n{done.stdout}"


COMMAND = """#!/bin/sh
case "$*" in
  watch*) timeout -s TERM 2 {python} -m emdstore "$@"; test $? = 124 ;;
  serve*) timeout -s INT 1 {python} -m emdstore "$@" --port 0; test $? = 124 ;;
  *--watch*) timeout -s TERM 2 {python} -m emdstore "$@"; test $? = 124 ;;
  *) exec {python} -m emdstore "$@" ;;
esac
"""
"""`emdstore`, for commands that run until they are ended, too."""


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    furnished: Path,
    tmp_path: Path,
    moto_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "emdstore").write_text(COMMAND.format(python=sys.executable))
    (programs / "emdstore").chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    for place in ("scratch/run42", "archive/project/results"):
        shutil.copytree(furnished / "results", elsewhere / place)
    (elsewhere / "home/me").mkdir(parents=True)
    bucket = moto_server.make_bucket()
    places = {f"s3://{name}": f"s3://{bucket}" for name in ("my-bucket", "bucket", "public", "archive")}
    places |= {f"/{name}/": f"{elsewhere}/{name}/" for name in ("data", "scratch", "archive", "mirror", "home/me")}
    settings = {
        "AWS_ACCESS_KEY_ID": moto_server.access_key,
        "AWS_SECRET_ACCESS_KEY": moto_server.secret_key,
        "AWS_ENDPOINT_URL": moto_server.endpoint_url,
        "AWS_REGION": moto_server.region,
        "EMDSTORE_DEMO_MODELS": "6",
        "EMDSTORE_DEMO_DIAGNOSTICS": "3",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(emdstore.__file__).parents[1]),
    }
    settings |= {"SLURM_SUBMIT_DIR": str(tmp_path / "here"), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    settings |= {"PBS_O_WORKDIR": str(tmp_path / "here"), "PBS_JOBID": "7[1].host", "PBS_ARRAY_INDEX": "1"}
    page = request.node.callspec.params["page"]
    if "openssh" in NEEDS.get(page, ()):
        sshd: SSHServer = request.getfixturevalue("sshd")
        places = {f"ssh://{host}": sshd.url(elsewhere) for host in ("node", "me@node:2222")} | places
        settings["EMDSTORE_SSH"] = sshd.rsh
    for name in [name for name in os.environ if name.startswith(("EMDSTORE_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if page == "docs/cli.md":
        transfer(furnished / "results", open_store(f"s3://{bucket}/results", **moto_server.options))
    made = World(furnished, tmp_path / "here", places, dict(os.environ))
    made.furnish()
    for name in WITHOUT.get(page, ()):
        remove(made.folder / name)
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def names(world: World) -> Iterator[dict[str, Any]]:
    """What the Python in pages takes for granted: what was open above, and what is the reader's own."""

    def publish(source: InMemoryArtifactStore, dest: Any) -> None:
        transfer(source, dest).raise_for_failures()
        dest.write_bytes("run1/execution.json", b"{}")

    scratch = InMemoryArtifactStore()
    scratch.write_bytes("run1/out.log", b"done")
    with Workspace.in_memory() as workspace, Catalog(world.folder / "before.db") as catalog:
        yield {
            "catalog": catalog,
            "directory": world.folder,
            "draw": lambda: b"a picture",
            "figure": SimpleNamespace(savefig=lambda path: Path(path).write_bytes(b"a picture")),
            "my_framework": SimpleNamespace(publish=publish),
            "MyStore": LocalArtifactStore,
            "scratch": scratch,
            "values": [0.1, 0.2],
            "workspace": workspace,
            "years": [2001, 2002],
            **{each.__name__: each for each in (ArtifactNotFoundError, InMemoryArtifactStore, StoreError)},
            **{each.__name__: each for each in (decode_output_bundle, Path, datetime)},
            "UTC": UTC,
        }


@pytest.mark.pages
@pytest.mark.parametrize(
    "page", [pytest.param(name, marks=[pytest.mark.needs(each) for each in NEEDS.get(name, ())]) for name in RUN]
)
def test_the_code_in_a_page_runs(page: str, world: World, names: dict[str, Any]) -> None:
    script = ""  # shell blocks that follow each other are one script: they share their variables
    for block in [*RUN[page], Block("python", "")]:
        if block.each_line:
            for line in re.sub(r"\\\n", " ", block.code).splitlines():
                if line.strip():
                    world.furnish()
                    world.run(line)
            continue
        if block.alone or block.language == "python":
            world.run(script)
            script = ""
        if block.alone:
            world.furnish()
        if block.language != "python":
            script += f"{block.code}\n"
        else:
            exec(compile(world.there(block.code), page, "exec"), dict(names))


@pytest.mark.pages
def test_the_page_about_real_results_does_what_it_says(real_sets: RealSets, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGES["docs/real-results.md"].read_text(), re.DOTALL)
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(blocks)],
        cwd=tmp_path,
        env=os.environ | {"PATH": programs, "PYTHONPATH": str(Path(emdstore.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "94 ingested, 0 unchanged;" in done.stdout
    with Catalog(tmp_path / "real.db") as catalog:
        assert catalog.scalars().count() == real_sets.total.scalars
        assert catalog.series().count() == real_sets.total.series
        assert {row.code for row in catalog.warnings()} == {"missing-artifact"}
        seasons = catalog.scalars(provider="pmp", dimensions={"season": "DJF"}).count()
    assert len((tmp_path / "djf.csv").read_text().splitlines()) == 1 + seasons > 1
    assert len([path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]) == 3 * 94


def test_what_is_not_run_says_why() -> None:
    told = [
        (name, token.content.strip())
        for name, page in PAGES.items()
        for token in tokens(page)
        if token.type == "html_block" and "not run" in token.content
    ]
    assert [each for each in told if not NOT_RUN.fullmatch(each[1])] == []
