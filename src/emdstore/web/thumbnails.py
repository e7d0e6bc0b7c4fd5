"""Small versions of pictures for pages with many, made on request, if the picture is large enough to be worth it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

from emdstore.catalog import ArtifactRow

WIDTH = 480
"""Of a thumbnail, in pixels."""

_WORTH_IT = 60_000  # bytes: smaller pictures are shown as they are
_LARGEST = 32 * 1024 * 1024
_MOST_PIXELS = 60_000_000
_FORMATS = ("image/png", "image/jpeg", "image/webp")


@cache
def _is_possible() -> bool:
    return find_spec("PIL") is not None


def has_thumbnail(picture: ArtifactRow) -> bool:
    """Tell whether a picture is shown by a smaller one where there are many."""
    size = picture.size or 0
    return picture.media_type in _FORMATS and _WORTH_IT < size <= _LARGEST and _is_possible()


def make_thumbnail(chunks: Iterable[bytes]) -> bytes | None:
    """Return a picture as a small WebP; None if it is no picture, or too large to be opened."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(b"".join(chunks)))
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft("RGB", (WIDTH * 2, WIDTH * 2))  # a JPEG need not be decoded whole
            picture.thumbnail((WIDTH, WIDTH * 2), reducing_gap=2.0)
            small = io.BytesIO()
            picture.convert("RGBA" if picture.mode in ("P", "LA", "RGBA", "PA") else "RGB").save(
                small, "webp", quality=80
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    return small.getvalue()
