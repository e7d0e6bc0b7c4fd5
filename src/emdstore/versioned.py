"""Reading JSON that contains its version, so that files of a newer emdstore are not taken for damaged ones."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from emdstore.errors import EmdstoreError

T = TypeVar("T")


class UnreadableError(ValueError):
    """The bytes cannot be decoded; the message says what is wrong, and where."""


class VersionedDecoder(Generic[T]):
    """Decodes values of this version or an older one.

    Parameters
    ----------
    kind
        What to decode.
    field
        The name of its version.
    newest
        The newest version that this emdstore can read.
    newer
        The error to raise if the version is a newer one.
    """

    def __init__(self, kind: type[T], field: str, newest: int, newer: type[EmdstoreError]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._head = msgspec.json.Decoder(msgspec.defstruct("Head", [(field, int)]))
        self._field, self._newest, self._newer = field, newest, newer

    def decode(self, data: bytes, *, key: str) -> T:
        """Decode bytes, which errors call `key`.

        Raises
        ------
        UnreadableError
            If they cannot be decoded.
        """
        try:
            found: int = getattr(self._head.decode(data), self._field)
            if found > self._newest:
                raise self._newer(
                    f"{key!r} was written by a newer emdstore (version {found}; this one reads up to {self._newest}): "
                    "upgrade emdstore",
                    key=key,
                )
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableError(str(error)) from None
