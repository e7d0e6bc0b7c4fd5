"""How an S3 server is asked to encrypt what it keeps."""

from __future__ import annotations

import base64
import binascii

from emdstore.errors import StoreURLError

_KEY_BYTES = 32
_OF_THE_SERVER = (None, "AES256", "aws:kms", "aws:kms:dsse")


def check_encryption(encryption: str | None, kms_key_id: str | None, customer_key: str | None) -> None:
    """Refuse what makes no sense, or not together; a key is never shown.

    Raises
    ------
    StoreURLError
        If the server would encrypt otherwise than it reads, or not at all.
    """
    if encryption not in _OF_THE_SERVER:
        raise StoreURLError(f"encryption is AES256, aws:kms or aws:kms:dsse, not {encryption!r}")
    if kms_key_id and not (encryption or "").startswith("aws:kms"):
        raise StoreURLError("kms_key_id needs encryption='aws:kms', or the server would not use that key")
    if customer_key is not None:
        customer_key_of(customer_key)
        if encryption is not None:
            raise StoreURLError("customer_key has the server encrypt with that key: leave out encryption")


def customer_key_of(value: str) -> bytes:
    """Return the key that is given in base64.

    Raises
    ------
    StoreURLError
        If it is none.
    """
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise StoreURLError(
            f"customer_key is not base64: it is a key of {_KEY_BYTES} bytes, as `openssl rand -base64 32` makes one"
        ) from None
    if len(key) != _KEY_BYTES:
        raise StoreURLError(
            f"customer_key holds {len(key)} bytes: it is a key of {_KEY_BYTES} bytes in base64, as "
            "`openssl rand -base64 32` makes one"
        )
    return key
