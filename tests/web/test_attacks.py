"""The site as scanners, broken scripts and slow clients meet it: a real server in a process of its own."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import httpx
import psutil
import pytest
import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from tests.ensembles import GOOD
from tests.web.conftest import running

import emdstore
from emdstore.web import app, server

MANY = "7" * 4_800


@attrs.frozen
class Served:
    """A site, and what it shows."""

    url: str
    process: psutil.Process
    results: Path
    artifact: str
    """The address of an artifact, and its key."""
    key: str


@pytest.fixture(scope="module")
def served(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    results = tmp_path_factory.mktemp("served") / "results"
    shutil.copytree(demo / "results", results)
    with running("serve", results, "--catalog", demo / "catalog.db", "--port", "0") as (process, url):
        with emdstore.Catalog(demo / "catalog.db") as catalog:
            number = catalog.execution(GOOD).execution_id
        page = httpx.get(f"{url}execution/{number}").text
        found = re.search(r'"(?:\.\./)?(artifacts/[^"?]+?/(plots/[^"?]+))', page)
        assert found is not None
        yield Served(url, psutil.Process(process.pid), results, url + found[1], found[2])


def ask(url: str, path: str, *, within: float = 60, **headers: str) -> tuple[int, bytes]:
    """Ask with the path and the headers as they are, over a connection of its own."""
    split = urlsplit(url)
    lines = {"Host": split.netloc, "Connection": "close", **headers}
    head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    answer = b""
    with socket.create_connection((split.hostname, split.port), timeout=within) as line:
        line.sendall((head + "\r\n").encode("latin-1"))
        while more := line.recv(1 << 16):
            answer += more
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


def dimensions(count: int) -> str:
    return "&".join(f"d.x{number}=1" for number in range(count))


@pytest.mark.parametrize(
    "path",
    [
        f"/execution/{MANY}", f"/execution/{10**22}", "/execution/%D9%A7", "/execution/-1",
        f"/artifacts/{MANY}-ab/map.png", f"/artifacts/{10**22}-ab/map.png",
        f"/?page={MANY}", f"/values?page={10**30}", "/?page=-7", f"/values.csv?page={MANY}",
        f"/compare?e=1&e={MANY}", f"/compare?e={10**25}", "/compare?" + "&".join(f"d=p/{i}" for i in range(400)),
        "/?q=" + "w" * 60_000, "/?q=" + "a+" * 3_000, "/?q=%00", "/?in=..%2F..",
        "/values.csv?" + dimensions(3_000), "/values.csv?" + dimensions(99), "/values?" + dimensions(99),
        "/values?d.nope=1", "/values.csv?d.nope=1", "/values?d.%00=1",
        "/?" + "status=x&" * 2_500, "/?status=nope", "/?" + "&".join(f"provider=p{i}" for i in range(500)),
    ],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_no_address_is_a_fault_of_the_server(served: Served, path: str) -> None:
    before = served.process.cpu_times()
    status, body = ask(served.url, path)
    assert 200 <= status < 500
    assert body
    assert len(body) < 500_000
    assert served.process.cpu_times().user - before.user < 8
    assert ask(served.url, "/")[0] == 200


@pytest.mark.parametrize("host", ["[::1", "127.0.0.1:99999", "127.0.0.1:x", "", "a@b"])
def test_no_host_is_a_fault_of_the_server(served: Served, host: str) -> None:
    assert 400 <= ask(served.url, "/", Host=host)[0] < 500
    assert 400 <= httpx.post(served.url + "execution/1/verify", headers={"Origin": f"http://{host}"}).status_code < 500


def test_a_range_is_the_part_the_whole_or_416(served: Served) -> None:
    path = "/" + served.artifact.removeprefix(served.url)
    whole = (served.results / GOOD / served.key).read_bytes()
    many = "3" * 4_900
    expected = {
        "bytes=16-31": (206, whole[16:32]), "bytes=-10": (206, whole[-10:]), f"bytes={len(whole)}-": (416, None),
        "bytes=9-3": (416, None), "bytes=0x10-0x20": (200, whole), "bytes=1-2-3": (200, whole), "bytes=": (200, whole),
        f"bytes={many}-": (200, whole), f"bytes=0-{many}": (200, whole), f"bytes=-{many}": (200, whole),
        "bytes=\xb2-\xb3": (200, whole), "bytes=0-999999999999999999": (206, whole), "lines=1-2": (200, whole),
    }  # fmt: skip
    for header, (status, body) in expected.items():
        said, got = ask(served.url, path, Range=header)
        assert (said, got if body is not None else None) == (status, body), header


def test_a_pipe_in_an_artifacts_place_keeps_nobody_waiting(served: Served) -> None:
    file = served.results / GOOD / served.key
    path = "/" + served.artifact.removeprefix(served.url)
    aside = file.rename(file.with_name("aside"))
    os.mkfifo(file)
    try:
        answers: list[int] = []
        crowd = [
            threading.Thread(target=lambda: answers.append(ask(served.url, path, Range="bytes=0-15")[0]), daemon=True)
            for _ in range(60)
        ]
        for each in crowd:
            each.start()
        for each in crowd:
            each.join(120)
        assert answers == [404] * 60
        assert ask(served.url, path)[0] == 404
        assert ask(served.url, "/")[0] == 200
    finally:
        file.unlink()
        aside.rename(file)


def test_a_link_that_is_swapped_in_leads_nowhere(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not for the site")
    file = served.results / GOOD / served.key
    path = "/" + served.artifact.removeprefix(served.url)
    aside = file.rename(file.with_name("aside"))
    file.symlink_to(tmp_path / "secret")
    try:
        for headers in ({}, {"Range": "bytes=0-3"}):
            status, body = ask(served.url, path, **headers)
            assert 400 <= status < 500 or status == 503
            assert b"not for the site" not in body
    finally:
        file.unlink()
        aside.rename(file)


def test_cells_that_a_spreadsheet_would_compute_are_text(tmp_path: Path) -> None:
    from tests.catalog.examples import execution_of

    formula = '=HYPERLINK("http://x")'
    with emdstore.Catalog(tmp_path / "c.db") as catalog:
        catalog.replace_execution(
            execution_of("a", scalars=[(-1.5, {"metric": formula, "@name": "-1"}, {"units": "=1"})])
        )
        plain = b"".join(catalog.scalars().export("csv")).decode()
        safe = b"".join(catalog.scalars().export("csv", for_spreadsheets=True)).decode()
    assert '"=HYPERLINK(""http://x"")"' in plain
    assert '"\'=HYPERLINK(""http://x"")"' in safe
    assert '"\'@name"' in safe
    assert '"\'-1"' in safe
    assert ",-1.5," in safe  # a number is one


def test_clients_that_take_their_time_with_values_leave_the_database_to_others(demo: Path) -> None:
    request = Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/values.csv",
            "query_string": b"",
            "headers": [],
            "path_params": {"rows": "values", "format": "csv"},
        }
    )
    with emdstore.Catalog(demo / "catalog.db") as catalog:
        site = app._Site(catalog, app.ResultsReader(emdstore.LocalArtifactStore(demo / "results")), b"secret", {})
        begun = [site.export(request) for _ in range(4)]
        for _ in range(20):
            with pytest.raises(HTTPException) as caught:
                site.export(request)
        assert (caught.value.status_code, caught.value.headers) == (503, {"Retry-After": "10"})
        assert catalog.executions().count() > 0
        begun.clear()  # as if their clients had gone
        assert site.export(request).status_code == 200


@pytest.fixture
def limited(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    """A server in this process, whose limits can be changed; it has room for twenty connections."""
    with emdstore.Catalog(demo / "catalog.db") as catalog:
        site = app.make_app(catalog, emdstore.LocalArtifactStore(demo / "results"))
        running = server.make_server(site, port=0, limit_concurrency=20)
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield running
        running.should_exit = True
        thread.join()


def test_a_client_that_says_nothing_or_takes_nothing_is_left(
    limited: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = limited.servers[0].sockets[0].getsockname()
    url = f"http://127.0.0.1:{where[1]}/"
    monkeypatch.setattr(server, "SECONDS_FOR_A_REQUEST", 600.0)
    lines = [socket.create_connection(where, timeout=60) for _ in range(30)]
    for line in lines:
        line.sendall(b"GET / HT")
    assert ask(url, "/")[0] == 503  # told to come again, and not left waiting
    for line in lines:
        line.close()
    wait_until(lambda: not limited.server_state.connections)
    monkeypatch.setattr(server, "SECONDS_FOR_A_REQUEST", 0.3)
    with socket.create_connection(where, timeout=60) as trickle, suppress(ConnectionError):
        trickle.sendall(b"GET / HTTP/1.1\r\nX: ")
        while not select.select([trickle], [], [], 0.1)[0]:  # the server ends it, however often something comes
            trickle.sendall(b"x")
        assert trickle.recv(100) == b""
    wait_until(lambda: not limited.server_state.connections)
    monkeypatch.setattr(server, "SECONDS_FOR_A_REQUEST", 600.0)
    monkeypatch.setattr(server, "SECONDS_FOR_A_PIECE", 0.3)
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(where)
        asking = f"GET /static/site.js HTTP/1.1\r\nHost: 127.0.0.1:{where[1]}\r\n\r\n".encode()
        before = limited.server_state.total_requests
        greedy.sendall(asking * 400)  # an answer of megabytes
        wait_until(lambda: limited.server_state.total_requests > before)
        wait_until(lambda: not limited.server_state.connections)
        taken = 0
        with suppress(ConnectionResetError):
            while more := greedy.recv(1 << 16):
                taken += len(more)
    assert taken < 3_000_000
    assert ask(url, "/")[0] == 200


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_client_has_seconds_to_say_what_it_wants() -> None:
    assert server.SECONDS_FOR_A_REQUEST >= 5
