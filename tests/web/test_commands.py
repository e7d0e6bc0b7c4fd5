"""`emdstore serve` and `emdstore report` as processes of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import environment, run_command
from tests.web.conftest import running

from emdstore.catalog import Catalog
from emdstore.cli.demo import commands


def run(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=Path.cwd(), env=env)


def test_what_the_demo_names_last_shows_its_results(demo: Path) -> None:
    with Catalog(demo / "catalog.db", create=False) as catalog:
        *_, look = commands(demo, list(catalog.executions()))
    arguments = shlex.split(look)
    arguments = arguments[arguments.index("serve") :]
    with running(*arguments, "--port", "0") as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        page = httpx.get(url).text
        assert "7 executions" in page
        assert "3 need attention" in httpx.get(f"{url}executions").text
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in err


def test_beyond_this_machine_the_address_has_a_token(demo: Path) -> None:
    given = ["serve", demo / "results", "--catalog", demo / "catalog.db", "--port", "0", "--json"]
    with running(*given, "--host", "0.0.0.0") as (_, first):
        url = json.loads(first)["url"]
        token = re.search(r":(\d+)/\?token=([\w-]{32,})$", url)
        assert token is not None
        here = f"http://127.0.0.1:{token[1]}/"
        assert httpx.get(here).status_code == 401
        assert httpx.get(f"{here}?token={token[2]}").status_code == 200
    with running(*given, env={"EMDSTORE_TOKEN": "the-token-that-we-share"}) as (_, first):
        url = json.loads(first)["url"]
        assert url.endswith("/?token=the-token-that-we-share")
        assert httpx.get(url.partition("?")[0]).status_code == 401


def test_a_workspace_is_served_and_nothing_in_it_changes(demo: Path, tmp_path: Path) -> None:
    config = tmp_path / "emdstore.toml"
    config.write_text(f'scratch = "{demo}/scratch"\nresults = "{demo}/results"\ncatalog = "{demo}/catalog.db"\n')
    before = {path: path.stat().st_mtime_ns for path in (demo / "results").rglob("*")}
    with running("serve", "--config", config, "--port", "0") as (_, url):
        execution = re.findall(r"execution/\d+", httpx.get(f"{url}executions").text)[0]
        assert httpx.get(url + execution).status_code == 200
        assert httpx.post(f"{url}{execution}/verify", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
        for method in ("PUT", "DELETE", "PATCH"):
            assert httpx.request(method, url + execution).status_code == 405
    assert {path: path.stat().st_mtime_ns for path in (demo / "results").rglob("*")} == before


@pytest.mark.slow
def test_a_wrong_call_is_told(demo: Path, tmp_path: Path) -> None:
    catalog = ["--catalog", demo / "catalog.db"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, message in (
            (["serve", demo / "results"], "--catalog"),
            (["serve", demo / "nothing", *catalog], "does not exist"),
            (["serve", demo / "results", "--catalog", tmp_path / "none.db"], "none.db"),
            (["serve", demo / "results", *catalog, "--port", port], "cannot listen"),
            (["report", demo / "results", *catalog], "--output"),
            (["report", demo / "results", *catalog, "-o", demo], "is not a report"),
            (["report", demo / "results", *catalog, "-o", tmp_path / "new", "--fragment", "nobody"], "nobody"),
            (["report", demo / "results", *catalog, "-o", tmp_path / "new", "--diagnostic", "nobody"], "nobody"),
        ):
            done = run(*arguments)
            code = 4 if "nobody" in arguments else 2
            assert (done.returncode, message in done.stderr) == (code, True), (arguments, done)
            assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_report_is_written_and_says_what_is_in_it(demo: Path, tmp_path: Path) -> None:
    given = ["report", demo / "results", "--catalog", demo / "catalog.db", "-o", tmp_path / "site"]
    done = run(*given, "--status", "uploaded", "--json")
    assert done.returncode == 0, done
    said = json.loads(done.stdout)
    assert (said["ok"], said["executions"], said["troubles"]) == (True, 4, [])
    assert Path(said["index"]).is_file()
    assert (tmp_path / "site/executions.html").read_text().count('class="badge uploaded"') == 4
    assert list((tmp_path / "site").rglob("yearly.csv"))
    again = run(*given, "--no-data")
    assert again.stdout.splitlines()[-1].startswith("7 executions, ")
    assert not list((tmp_path / "site").rglob("yearly.csv"))
    plot = next((tmp_path / "site").rglob("tas_bias_map.png"))
    assert plot.stat().st_size > 0


def test_without_its_extra_the_command_says_what_to_install(demo: Path, tmp_path: Path) -> None:
    for name in ("jinja2", "starlette"):
        (tmp_path / f"{name}.py").write_text(
            "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)"
        )
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    for command in (["serve"], ["report", "-o", tmp_path / "new"]):
        given = [*command, demo / "results", "--catalog", demo / "catalog.db"]
        done = run(*given, env={"PYTHONPATH": path})
        assert done.returncode == 2, done
        assert "pip install 'emdstore[web]'" in done.stderr
