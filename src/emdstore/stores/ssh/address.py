"""What a URL such as ``ssh://user@host:22/data/results`` means."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

import attrs

from emdstore.errors import StoreURLError, redact_url

# OpenSSH refuses these by itself where it is new enough; an older one hands them to shells (ProxyCommand).
_NO_NAME = re.compile(r"[\s\x00-\x1f\x7f'\"`$&|;<>(){}\\/]").search
_AUTHORITY = re.compile(
    r"(?:(?P<user>.*)@)?(?P<host>\[[0-9A-Fa-f:.]+(?:%25?[\w.-]+)?\]|[^\[\]:@]*)(?::(?P<port>\d*))?\Z"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search


@attrs.frozen
class Address:
    """A folder of a machine that is reached by SSH.

    Attributes
    ----------
    scheme
        ``ssh`` or ``sftp``.
    host
        A name, an alias of ``~/.ssh/config`` or an IP address, without brackets.
    root
        The folder: an absolute path, or one relative to the home of the user over there (``"."`` is the home itself).
    user, port
        None where the SSH client is to decide.
    """

    scheme: Literal["ssh", "sftp"]
    host: str
    root: str
    user: str | None = None
    port: int | None = None

    @property
    def destination(self) -> str:
        """The machine and the user, as the SSH client takes them."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def url(self) -> str:
        """The address as a URL; it holds no secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else quote(self.user, safe="@") + "@"
        port = "" if self.port is None else f":{self.port}"
        path = "/~" if self.root == "." else "/~/" + self.root if self.root[0] != "/" else self.root
        for sign in "%?#":
            path = path.replace(sign, quote(sign))
        return f"{self.scheme}://{user}{host}{port}{path}"


def parse_address(url: str) -> Address:
    """Read the URL of a folder that is reached by SSH.

    It is ``ssh://[user@]host[:port]/path`` or ``sftp://...``; ``/~`` and ``/~/path`` start at the user's home. Escapes
    such as ``%20`` are decoded, as in any URL, so that a percent sign is ``%25``. Blanks and other characters may be
    written as they are, but for ``?`` and ``#``, which are ``%3F`` and ``%23``: what follows them may be a secret that
    belongs to another kind of URL.

    Raises
    ------
    StoreURLError
        If it is none; if it holds a password, since SSH asks for it or has a key; if the host or the user could be
        taken for an option of the SSH client.
    """

    def refused(why: str) -> StoreURLError:
        return StoreURLError(f"not an SSH URL: {redact_url(url)!r}: {why}")

    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("ssh", "sftp"):
        raise refused("write ssh://user@host/path or sftp://user@host/path")
    authority, slash, path = rest.partition("/")
    found = _AUTHORITY.match(authority)
    if found is None:
        raise refused("write ssh://user@host:port/path; an IPv6 address stands in brackets")
    user, host, port = found["user"], found["host"], found["port"]
    if user is not None and ":" in user:
        raise refused("it holds a password: use a key or an agent, as `ssh` does, and write ssh://user@host/path")
    if _BAD_ESCAPE(url):
        raise refused("a percent sign that is meant as such is written %25")
    if "?" in rest or "#" in rest:
        raise refused("it has no parameters; a '?' or '#' in a path is written %3F or %23")
    if not slash:
        raise refused("it names no folder: write ssh://host/path, or ssh://host/~ for your home there")
    user = _decoded(user, refused) if user is not None else None
    host = host[1:-1].replace("%25", "%") if host.startswith("[") else _decoded(host, refused)
    for what, name in (("user", user), ("host", host)):
        if name is None:
            continue
        if not name:
            raise refused(f"the {what} is missing")
        if name.startswith("-"):
            raise refused(f"the {what} {name!r} could be taken for an option of ssh")
        if _NO_NAME(name):
            raise refused(f"the {what} holds a character that no {what} has")
    if port and not 0 < int(port) < 65536:
        raise refused(f"there is no port {port}")
    root = _root(_decoded(path, refused), refused)
    return Address("ssh" if scheme == "ssh" else "sftp", host, root, user, int(port) if port else None)


def _decoded(text: str, refused: Callable[[str], StoreURLError]) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise refused("its escapes are no UTF-8") from None


def _root(path: str, refused: Callable[[str], StoreURLError]) -> str:
    """Return the folder for what comes after the host and its slash."""
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if "\0" in path or "\n" in path or ".." in segments:
        raise refused("its path holds '..' or a control character")
    if segments[:1] == ["~"]:
        return "/".join(segments[1:]) or "."
    if segments and segments[0].startswith("~"):
        raise refused("write the path of another user's home in full")
    return "/" + "/".join(segments)
