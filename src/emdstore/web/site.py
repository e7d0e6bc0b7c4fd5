"""Rendering pages to HTML: one set of templates for the served site and the written report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from emdstore._version import __version__
from emdstore.errors import MissingExtraError
from emdstore.stores.checksums import sha256_of
from emdstore.web import text
from emdstore.web.drawing import draw_cell, draw_chart
from emdstore.web.numbers import formats
from emdstore.web.places import Places
from emdstore.web.taylor import draw_taylor

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'"
)
"""The site's own pages may load only the site's files."""

OWN_FILES = {"site.css": "text/css", "site.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def _environment() -> Any:
    try:
        import jinja2
        import markupsafe
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("the site", "web") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "emdstore.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": text.number_text,
        "size": text.size_text,
        "time": text.time_text,
        "day": text.day_text,
        "short": text.short_text,
        "percent": text.percent_text,
        "name": text.name_text,
    }
    # What these return has all text in it escaped.
    environment.filters["drawn"] = lambda chart: markupsafe.Markup(draw_chart(chart))
    environment.filters["cell"] = lambda cell, href, portrait: markupsafe.Markup(
        draw_cell(cell, href, portrait=portrait)
    )
    environment.filters["taylor"] = lambda *told: markupsafe.Markup(draw_taylor(*told))
    environment.globals |= {
        "count": text.count_text,
        "version": __version__,
        "versions": versions(),
        "policy": POLICY,
        "formats": formats(),
    }
    return environment


def render(template: str, places: Places, **values: Any) -> str:
    """Render a page.

    Parameters
    ----------
    template
        Its name, without ``.html``.
    places
        The links, as seen from the page.
    **values
        The content of the page.

    Raises
    ------
    MissingExtraError
        If the extra ``web`` is not installed.
    """
    text: str = _environment().get_template(f"{template}.html").render(places=places, **values)
    return text


@cache
def versions() -> Mapping[str, str]:
    """Return what tells each of the site's own files from what it was in another version."""
    return {name: sha256_of(own_file(name) or b"")[:12] for name in OWN_FILES}


def require_extra() -> None:
    """Check that the packages that pages need are installed.

    Raises
    ------
    MissingExtraError
        If the extra ``web`` is not installed.
    """
    _environment()


def own_file(name: str) -> bytes | None:
    """Return a file that pages load, or None if there is no such file."""
    return (files("emdstore.web") / "static" / name).read_bytes() if name in OWN_FILES else None


def own_texts() -> dict[str, str]:
    """Return the site's style and script, by ``css`` and ``js``, for pages that need no other file."""
    return {name.partition(".")[2]: (own_file(name) or b"").decode() for name in ("site.css", "site.js")}
