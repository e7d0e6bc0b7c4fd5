"""The options of fsspec's file systems, most of which say nothing of an option that they do not know."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import fsspec

from emdstore.errors import StoreURLError, redact_url
from emdstore.stores.fsspec.systems import CHECK, LACKS, PATIENCE, SEND, class_of, schemes_of

_OF_ALL = {"skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths"}
_OURS = {CHECK, LACKS, SEND, *PATIENCE}
_TAKES_ALL = "fsspec.implementations.sftp"  # and hands on what it does not know to Paramiko, which refuses some
_OF_WEB = ("ca_bundle", "headers", "password", "token", "user", "verify")
_KNOWN = ("fsspec.implementations.", "emdstore.stores.fsspec.", "gcsfs.", "adlfs.")
_ARCHIVES = {"libarchive", "tar", "zip"}
_COMPRESSED = {".tgz": "gzip", ".tbz": "bz2", ".tbz2": "bz2", ".txz": "xz"}  # `.tar.gz` and so on fsspec knows
_AZURE = {"account": "account_name", "anonymous": "anon"}
_USER = {"user": "username"}
_GOOGLE = {"credentials": "token"}
_NAMES: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("az", "abfs", "abfss"), _AZURE),
    "ftp": _USER,
    "smb": _USER,
}
"""What emdstore calls an option, and what the file system of a scheme calls it."""


def file_system_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under the names that the file systems of a URL have for them.

    Raises
    ------
    StoreURLError
        For an option that would be ignored or is missing, and for an archive that is not named.
    """
    schemes = schemes_of(url)
    scheme = schemes[0]
    if "::" not in url and scheme in _ARCHIVES and "fo" not in options:
        raise StoreURLError(f"{redact_url(url)!r} does not say which archive: write {scheme}::URL or {scheme}::PATH")
    told = {name: value for name, value in options.items() if name in _OURS}
    first = {name: value for name, value in options.items() if name not in _OURS}
    if "::" in url:
        for each in schemes[1:]:
            told[each] = _renamed(url, each, first.pop(each, {}))
        first |= first.pop(scheme, {})
    if scheme == "tar" and (packed := _COMPRESSED.get(os.path.splitext(url)[1].lower())):
        first.setdefault("compression", packed)
    first = _renamed(url, scheme, first)
    return told | ({scheme: first} if "::" in url else first)


def _renamed(url: str, scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    names = _NAMES.get(scheme, {})
    told = {names.get(name, name): value for name, value in options.items()}
    if scheme in ("gs", "gcs"):
        if told.pop("anonymous", False):
            told["token"] = "anon"
        if isinstance(told.get("token"), os.PathLike):
            told["token"] = os.fspath(told["token"])
    kind = class_of(scheme)
    if kind.__module__ == _TAKES_ALL or not f"{kind.__module__}.".startswith(_KNOWN):
        return told
    parameters = _parameters_of(kind)
    known = {*parameters, *(_web_options() if scheme in ("http", "https") else ())}
    if unknown := sorted(told.keys() - known - _OF_ALL):
        raise StoreURLError(
            f"cannot open {redact_url(url)!r}: fsspec's {scheme}:// would ignore {', '.join(unknown)}; "
            f"it takes {', '.join(sorted(known)) or 'no options'}"
        )
    needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    if scheme == "git" and "fo" not in told:
        needed.add("path")  # or it would be the repository around the current folder
    if "::" not in url and (missing := sorted(needed - told.keys() - _told_by(url, kind))):
        raise StoreURLError(f"cannot open {redact_url(url)!r}: fsspec's {scheme}:// needs {', '.join(missing)}")
    return told


def _told_by(url: str, kind: Any) -> set[str]:
    """Return the names of the options that a URL has in itself."""
    try:
        return set(kind._get_kwargs_from_urls(url))
    except ValueError:  # its words may be a part of a password
        raise StoreURLError(
            f"cannot open {redact_url(url)!r}: its port is no number; in a password, write / as %2F, : as %3A and "
            "@ as %40"
        ) from None


def _web_options() -> list[str]:
    """Return what is handed on with each request."""
    from aiohttp import ClientSession  # which serves these schemes

    return [*_OF_WEB, *list(inspect.signature(ClientSession._request).parameters)[3:]]


def _parameters_of(kind: Any) -> dict[str, inspect.Parameter]:
    """Return what a file system, and what it is made of, can be opened with."""
    return {
        name: parameter
        for each in reversed(kind.__mro__[: kind.__mro__.index(fsspec.AbstractFileSystem)])
        if "__init__" in vars(each)
        for name, parameter in inspect.signature(each.__init__).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
