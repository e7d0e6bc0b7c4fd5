"""Takes the pictures in docs/looking.md, of the demo's ensemble.

From the project's folder: python -m tests.web.screenshots docs/images [FOLDER]

FOLDER gets every page as it looks on screens of three widths, light and dark, and printed.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from tests.groups import find_browser

from emdstore.demo import Ensemble, open_folder, write_ensemble
from emdstore.web.app import make_app


def main(folder: Path, every: Path | None = None) -> None:
    """Write the ensemble, serve it, and take the pictures."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as root, open_folder(root) as workspace:
        write_ensemble(workspace, Ensemble())
        catalog = workspace.catalog
        server = uvicorn.Server(uvicorn.Config(make_app(catalog, workspace.results), port=0, log_config=None))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        home = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

        def id_of(diagnostic: str, model: str) -> int:
            return catalog.execution(f"{diagnostic}/historical_{model}_r1i1p1f1/20250106").execution_id

        def page_of(diagnostic: str, model: str) -> str:
            return f"{home}execution/{id_of(diagnostic, model)}"

        pair = "&".join(f"e={id_of('precipitation', model)}" for model in ("CESM2", "MIROC6"))
        chosen = "diagnostic=surface-temperature&d.metric=rmse&d.season=ANN&d.region=global"
        shots = {
            "overview": (home, "light", 1280, 900, None),
            "diagnostic": (
                f"{home}diagnostic?d=meanstate/surface-temperature&model=CESM2",
                "light",
                1280,
                1000,
                "#scores",
            ),
            "executions": (f"{home}executions", "light", 1280, 640, None),
            "execution": (page_of("surface-temperature", "CESM2"), "light", 1000, 680, None),
            "series": (page_of("gross-primary-production", "CanESM5"), "dark", 1000, 560, "#series"),
            "compare": (f"{home}compare?{pair}", "light", 1000, 620, None),
            "values": (f"{home}values?{chosen}", "light", 1000, 680, None),
            "phone": (page_of("sea-surface-temperature", "MIROC6"), "dark", 390, 700, None),
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
                make_small(folder / f"looking-{name}.png")
                page.close()
            if every is not None:
                take_all(
                    browser, {name: url for name, (url, *_) in shots.items()} | {"changes": f"{home}changes"}, every
                )
            browser.close()
        server.should_exit = True
        thread.join()


def make_small(file: Path) -> None:
    """Write a picture with the 256 colours that it needs most, which takes a third."""
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def take_all(browser: Browser, pages: Mapping[str, str], folder: Path) -> None:
    """Take every page on screens of three widths, light and dark, and printed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, url in pages.items():
        for width, scheme in product((1440, 1024, 390), ("light", "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(url)
            page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
            if width == 1440:
                page.pdf(path=folder / f"{name}-{scheme}.pdf", format="A4")
            page.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
