"""What a key is.

A key names an artifact in any store: segments joined by ``/``, relative, used exactly as written.
Nothing is normalised, so an artifact has one key only: ``/a``, ``a/``, ``a//b`` and ``a/./b`` are errors, not other
spellings, and the NFC and NFD forms of a name are two keys. The limits are those of common file systems and object
stores: 255 bytes of UTF-8 for a segment, 1,024 for a key.

Python orders `str` by code point, which is the order of the UTF-8 bytes: ``sorted(keys)`` is the store's order.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from emdstore.errors import InvalidKeyError, redact_url

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255

STAGING_PREFIX = ".emdstore-"
"""The prefix of unfinished files, which no listing shows; a segment may not start with it."""

DIGESTS_NAME = STAGING_PREFIX + "digests"
"""A finished file that no listing shows, either: see `emdstore.sets.digests`."""

# Nearly all keys are plain and pass this one match: no control character or backslash, no segment that starts
# with a dot, short enough for every limit. Ranges beyond Latin-1 would take milliseconds to compile.
_NO_LETTER = r"\x00-\x1f\x7f-\x9f\\/"
_SEGMENT = rf"[^.{_NO_LETTER}][^{_NO_LETTER}]*"
_SEGMENTS = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*\Z").match
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL = _CONTROLS.search


def validate_key(key: str) -> str:
    """Check that a key is canonical, before any I/O.

    Parameters
    ----------
    key
        The key as the caller gave it.

    Returns
    -------
    str
        The same key.

    Raises
    ------
    InvalidKeyError
        With the reason. Nothing was read or written.
    """
    if isinstance(key, str) and _is_plain(key):
        return key
    reason = why_invalid(key)
    if reason is not None:
        if not isinstance(key, str):
            raise InvalidKeyError(f"not a valid key: {key!r}: {reason}")
        shown = redact_url(key)
        # A URL that was passed by mistake may contain a secret; any other key is returned as given.
        raise InvalidKeyError(f"not a valid key: {shown!r}: {reason}", key=shown if "://" in key else key)
    return key


def is_valid_key(key: str) -> bool:
    """Tell whether `validate_key` would accept the key."""
    return _is_plain(key) or why_invalid(key) is None


def _is_plain(key: str) -> bool:
    if len(key) > MAX_SEGMENT_BYTES or _SEGMENTS(key) is None:
        return False
    try:
        return key.isascii() or len(key.encode()) <= MAX_SEGMENT_BYTES
    except UnicodeEncodeError:
        return False


def are_plain(folder: str, names: Collection[str]) -> bool:
    """Tell at once, of the names in a folder, whether all are keys of the plain kind, as nearly all are.

    Parameters
    ----------
    folder
        What their keys begin with: ``""``, or a valid key with a ``/`` at its end.
    names
        Segments, without ``/``. If any of them is no key, or a rare one, the answer is False.
    """
    joined = "/".join(names)
    longest = MAX_SEGMENT_BYTES - len(folder)
    return joined.isascii() and folder.isascii() and _SEGMENTS(joined) is not None and max(map(len, names)) <= longest


def validate_prefix(prefix: str) -> str:
    """Check a prefix: ``""`` for everything, otherwise a folder, spelled like a key.

    Raises
    ------
    InvalidKeyError
        With the reason; a trailing ``/`` is one.
    """
    return prefix if prefix == "" else validate_key(prefix)


def join_key(*parts: str) -> str:
    """Join keys and prefixes; empty parts are left out. The result is not validated."""
    return "/".join(part for part in parts if part)


def in_folder(key: str, prefix: str) -> bool:
    """Tell whether the key lies under the prefix: ``run1/x`` lies under ``run1``, ``run10/x`` does not."""
    return prefix == "" or key.startswith(prefix + "/")


def key_below(key: str, folder: str) -> str:
    """Return a key of a folder as the folder's own store names it; ``""`` is the folder of all keys."""
    return key[len(folder) + 1 :] if folder else key


def is_staging(name: str) -> bool:
    """Tell whether a segment is the name of an unfinished file, which no listing shows."""
    return name.startswith(STAGING_PREFIX)


def is_left_behind(name: str) -> bool:
    """Tell whether an old file of this name was left behind by a writer that was killed."""
    return is_staging(name) and name != DIGESTS_NAME


def shown_name(name: str) -> str:
    """Return any name as text that can be shown, written and compared; other characters become ``\\x..``."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def why_invalid(key: object) -> str | None:
    """Return why this is not a valid key, as the end of a sentence; None if it is valid."""
    if not isinstance(key, str):
        return f"a key is text, not {type(key).__name__}"
    if key == "":
        return "it is empty"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it cannot be written as UTF-8"
    if size > MAX_KEY_BYTES:
        return f"it is {size} bytes long, {MAX_KEY_BYTES} are allowed"
    if _CONTROL(key):
        return "it holds a control character"
    if "://" in key:
        return "it is a URL; a key is what comes after the store's own, such as pmp/enso/historical/1/out.log"
    if "\\" in key:
        return "it holds a backslash; segments are separated by '/'"
    for segment in key.split("/"):
        if segment == "":
            return "it has an empty segment (a leading, trailing or double '/')"
        if segment in (".", ".."):
            return f"it has the segment {segment!r}"
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"a segment is longer than {MAX_SEGMENT_BYTES} bytes: {segment[:40]!r}..."
        if is_staging(segment):
            return f"names that start with {STAGING_PREFIX!r} are kept for unfinished files"
    return None
