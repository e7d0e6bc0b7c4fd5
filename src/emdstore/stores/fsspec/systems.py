"""What emdstore must know about fsspec's file systems: how to open them, what they can do, what their errors mean."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import pickle
import re
import ssl
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import fsspec
from fsspec.asyn import sync
from fsspec.implementations.memory import MemoryFileSystem

from emdstore.errors import DamagedOnTheWayError, StoreAccessError, StoreError, StoreUnavailableError, StoreURLError
from emdstore.keys import MAX_KEY_BYTES
from emdstore.per_process import PerProcess
from emdstore.stores.answers import Meaning, meaning_of_answer
from emdstore.stores.fsspec.archives import usable
from emdstore.stores.fsspec.gateways import checking_session
from emdstore.stores.port import ArtifactInfo

WEBDAV = ("dav", "davs", "webdav", "webdavs")

_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "ocilake", "cos", "swift"}
_SECRET_OPTION = re.compile(r"key|secret|token|pass|credential|sas|connection_string", re.IGNORECASE).search

_LOST_IN_MOVES = re.compile("[?;]").search

Mechanics = Literal["memory", "whole", "rename", "read"]
"""How a file system can be written to: see `emdstore.stores.fsspec`."""

CHECK = "check_etag"
"""The option that says whether an object store's checksums are trusted."""

SEND = "send_credentials"
"""The option that says whether a pickle of the store keeps credentials."""

LACKS = "lacks"
"""The option that tells a pickled copy which credentials were left behind."""

PATIENCE = {"timeout": 20.0, "connect_timeout": 5.0, "retries": 5}
"""The options that every store has, with their defaults. botocore tries six times in a minute."""

# Opening one takes, for example, a third of a second for botocore's models, which a worker should not spend on every
# store that it receives. fsspec's own cache is not used because others may have opened its instances with listing
# caches on.
_file_systems: PerProcess[dict[tuple[object, ...], Any]] = PerProcess(dict)
_MOST_KEPT = 16  # some hold megabytes
_OF_ONE_THREAD = {"fsspec.implementations.sftp", "emdstore.stores.fsspec.ftp"}

# pytest changes it with every test.
_NO_CONFIGURATION = {"PYTEST_CURRENT_TEST"}


