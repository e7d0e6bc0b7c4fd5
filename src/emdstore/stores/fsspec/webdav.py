"""WebDAV by webdav4: with paths taken literally, and MOVE as the step that puts a file in place.

A folder is never removed, because DELETE would remove what somebody has just put into it.
"""

from __future__ import annotations

import contextlib
import io
import netrc
import ssl
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

import httpx
from webdav4.client import (
    Client,
    HTTPError,
    IsACollectionError,
    IsAResourceError,
    ResourceAlreadyExists,
    ResourceConflict,
    ResourceNotFound,
)
from webdav4.fsspec import UploadFile, WebdavFileSystem, translate_info
from webdav4.urls import join_url_path

from emdstore.stores.fsspec.gateways import NotTheServerError

SCHEMES = {"dav": "http", "webdav": "http", "davs": "https", "webdavs": "https"}
"""The scheme of HTTP for each of WebDAV's."""

_DONE = {"MOVE": (201, 204), "MKCOL": (201,)}
"""What a server answers once it has done it."""


def open_webdav(url: str, options: dict[str, Any]) -> tuple[DavFileSystem, str]:
    """Return the file system on a server, and the path in the URL."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    address, user, password = f"{SCHEMES[scheme]}://{place.rpartition('@')[2]}", None, None
    if "@" in place:
        user, _, password = place.rpartition("@")[0].partition(":")
    more = dict(options)
    timeout = httpx.Timeout(more.pop("timeout"), connect=more.pop("connect_timeout"))
    headers = dict(more.pop("headers", {}))
    if token := more.pop("token", None):
        headers["Authorization"] = f"Bearer {token}"
    user, password = more.pop("user", user and unquote(user)), more.pop("password", password and unquote(password))
    auth = (user, password or "") if user else _netrc(address)
    verify: Any = more.pop("verify", True)
    if bundle := more.pop("ca_bundle", None):
        verify = ssl.create_default_context(cafile=bundle)
    client = _Client(address, auth=auth, headers=headers, timeout=timeout, verify=verify, retry=False, **more)
    return DavFileSystem(address, client=client, skip_instance_cache=True), f"/{path}"


def _netrc(address: str) -> tuple[str, str] | None:
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        found = netrc.netrc().authenticators(urlsplit(address).hostname or "")
        if found is not None:
            return found[0], found[2] or ""
    return None


class _Client(Client):  # type: ignore[misc]
    def join_url(self, path: str, add_trailing_slash: bool = False) -> httpx.URL:
        """Quote a path, which httpx leaves as it is where it looks quoted."""
        whole = join_url_path(self.base_url.path, path) + "/" * add_trailing_slash
        joined: httpx.URL = self.base_url.copy_with(raw_path=quote(whole).encode())
        return joined

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        """Ask, and take no gateway's page for the answer to a change."""
        answer = super().request(method, path, **kwargs)
        if answer.status_code not in _DONE.get(method.upper(), (answer.status_code,)):
            raise NotTheServerError(f"the answer to {method.upper()} has the status {answer.status_code}")
        return answer

    def info(self, path: str) -> dict[str, Any]:
        """Describe what is at a path, and not its contents, which webdav4 would ask for."""
        found = self.propfind(path, headers={"Depth": "0"}).responses[self.join_url(path).path]
        return {"name": found.path_relative_to(self.base_url), **found.properties.as_dict()}


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except ResourceNotFound:
        raise FileNotFoundError(path) from None
    except IsAResourceError:
        raise NotADirectoryError(path) from None
    except (ResourceConflict, IsACollectionError) as error:
        raise FileExistsError(path) from error
    except HTTPError as error:
        if error.status_code == 404:
            raise FileNotFoundError(path) from None
        if error.status_code == 405:  # a folder is there
            raise FileExistsError(path) from error
        raise


class _Download:
    """A file that is being read by one request."""

    def __init__(self, client: Client, path: str) -> None:
        self._stack = contextlib.ExitStack()
        answer = self._stack.enter_context(client.http.stream("GET", client.join_url(path)))
        if answer.status_code != 200:
            self._stack.close()
            raise FileNotFoundError(path) if answer.status_code == 404 else HTTPError(answer)
        self._chunks, self._rest = answer.iter_bytes(), b""

    def read(self, size: int) -> bytes:
        chunk = self._rest or next(self._chunks, b"")
        self._rest = chunk[size:]
        return chunk[:size]

    def close(self) -> None:
        self._stack.close()


class DavFileSystem(WebdavFileSystem):  # type: ignore[misc]
    """See `WebdavFileSystem`; only what the store asks for."""

    protocol = ("dav", "davs", "webdav", "webdavs")
    root_marker = "/"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path

    def invalidate_cache(self, path: str | None = None) -> None:
        """Do nothing: there is no cache."""

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """List a folder."""
        with _translated(path):
            found = self.client.ls(path or "/", detail=True, allow_listing_resource=False)
        return [self._described(each) for each in found]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Describe a file or a folder."""
        with _translated(path):
            return self._described(self.client.info(path))

    def _described(self, item: Any) -> dict[str, Any]:
        said = translate_info(item)
        return {**said, "name": "/" + str(said["name"]).strip("/")}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Return the bytes of a file, which the answer alone does not prove to be one."""
        found = self.info(path)
        if found["type"] != "file":
            raise IsADirectoryError(path)
        with _translated(path):
            answer = self.client.request("GET", path)
        if (tag := answer.headers.get("etag")) and found["etag"] and tag.strip('"') != found["etag"].strip('"'):
            return self.cat_file(path)  # it was replaced in between
        if len(answer.content) != found["size"]:
            raise NotTheServerError(f"{len(answer.content)} bytes came, and not the {found['size']} that are there")
        return bytes(answer.content)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        return UploadFile(self, path=path, mode=mode) if "w" in mode else _Download(self.client, path)

    def upload_fileobj(self, fobj: BinaryIO, rpath: str, *args: Any, **kwargs: Any) -> None:
        """Put a large file into a folder that is there."""
        with _translated(rpath):
            self.client.upload_fileobj(fobj, rpath, overwrite=True)

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        """Put a file into a folder that is there."""
        with _translated(path):
            self.client.upload_fileobj(io.BytesIO(value), path, overwrite=True, size=len(value))

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: bool | None = None, **kwargs: Any) -> None:
        """Rename a file, over another one, in one step."""
        with _translated(path1):
            self.client.move(path1, path2, overwrite=True)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it."""
        try:
            self.client.mkdir(path)
        except ResourceConflict:
            self.makedirs(path.rpartition("/")[0])
            self.makedirs(path)
        except ResourceAlreadyExists:
            if self.info(path)["type"] != "directory":
                raise NotADirectoryError(path) from None
        except HTTPError as error:
            # So some servers answer where another writer makes it just then.
            if error.status_code < 500 or not self.isdir(path):
                raise

    def rm_file(self, path: str) -> None:
        """Remove a file, and look, because any success is an answer to DELETE."""
        with _translated(path):
            self.client.remove(path)
        with contextlib.suppress(FileNotFoundError):
            self.info(path)
            raise NotTheServerError("the server says that it has removed what is still there")

    def rmdir(self, path: str) -> None:
        """Keep a folder: see above."""
        raise NotImplementedError
