"""Rendering pages to HTML: one set of templates for the served site and the written report."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emdstore._version import __version__
from emdstore.errors import MissingExtraError
from emdstore.web import text
from emdstore.web.places import Places

EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""The chart library adds an empty style sheet and fills it by script; no other inline style is allowed."""

POLICY = (
    "default-src 'none'; script-src 'self'; img-src 'self' data: blob:; frame-src 'self'; form-action 'self'; "
    f"base-uri 'none'; style-src 'self' {EMPTY_STYLE}"
)
"""The site's own pages may load only the site's files."""

OWN_FILES = {"site.css": "text/css", "site.js": "text/javascript", "icon.svg": "image/svg+xml"}
CHART_LIBRARY = "plotly.min.js"


@cache
def _environment() -> Any:
    try:
        import jinja2
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
        "name": text.name_text,
    }
    environment.globals |= {"count": text.count_text, "version": __version__, "policy": POLICY}
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


def require_extra() -> None:
    """Check that the packages that pages need are installed.

    Raises
    ------
    MissingExtraError
        If the extra ``web`` is not installed.
    """
    _environment()
    chart_library()


def own_file(name: str) -> bytes | None:
    """Return a file that pages load, or None if there is no such file."""
    if name == CHART_LIBRARY:
        return chart_library().read_bytes()
    return (files("emdstore.web") / "static" / name).read_bytes() if name in OWN_FILES else None


def own_file_type(name: str) -> str:
    """Return the media type of a file that pages load."""
    return OWN_FILES.get(name, "text/javascript")


def chart_library() -> Path:
    """Return the path of the chart library in its package, without importing the package.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    found = find_spec("plotly")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(place, "package_data", CHART_LIBRARY)
        if path.is_file():
            return path
    raise MissingExtraError.of("the site", "web")