def open_file_system(url: str, given: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a file system of this process, shared by stores of the same options, and the path that the URL names."""
    if "::" in url:  # a chain's file system depends on the paths in it
        patience = {name: value for name, value in given.items() if name in PATIENCE}
        chained = {each: _with_patience(each, {**given.get(each, {}), **patience}) for each in schemes_of(url)}
        fs, root = fsspec.core.url_to_fs(url, **chained, skip_instance_cache=True)
        return usable(_uncached(fs)), str(root)
    scheme = url.partition("://")[0]
    options = _with_patience(scheme, given)
    if scheme in WEBDAV:
        from emdstore.stores.fsspec.webdav import open_webdav  # whose library is an extra

        return open_webdav(url, options)
    # The environment, because credentials may come from it.
    opened = _file_systems.get()
    environment = frozenset(each for each in os.environ.items() if each[0] not in _NO_CONFIGURATION)
    kind = class_of(scheme)
    named = kind._get_kwargs_from_urls(url)  # a host, a repository, an account
    key: tuple[object, ...] = scheme, pickle.dumps([sorted(given.items()), sorted(named.items())]), environment
    if kind.__module__ in _OF_ONE_THREAD:
        key = (*key, threading.get_ident())
    fs = opened.get(key)
    if fs is None:
        fs = kind(**named | options | {"skip_instance_cache": True})
        if is_s3(fs):
            fs.retries = 1  # s3fs retries what botocore has retried
        fs = opened.setdefault(key, _uncached(fs))
        for oldest in list(opened)[:-_MOST_KEPT]:
            opened.pop(oldest, None)  # the stores that use it keep it alive
    return fs, str(fs._strip_protocol(url))


def class_of(scheme: str) -> Any:
    """Return the class of the file system that serves a scheme."""
    if scheme != "ftp":
        return fsspec.get_filesystem_class(scheme)
    from emdstore.stores.fsspec.ftp import FTP  # which is rarely needed

    return FTP


def is_of_one_thread(fs: Any) -> bool:
    """Tell whether a file system has one connection that two threads cannot use at once, as Paramiko's."""
    return type(fs).__module__ in _OF_ONE_THREAD


def _known_hosts() -> Any:
    """Return a policy by which Paramiko accepts the host keys that the user's OpenSSH knows, and no others."""
    import paramiko
    from fsspec.implementations import sftp

    if not hasattr(sftp, "HOST_KEY_POLICIES"):
        raise StoreURLError("this fsspec accepts any host key: upgrade it, or leave out engine='fsspec'")

    class Known(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            file = Path.home() / ".ssh" / "known_hosts"
            known = paramiko.HostKeys(str(file)) if file.exists() else paramiko.HostKeys()
            if not known.check(hostname, key):
                raise PermissionError(f"the host key of {hostname} is not the one in ~/.ssh/known_hosts")

    return Known()


def _uncached(fs: Any) -> Any:
    """Return a file system that keeps no listings; an option for that is refused by some of them."""
    cache: Any = getattr(fs, "dircache", None)
    if hasattr(cache, "use_listings_cache"):
        cache.use_listings_cache = False
        cache.clear()
    return fs


def schemes_of(url: str) -> list[str]:
    """Return the scheme of a URL, or those of a chain, which may end with a path."""
    parts = url.split("::")
    return [part.partition("://")[0] for part in parts if "://" in part or part is not parts[-1]]


def _with_patience(scheme: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with `timeout`, `connect_timeout` and `retries` under the file system's names."""
    options = {name: value for name, value in given.items() if name not in PATIENCE and name not in (CHECK, SEND)}
    timeout, connect_timeout, retries = (given.get(name, default) for name, default in PATIENCE.items())
    match scheme:
        case "s3" | "s3a":
            options.setdefault("session", checking_session(options.get("profile")))
            retried = {"mode": "standard", "total_max_attempts": retries + 1}
            waits = {"read_timeout": timeout, "connect_timeout": connect_timeout, "retries": retried}
            options["config_kwargs"] = waits | dict(options.get("config_kwargs") or {})
        case "http" | "https":
            import aiohttp  # those that serve these schemes

            patience = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=timeout)
            # Proxies come from the environment, and passwords from the user's .netrc.
            client: dict[str, Any] = {"timeout": patience, "trust_env": True}
            headers = dict(options.pop("headers", None) or {})
            if token := options.pop("token", None):
                headers["Authorization"] = f"Bearer {token}"
            if user := options.pop("user", None):
                told = f"{user}:{options.pop('password', '')}".encode()
                headers["Authorization"] = f"Basic {base64.b64encode(told).decode()}"
            if headers:
                client["headers"] = headers
            bundle, verify = options.pop("ca_bundle", None), options.pop("verify", True)
            if bundle is not None or not verify:
                options["ssl"] = ssl.create_default_context(cafile=bundle) if verify else False
            options["client_kwargs"] = client | dict(options.get("client_kwargs") or {})
        case "sftp" | "ssh":
            if fsspec.get_filesystem_class(scheme).__module__.startswith("sshfs"):
                # Both clients would accept any host key.
                waits = {"connect_timeout": connect_timeout, "login_timeout": timeout, "known_hosts": ()}
            else:
                waits = {"timeout": connect_timeout, "banner_timeout": timeout, "auth_timeout": timeout}
                waits["host_key_policy"] = _known_hosts()
            options = waits | options
        case each if each in WEBDAV:
            options = {"timeout": timeout, "connect_timeout": connect_timeout} | options
        case "ftp":
            options = {"timeout": timeout} | options
        case "gs" | "gcs":
            import aiohttp

            patience = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=timeout)
            options = {"requests_timeout": patience} | options
        case "az" | "abfs" | "abfss":
            options = {"connection_timeout": connect_timeout, "read_timeout": timeout} | options
    return options


def is_web(fs: Any) -> bool:
    """Tell whether a file system is a web server."""
    return bool(protocols(fs) & {"http", "https"})


def is_s3(fs: Any) -> bool:
    """Tell whether s3fs serves a file system."""
    return bool(protocols(fs) & {"s3", "s3a"})


def get_object(fs: Any, path: str) -> tuple[Mapping[str, Any], bytes]:
    """Read a whole S3 object by one request; return the info that comes with the bytes, and the bytes."""
    bucket, name, _ = fs.split_path(path)

    async def ask() -> tuple[Mapping[str, Any], bytes]:
        said = await fs._call_s3("get_object", Bucket=bucket, Key=name)
        try:
            return said, await said["Body"].read()
        finally:
            said["Body"].close()

    found: Any = sync(fs.loop, ask)
    said, data = found
    return said, data


def why_not_a_path(fs: Any, path: str, mechanics: Mechanics) -> str | None:
    """Return why this path cannot be that of a key, or None."""
    if fs._strip_protocol(path) != path:
        return "it would be read as another name"
    if protocols(fs) & set(WEBDAV) and (lost := _LOST_IN_MOVES(path)):
        return f"some WebDAV servers lose what follows {lost[0]!r} when a file is renamed"
    if mechanics != "whole":
        return None
    if "?versionId=" in path:  # s3fs takes what follows as a version, even if versions were not asked for
        return "what follows '?versionId=' would be lost"
    if len(path.partition("/")[2].encode()) > MAX_KEY_BYTES:
        return f"with the store's prefix it is longer than {MAX_KEY_BYTES} bytes"
    return None


def protocols(of: Any) -> set[str]:
    """Return the protocols that a file system speaks, or the one of a URL."""
    if isinstance(of, str):
        return {of.partition("://")[0]}
    return {of.protocol} if isinstance(of.protocol, str) else set(of.protocol)


def mechanics_of(fs: Any) -> Mechanics:
    """Return how the file system can be written to."""
    if isinstance(fs, MemoryFileSystem):
        return "memory"
    if protocols(fs) & _OBJECT_STORES:
        return "whole"
    # A file system without its own rename inherits one from fsspec that copies and removes.
    renames = type(fs).mv is not fsspec.AbstractFileSystem.mv or hasattr(type(fs), "_mv")
    return "rename" if renames else "read"


def secret_options(options: object, named: bool = False) -> list[str]:
    """Return the values in storage options whose names say that they are secrets."""
    if isinstance(options, Mapping):
        return [s for name, value in options.items() for s in secret_options(value, bool(_SECRET_OPTION(str(name))))]
    return [options] if named and isinstance(options, str) else []


def describe(key: str, found: Mapping[str, Any], checksum: str | None) -> ArtifactInfo:
    """Return an artifact's info, without checksum, from the file system's info of a file."""
    version = next((str(found[name]) for name in ("ETag", "etag", "generation") if found.get(name)), None)
    size = int(found["size"])
    if size < 0:
        raise ValueError(f"a file of {size} bytes")
    return ArtifactInfo(key, size, _modified(found), version, checksum)


def _modified(found: Mapping[str, Any]) -> float:
    names = ("LastModified", "last_modified", "mtime", "modified", "updated", "time", "created")
    when = next((found[name] for name in names if found.get(name) is not None), None)
    if isinstance(when, str):
        with contextlib.suppress(ValueError):
            when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        return when.timestamp()
    return float(when) if isinstance(when, int | float) else float("nan")


# -- errors ------------------------------------------------------------------------------------------------------------

_PASSING = {errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ESTALE, errno.EPIPE}
_PASSING |= {getattr(errno, "EREMOTEIO", errno.EPIPE)}  # s3fs's number for an internal error; not on every system
_PASSING_TEXT = re.compile(
    "reduce your request rate|Could not connect|Connection was closed|Connection reset|not a multistatus response"
).search
_PASSING_MODULES = ("aiohttp", "httpx", "httpcore", "urllib3", "botocore.httpsession", "fsspec.exceptions")
_PASSING_NAMES = re.compile(r"Timeout|Connection|HTTPClient|ResponseParser|ServiceRe|IncompleteRead").search


def hidden_cause(error: FileNotFoundError) -> Exception | None:
    """Return why a web server did not answer, where fsspec says that there is no such file; None if there is none."""
    cause = error.__cause__
    if not isinstance(cause, Exception) or getattr(cause, "status", None) in (404, 410):
        return None
    is_of_client = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError | ConnectionError)
    return cause if is_of_client else None


