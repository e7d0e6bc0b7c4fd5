"""The options of `S3ArtifactStore` in the words of s3fs, which would ignore any option that it does not know."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from emdstore.errors import StoreURLError, redact_url
from emdstore.stores.encryption import check_encryption, customer_key_of
from emdstore.stores.fsspec.systems import CHECK, LACKS, PATIENCE, SEND

_RENAMED = {
    "access_key_id": "key",
    "secret_access_key": "secret",
    "session_token": "token",
    "anonymous": "anon",
}
_OURS = {*PATIENCE, CHECK, SEND, LACKS}
_OF_FSSPEC = {"skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths", "batch_size", "profile"}


_WITH_EACH: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "acl": ("ACL", str),
    "storage_class": ("StorageClass", str),
    "encryption": ("ServerSideEncryption", str),
    "kms_key_id": ("SSEKMSKeyId", str),
    "customer_key": ("SSECustomerKey", customer_key_of),
    "tags": ("Tagging", urlencode),
    "metadata": ("Metadata", dict),
}
"""What goes along with requests: the parameter of S3 that it is, and its value."""


def s3fs_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of s3fs that mean the same.

    Raises
    ------
    StoreURLError
        For an option that s3fs has nothing for: s3fs would not refuse it, and do without.
    """
    told = dict(options)
    check_encryption(*(told.get(name) or None for name in ("encryption", "kms_key_id", "customer_key")))
    sent = {_WITH_EACH[name][0]: _WITH_EACH[name][1](told.pop(name)) for name in _WITH_EACH if _is_given(told, name)}
    if "SSECustomerKey" in sent:
        sent["SSECustomerAlgorithm"] = "AES256"
    client = {"region_name": told.pop("region", None), "verify": _verify(told)}
    client = {name: value for name, value in client.items() if value not in (None, True)}
    config: dict[str, Any] = {}
    if _is_given(told, "addressing"):
        config["s3"] = {"addressing_style": told.pop("addressing")}
    if "checksum" in told and told.pop("checksum") not in ("on", "SHA256"):
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    told = {_RENAMED.get(name, name): value for name, value in told.items()}
    for name, more in (("s3_additional_kwargs", sent), ("client_kwargs", client), ("config_kwargs", config)):
        if more:
            told[name] = {**more, **(told.get(name) or {})}
    _refuse_unknown(url, told)
    return told


def _is_given(options: dict[str, Any], name: str) -> bool:
    """Tell whether an option has a value, and drop it if it has none."""
    if options.get(name):
        return True
    options.pop(name, None)
    return False


def _verify(options: dict[str, Any]) -> Any:
    bundle, verify = options.pop("ca_bundle", None), options.pop("verify", None)
    return bundle or verify


def _refuse_unknown(url: str, options: Mapping[str, Any]) -> None:
    try:
        from s3fs import S3FileSystem
    except ImportError:
        return  # the store says which extra it takes

    known = {*inspect.signature(S3FileSystem.__init__).parameters, *_OURS, *_OF_FSSPEC}
    if unknown := sorted(options.keys() - known):
        raise StoreURLError(
            f"cannot open {redact_url(url)!r}: s3fs has no option {unknown[0]!r}, and would ignore it; leave it out, "
            "or use engine='obstore' if it is one of S3ArtifactStore's"
        )
