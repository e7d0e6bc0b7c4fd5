from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
import uvicorn
from tests.cli.conftest import COMMAND, environment
from tests.ensembles import SMALL
from tests.groups import find_browser
from tests.servers.s3 import S3Server
from tests.web.library import OTHER_TEMPERATURE, RUNS, TEMPERATURE, Library, fill

from emdstore.catalog import Catalog
from emdstore.demo import write_ensemble
from emdstore.stores import LocalArtifactStore, S3ArtifactStore
from emdstore.web.app import make_app
from emdstore.web.places import Places
from emdstore.web.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]

_PATIENCE = 60_000  # milliseconds, on a busy machine


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """Wait longer for answers than the five seconds of httpx, which are too few on a busy machine."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("get", "post"):
            patched.setattr(httpx, name, functools.partial(getattr(httpx, name), timeout=_PATIENCE / 1000))
        yield


@attrs.frozen
class Site:
    """A site that can be visited: served, or written to files."""

    root: str
    library: Library
    filed: bool = False

    def url(self, page: str = "executions", query: str = "") -> str:
        """Return where a page is; by default the list of executions."""
        name = page + ".html" if self.filed else page
        return f"{self.root}{name}" + (f"?{query}" if query else "")

    def values(self, provider: str, diagnostic: str, query: str = "") -> str:
        """Return where the scalars of a diagnostic are."""
        if self.filed:
            return f"{self.root}{Places(filed=True).values_of(provider, diagnostic)}.html" + (
                f"?{query}" if query else ""
            )
        return self.url("values", f"provider={provider}&diagnostic={diagnostic}" + (f"&{query}" if query else ""))

    def diagnostic(self, provider: str, diagnostic: str) -> str:
        """Return where the page of a diagnostic is."""
        return self.root + Places(filed=self.filed).diagnostic(provider, diagnostic)

    def execution(self, ending: str) -> str:
        """Return where the page of an execution is."""
        return self.url(f"execution/{self.library.id_of(ending)}")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """The ensemble in a local store; not to be changed."""
    root = tmp_path_factory.mktemp("library")
    with Catalog(root / "catalog.db") as catalog:
        yield fill(root, LocalArtifactStore(root / "results"), catalog)


@pytest.fixture(scope="session")
def s3_library(tmp_path_factory: pytest.TempPathFactory, moto_server: S3Server) -> Iterator[Library]:
    """Some of the ensemble on S3."""
    root = tmp_path_factory.mktemp("library-s3")
    results = S3ArtifactStore(f"s3://{moto_server.make_bucket()}/results", **moto_server.options)
    some = [run for run in RUNS if run.fragment in (TEMPERATURE, OTHER_TEMPERATURE)]
    with Catalog(root / "catalog.db") as catalog:
        yield fill(root, results, catalog, some)


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[..., str]]:
    """Serves applications, each on a port of its own, and returns their addresses."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def serve(app: Any) -> str:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

    yield serve
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def sites(
    request: pytest.FixtureRequest, served: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Site]:
    """Returns a site of each kind, and makes it the first time."""
    made: dict[str, Site] = {}

    def make(kind: str) -> Site:
        library = request.getfixturevalue("s3_library" if kind == "s3" else "library")
        if kind != "report":
            return Site(served(make_app(library.catalog, library.results)), library)
        folder = tmp_path_factory.mktemp("report") / "site"
        assert write_report(folder, library.catalog, library.results).ok
        return Site(f"{folder.as_uri()}/", library, filed=True)

    def site(kind: str) -> Site:
        if kind not in made:
            made[kind] = make(kind)
        return made[kind]

    return site


@pytest.fixture(params=["local", "report"])
def site(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Site:
    """The site over a local store, and as files."""
    return sites(request.param)


@pytest.fixture(params=["local", "s3", "report"])
def any_site(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Site:
    """The site over a local store, over S3, and as files."""
    return sites(request.param)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages, in a browser that is cut off the network where they are files.

    A script's error, a refused resource, or a request to anywhere else fails the test.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_page(url: str, *, tolerant: bool = False, **options: Any) -> Page:
        context = browser.new_context(offline=url.startswith("file:"), **options)
        context.set_default_timeout(_PATIENCE)
        contexts.append(context)
        page = context.new_page()
        home = re.split("/(?:execution|values|overview|diagnostic(?=/))/", url)[0].rsplit("/", 1)[0]

        def saw_request(asked: str) -> None:
            if not asked.startswith((home, "data:", "blob:", "about:")):
                wrong.append(f"asked for {asked}")

        page.on("request", lambda request: saw_request(request.url))
        if not tolerant:
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: _noted(message.type, message.text, wrong))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def _noted(kind: str, text: str, wrong: list[str]) -> None:
    if kind in ("error", "warning"):
        wrong.append(text)


def decoded(page: Page, selector: str = ".plot img") -> list[int]:
    """Return the natural widths of all pictures, when all were loaded."""
    return page.evaluate(
        """async (selector) => Promise.all([...document.querySelectorAll(selector)].map(async (image) => {
             image.loading = "eager"; try { await image.decode() } catch { } return image.naturalWidth }))""",
        selector,
    )


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scratch, results and catalog of a small ensemble; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    write_ensemble(folder, SMALL)
    return folder


@contextmanager
def running(
    *arguments: object, env: dict[str, str] | None = None, probe: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command, or code that does so, and give the process and the first line that it prints."""
    with subprocess.Popen(
        [*([sys.executable, "-c", probe] if probe else COMMAND), *map(str, arguments)],
        env=environment(**env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()
