"""Reading JSON that contains its version, so that files of a newer emdstore are not taken for damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from emdstore.errors import EmdstoreError

T = TypeVar("T")


class UnreadableError(ValueError):
    """The bytes cannot be decoded; the message says what is wrong, and where."""


def decode_versioned(
    data: bytes,
    decoder: msgspec.json.Decoder[T],
    *,
    version: Callable[[bytes], int],
    newest: int,
    key: str,
    newer: type[EmdstoreError],
) -> T:
    """Decode bytes of this version or an older one.

    Parameters
    ----------
    data, decoder
        The bytes, and their decoder.
    version
        Decodes only the version.
    newest
        The newest version that this emdstore can read.
    key
        What to call the file in errors.
    newer
        The error to raise if the version is a newer one.

    Raises
    ------
    UnreadableError
        If they cannot be decoded.
    """
    try:
        found = version(data)
        if found > newest:
            raise newer(
                f"{key!r} was written by a newer emdstore (version {found}; this one reads up to {newest}): "
                "upgrade emdstore",
                key=key,
            )
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
