"""Comparing the bytes that arrive with the object's ETag, if that is an MD5."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from emdstore.errors import EmdstoreError
from emdstore.stores.checksums import Proof
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.s3.bucket import Bucket
from emdstore.stores.s3.http import ServerConnection
from emdstore.stores.waiting import heard

_log = logging.getLogger(__name__)


def read_object(bucket: Bucket, key: str) -> tuple[bytes, ArtifactInfo, Mapping[str, str]]:
    """Read an object by one request; return its checked bytes and its info."""
    name = bucket.object_name(key)
    obs, client = bucket.client()
    with bucket.errors.translating("read", key):
        found = obs.get(client, name)
        data: bytes = heard(found.bytes).to_bytes()
    info = bucket.described(key, found.meta)
    proof = ObjectProof(bucket, info)
    proof.update(data)
    proof.finish()
    return data, info, found.attributes


class ObjectProof(Proof):
    """See `Proof`.

    Parameters
    ----------
    bucket
        Where the object is.
    info
        The server's info of the object.
    """

    def __init__(self, bucket: Bucket, info: ArtifactInfo) -> None:
        super().__init__(info, repr(bucket), bucket.part_size)
        self._bucket = bucket

    def _is_something_else(self) -> bool:
        """Tell whether the ETag is not an MD5 after all, or one for parts of another size."""
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
