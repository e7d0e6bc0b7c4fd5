"""Who may look: this machine by default, others with a token, and no page of another site."""

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
class Access:
    """Who is let in.

    Attributes
    ----------
    host
        The address that is listened on.
    token
        The token that visitors need; None admits everyone who reaches a loopback address.
    """

    host: str
    token: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def to(cls, host: str, token: str | None = None) -> Access:
        """Return the access to an address: beyond this machine never without a token, a new one if none is given."""
        return cls(host, token or (None if is_loopback(host) else system.current().token(24)))

    def knows_host(self, header: str) -> bool:
        """Tell whether a request means this server by its ``Host``.

        A page elsewhere can make its own name lead to a loopback address (DNS rebinding); the name gives it away.
        """
        if not is_loopback(self.host):
            return True  # it may have any name, and wants a token
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return name == self.host or is_loopback(name)

    def admits(self, offered: str | None) -> bool:
        """Tell whether what was offered is the token, in a time that tells nothing of it."""
        if self.token is None:
            return True
        return offered is not None and hmac.compare_digest(offered.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or number."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(headers: Mapping[str, str]) -> bool:
    """Tell whether a request that does something comes from a page of the same site."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    try:
        return bool(origin) and urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False
