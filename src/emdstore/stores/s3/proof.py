"""Whether an ETag that looks like an MD5 is one; asked only if the bytes do not match it."""

from __future__ import annotations

import logging

from emdstore.errors import EmdstoreError
from emdstore.stores.checksums import Check
from emdstore.stores.s3.bucket import SignedBucket
from emdstore.stores.s3.http import ServerConnection

_log = logging.getLogger(__name__)


def is_no_checksum(bucket: SignedBucket, key: str, check: Check) -> bool:
    """Tell whether the ETag is not an MD5 after all, or one for parts of another size."""
    name = bucket.object_name(key)
    try:
        with ServerConnection(bucket) as server, bucket.errors.translating("look at", key):
            headers = server.head(name).headers
            if headers.get("x-amz-server-side-encryption", "").startswith("aws:kms"):
                return True
            if "x-amz-server-side-encryption-customer-algorithm" in headers:
                return True
            if not check.part_sizes:
                return False
            first = server.head(name, {"partNumber": "1"}).headers
            return int(first.get("content-length") or 0) not in check.part_sizes
    except (EmdstoreError, ValueError) as error:
        _log.debug("cannot tell what the ETag of %r is: %s", key, error)
        return bool(check.part_sizes)
