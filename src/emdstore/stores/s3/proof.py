"""Whether the bytes that arrived are those of the object: by its ETag, where that is an MD5."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from emdstore.errors import DamagedOnTheWayError, EmdstoreError
from emdstore.stores.checksums import Check
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.s3.bucket import Bucket
from emdstore.stores.s3.http import ServerConnection
from emdstore.stores.waiting import heard

_log = logging.getLogger(__name__)


def read_object(bucket: Bucket, key: str) -> tuple[bytes, ArtifactInfo, Mapping[str, str]]:
    """Read an object by one request; return its bytes, proved, and what the server says of it besides."""
    name = bucket.object_name(key)
    obs, client = bucket.client()
    with bucket.errors.translating("read", key):
        found = obs.get(client, name)
        data: bytes = heard(found.bytes).to_bytes()
    info = bucket.described(key, found.meta)
    proof = Proof(bucket, info)
    proof.update(data)
    proof.finish()
    return data, info, found.attributes


class Proof:
    """Takes an object's bytes as they come, and raises at the end if they are not the object's.

    Parameters
    ----------
    bucket
        Where the object is.
    info
        What the server said of it.
    """

    def __init__(self, bucket: Bucket, info: ArtifactInfo) -> None:
        self._bucket, self._info = bucket, info
        self._check = Check(info.checksum, info.size, bucket.part_size)

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._check.update(data)

    def finish(self) -> None:
        """Raise `DamagedOnTheWayError` if the bytes are not the object's, as far as its ETag tells."""
        if self._check.fits() is not False or self._is_something_else():
            return
        key, bucket = self._info.key, self._bucket
        raise DamagedOnTheWayError(
            f"{key!r} in {bucket!r} was damaged on the way: the server has {self._check.checksum}, and what arrived is "
            f"{self._check.found}; try again (and open the store with check_etag=False if its ETags are no checksums)",
            key=key,
            store=repr(bucket),
        )

    def _is_something_else(self) -> bool:
        """Tell whether the ETag is no MD5 after all, or of parts of another size; asked only when it does not fit."""
        name = self._bucket.object_name(self._info.key)
        try:
            with ServerConnection(self._bucket) as server, self._bucket.errors.translating("look at", self._info.key):
                headers = server.head(name).headers
                if headers.get("x-amz-server-side-encryption", "").startswith("aws:kms"):
                    return True
                if "x-amz-server-side-encryption-customer-algorithm" in headers:
                    return True
                if not self._check.part_sizes:
                    return False
                first = server.head(name, {"partNumber": "1"}).headers
                return int(first.get("content-length") or 0) not in self._check.part_sizes
        except (EmdstoreError, ValueError) as error:
            _log.debug("cannot tell what the ETag of %r is: %s", self._info.key, error)
            return bool(self._check.part_sizes)
