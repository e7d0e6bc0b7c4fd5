"""Access: this machine by default, others with a token, and no pages of other sites."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from emdstore import system

COOKIE = "emdstore"
PARAMETER = "token"


@attrs.frozen
class Admission:
    """Who has access.

    Attributes
    ----------
    host
        The address that the server listens on.
    token
        The token that visitors need; None admits everyone who reaches a loopback address.
    """

    host: str
    token: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def to(cls, host: str, token: str | None = None) -> Admission:
        """Return the access to an address. Beyond this machine it requires a token, by default a new one."""
        return cls(host, token or (None if is_loopback(host) else system.current().token(24)))

    def knows_host(self, header: str) -> bool:
        """Tell whether the ``Host`` of a request is this server.

        Another site can make its name resolve to a loopback address (DNS rebinding); its ``Host`` reveals this.
        """
        if not is_loopback(self.host):
            return True  # it may have any name, and requires a token
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return name == self.host or is_loopback(name)

    def admits(self, offered: str | None) -> bool:
        """Tell whether this is the token, in a time that reveals nothing about it."""
        if self.token is None:
            return True
        return offered is not None and hmac.compare_digest(offered.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(headers: Mapping[str, str]) -> bool:
    """Tell whether a request with an effect comes from a page of the same site."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    try:
        return bool(origin) and urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False
