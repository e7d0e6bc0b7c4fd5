"""Comparing the bytes that arrive with the checksum that an object store keeps."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from typing import Any

from emdstore.stores.checksums import ArrivalCheck, md5_of_etag
from emdstore.stores.port import ArtifactInfo

_log = logging.getLogger(__name__)

_S3 = {"s3", "s3a"}
_GOOGLE = {"gs", "gcs"}
_AZURE = {"abfs", "abfss", "az", "adl"}
CHECKED = _S3 | _GOOGLE | _AZURE
"""The protocols whose servers keep checksums."""

_BYTES = {"md5": 16, "crc32c": 4}


def checksum_of(protocols: set[str], found: Mapping[str, Any]) -> str | None:
    """Return the checksum in a file system's info of a file; see `ArtifactInfo.checksum`."""
    if protocols & _S3:
        etag = found.get("ETag")
        return md5_of_etag(etag) if isinstance(etag, str) else None
    if protocols & _GOOGLE and found.get("contentEncoding") != "gzip":  # is unpacked on the way
        # An object that was composed of others has only a CRC.
        return _of("md5", found.get("md5Hash")) or _of("crc32c", found.get("crc32c"))
    if protocols & _AZURE:
        settings = found.get("content_settings")
        value = settings.get("content_md5") if isinstance(settings, Mapping) else None
        return _of("md5", value if value is not None else getattr(settings, "content_md5", None))
    return None


def _of(kind: str, value: object) -> str | None:
    """Return a checksum that is given as bytes or in base 64."""
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return None
    if not isinstance(value, bytes | bytearray) or len(value) != _BYTES[kind]:
        return None
    return f"{kind}:{value.hex()}"


class FileProof(ArrivalCheck):
    """See `ArrivalCheck`.

    Parameters
    ----------
    fs, path, protocols
        The file system, its path of the file, and the protocols that it speaks.
    info
        Its info of the file.
    store
        The store, for errors.
    """

    def __init__(self, fs: Any, path: str, protocols: set[str], info: ArtifactInfo, store: str) -> None:
        super().__init__(info, store)
        self._fs, self._path, self._is_s3 = fs, path, bool(protocols & _S3)

    def _is_something_else(self) -> bool:
        """Tell whether an ETag is not an MD5 after all, or one for parts of another size."""
        if not self._is_s3:
            return False
        bucket, _, name = self._path.partition("/")
        try:
            said = self._fs.call_s3("head_object", Bucket=bucket, Key=name)
            if str(said.get("ServerSideEncryption", "")).startswith("aws:kms") or said.get("SSECustomerAlgorithm"):
                return True
            if not self._check.part_sizes:
                return False
            first = self._fs.call_s3("head_object", Bucket=bucket, Key=name, PartNumber=1)
            return first.get("ContentLength") not in self._check.part_sizes
        except Exception as error:  # noqa: BLE001 - the damage is what is to be told, whatever this is
            _log.debug("cannot tell what the ETag of %r is: %s", self._info.key, type(error).__name__)
            return bool(self._check.part_sizes)
