"""An execution in a notebook: what it is, and its plots."""

from __future__ import annotations

import base64
from html import escape

from emdstore.catalog import ArtifactRow
from emdstore.errors import ArtifactNotFoundError, EmdstoreError
from emdstore.executions.locations import Locations
from emdstore.keys import join_key
from emdstore.shown import html_table
from emdstore.stores.checksums import sha256_of

_MOST_PLOTS = 12
_MOST_BYTES = 8 * 1024 * 1024
_TOLD = (
    "status",
    "state",
    "reason",
    "cause",
    "description",
    "started_at",
    "published_at",
    "scalars",
    "series",
    "outputs",
)


def execution_as_html(locations: Locations, fragment: str) -> str:
    """Return an execution as HTML, with the plots of its published set, as far as they are as recorded."""
    row = locations.catalog.execution(fragment)
    rows = [(name.replace("_", " "), value) for name in _TOLD if (value := getattr(row, name)) not in (None, "", 0)]
    artifacts = list(locations.catalog.artifacts(ids=[row.execution_id], retracted=None))
    plots = [each for each in artifacts if each.role == "plot" and (each.media_type or "").startswith("image/")]
    shown = [_picture(locations, each) for each in plots[:_MOST_PLOTS]]
    more = f"<p>and {len(plots) - _MOST_PLOTS} more plots</p>" if len(plots) > _MOST_PLOTS else ""
    return f"<p><b>{escape(fragment)}</b></p>{html_table((), rows)}{''.join(shown)}{more}"


def _picture(locations: Locations, plot: ArtifactRow) -> str:
    name = escape(plot.key)
    if (plot.size or 0) > _MOST_BYTES:
        return f"<p>{name}: too large to be shown here</p>"
    try:
        data = locations.results.read_bytes(join_key(plot.fragment, plot.key))
    except ArtifactNotFoundError:
        return f"<p>{name}: missing</p>"
    except EmdstoreError as error:
        return f"<p>{name}: {escape(str(error))}</p>"
    if plot.sha256 not in (None, sha256_of(data)):
        return f"<p>{name}: not as recorded</p>"
    source = f"data:{plot.media_type};base64,{base64.b64encode(data).decode()}"
    return f'<figure><img src="{source}" alt="{name}"><figcaption>{name}</figcaption></figure>'
