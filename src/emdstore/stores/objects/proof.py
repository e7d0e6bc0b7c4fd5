"""Reading objects whole, and comparing the bytes that arrive with the checksum that came along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from emdstore.stores.checksums import ArrivalCheck, has_digest, is_proved, sha256_of
from emdstore.stores.objects.bucket import SHA256, Bucket, in_quotes
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.waiting import heard

_SMALL = 1024 * 1024
"""Up to this size the bytes are kept until they are proved, so that two requests need not be made."""


@attrs.frozen
class Whole:
    """A whole object.

    Attributes
    ----------
    data
        Its checked bytes.
    attributes
        What was uploaded with it.
    """

    data: bytes
    attributes: Mapping[str, str]
    _found: Any = attrs.field(repr=False)

    @property
    def version(self) -> dict[str, str]:
        """What the engine must be given to replace just this version."""
        meta = self._found.meta
        said = {"e_tag": in_quotes(meta["e_tag"]), "version": meta["version"]}
        return {name: value for name, value in said.items() if value}


def read_object(bucket: Bucket, key: str) -> Whole:
    """Read an object by one request, with what came along."""
    data, found = _read(bucket, key)
    return Whole(data, found.attributes, found)


def read_checked(bucket: Bucket, key: str) -> bytes:
    """Read an object by one request, and return its checked bytes."""
    return _read(bucket, key)[0]


def _read(bucket: Bucket, key: str) -> tuple[bytes, Any]:
    """Return an object's checked bytes and the engine's answer. Of a transfer this is the innermost loop."""
    name = bucket.object_name(key)
    obs, client = bucket.client()
    with bucket.errors.translating("read", key):
        found = obs.get(client, name)
        data: bytes = heard(found.bytes).to_bytes()
    attributes = found.attributes
    uploaded = attributes.get(SHA256)
    # The SHA-256 that came along proves as much as the server's checksum, and whoever asks for it next has it.
    if not uploaded or len(data) > _SMALL or not has_digest(data, str(uploaded)):
        meta = found.meta
        if not is_proved(data, meta["size"], bucket.checksum_of(meta)):
            proof = ObjectProof(bucket, bucket.described(key, meta), attributes)
            proof.update(data)
            proof.finish()
    return data, found


class ObjectProof(ArrivalCheck):
    """See `ArrivalCheck`.

    Parameters
    ----------
    bucket
        Where the object is.
    info
        The server's info of the object.
    attributes
        What was uploaded with it. The SHA-256 among them counts if the server has no checksum of its own, or if what
        looks like one does not fit, because it is none: that of an encrypted object, say.
    """

    def __init__(self, bucket: Bucket, info: ArtifactInfo, attributes: Mapping[str, Any]) -> None:
        self._uploaded = attributes.get(SHA256)
        if info.checksum is None and self._uploaded:
            info = attrs.evolve(info, checksum=f"sha256:{self._uploaded}")
        super().__init__(info, repr(bucket), bucket.part_size_for(info.key, info.size))
        self._bucket = bucket
        self._kept: list[bytes] | None = [] if self._uploaded and info.size <= _SMALL and not self.is_empty else None

    def update(self, data: bytes) -> None:
        """See `ArrivalCheck.update`."""
        super().update(data)
        if self._kept is not None:
            self._kept.append(data)

    def _is_something_else(self) -> bool:
        if str(self._check.checksum).startswith(SHA256):
            return False
        if self._kept is not None and sha256_of(b"".join(self._kept)) == self._uploaded:
            return True
        return self._bucket.is_no_checksum(self._info.key, self._check)