def code_of(error: Exception) -> str:
    """Return S3's error code, which s3fs leaves in the cause of its error."""
    answer = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, Mapping) else ""


def meaning(error: Exception) -> Meaning:
    """Return the emdstore error for an error of the file system, and what to do about it."""
    name, module = type(error).__name__, type(error).__module__
    if name == "FlexibleChecksumError":  # from botocore, which compares the server's other checksums
        return Meaning(DamagedOnTheWayError, "the bytes were damaged on the way; try again")
    code = code_of(error)
    status = getattr(error, "status_code", getattr(error, "status", None))  # of HTTP
    if status in (401, 403):
        return Meaning(StoreAccessError, "check the credentials and permissions")
    if isinstance(status, int) and status > 403 and (found := meaning_of_answer(status, None, "")) is not None:
        return found
    if code:
        said = f"{error} {error.__cause__}"
        if (found := meaning_of_answer(int(code) if code.isdigit() else None, code, said)) is not None:
            return found
    is_refused = "Credentials" in name or "HostKey" in name or str(error).startswith("530 ")  # the last is FTP's
    if isinstance(error, PermissionError) or is_refused:
        return Meaning(StoreAccessError, "check the credentials and permissions")
    if isinstance(error, FileNotFoundError):
        return Meaning(StoreUnavailableError, "its folder was removed meanwhile; try again")
    if (
        isinstance(error, ConnectionError | TimeoutError)
        or (isinstance(error, OSError) and error.errno in _PASSING)
        or module.startswith(_PASSING_MODULES)
        or _PASSING_NAMES(name)
        or isinstance(error, EOFError)  # a server of FTP that has gone
        or name == "error_temp"  # one that is busy
        or _PASSING_TEXT(str(error))
    ):
        return Meaning(StoreUnavailableError, "check the address and the network, or try again later")
    if isinstance(error, NotImplementedError):
        return Meaning(StoreError, "its file system cannot do that")
    return Meaning(StoreError, "nothing was changed", error.errno if isinstance(error, OSError) and not code else None)
