"""Takes the pictures in docs/looking.md.

From the project's folder: python -m tests.web.screenshots SAMPLES docs/images
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright
from tests.groups import find_browser
from tests.web.library import fill

from emdstore.catalog import Catalog
from emdstore.stores import LocalArtifactStore
from emdstore.web.app import make_app


def main(samples: Path, folder: Path) -> None:
    """Fill a library, serve it, and take the pictures."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as root, Catalog(Path(root, "catalog.db")) as catalog:
        library = fill(samples, Path(root), LocalArtifactStore(Path(root, "results")), catalog, hostile=False)
        server = uvicorn.Server(uvicorn.Config(make_app(catalog, library.results), port=0, log_config=None))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        home = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

        def page_of(ending: str) -> str:
            return f"{home}execution/{library.id_of(ending)}"

        pair = [library.id_of(ending) for ending in ("nbp-hoffman/cmip6_ACCESS/2", "nbp-hoffman/cmip6_CanESM5/7")]
        shots = {
            "executions": (home, "light", 1000, 640, None),
            "execution": (page_of("csoil-hwsd2/cmip6_ACCESS/4"), "light", 1000, 680, None),
            "series": (page_of("regional-historical-timeseries/cmip6_CanESM5/3"), "dark", 1000, 560, "#series"),
            "compare": (f"{home}compare?e={pair[0]}&e={pair[1]}", "light", 1000, 620, ".differences"),
            "values": (f"{home}values?diagnostic=annual-cycle&d.statistic=rms_xy", "light", 1000, 680, None),
            "phone": (page_of("sea-ice-sensitivity/cmip6_ACCESS/1"), "dark", 390, 700, None),
        }
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
            for name, (url, scheme, width, height, part) in shots.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(url)
                if part is not None:
                    page.locator(part).scroll_into_view_if_needed()
                    page.evaluate("(part) => document.querySelector(part).scrollIntoView()", part)
                page.wait_for_timeout(1500)
                page.screenshot(path=folder / f"looking-{name}.png")
                page.close()
            browser.close()
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
