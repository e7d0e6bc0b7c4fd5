"""What the SSH client says when it fails, as errors that say what to do."""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

from emdstore.errors import (
    EmdstoreError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    UnsupportedError,
    redact,
)


class ClientMessage(NamedTuple):
    """What a message of the SSH client's means: our error, advice (with ``{host}``), the system's number for it."""

    kind: type[StoreError]
    advice: str
    errno: int | None = None


_LOG_IN = "`ssh {host}` has to let you in without asking"
_PASSES = "try again; if it stays so, see whether `ssh {host}` works"

_MEANINGS: tuple[tuple[str, ClientMessage], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed",
        ClientMessage(
            StoreAccessError,
            "the server's host key is not the one that is known here: it was set up anew, or somebody sits in "
            "between. Ask its operators; if the new key is theirs, `ssh-keygen -R {host}` forgets the old one",
        ),
    ),
    (
        r"Host key verification failed|No \S+ host key is known|host key is not known",
        ClientMessage(
            StoreAccessError,
            "the server's host key is not known here: run `ssh {host}` once, and compare the fingerprint that it "
            "shows with the one that the operators tell",
        ),
    ),
    (
        r"Too many authentication failures",
        ClientMessage(
            StoreAccessError,
            "the agent offered more keys than the server tries: name the right one in ~/.ssh/config "
            "(IdentityFile, IdentitiesOnly yes)",
        ),
    ),
    (
        r"Permission denied \(|No supported authentication methods|Permission denied, please try again",
        ClientMessage(StoreAccessError, "the server accepts none of your keys for this user: " + _LOG_IN),
    ),
    (
        r"Temporary failure in name resolution",
        ClientMessage(StoreUnavailableError, "no names can be looked up now, or there is no such host; try again"),
    ),
    (
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        ClientMessage(StoreError, "there is no host of this name: check the URL, or name it in ~/.ssh/config"),
    ),
    (
        r"Connection refused",
        ClientMessage(StoreUnavailableError, "nothing answers at this port: check host and port, or try again later"),
    ),
    (
        r"timed out|not responding|No route to host|Network is unreachable|Host is down",
        ClientMessage(StoreUnavailableError, "the host does not answer: " + _PASSES),
    ),
    (
        r"Unable to negotiate|no matching .* found",
        ClientMessage(
            StoreError,
            "the server offers only methods that this ssh refuses by default: allow one for this host in "
            "~/.ssh/config (HostKeyAlgorithms, KexAlgorithms, Ciphers)",
        ),
    ),
    (
        r"Bad owner or permissions on|Bad configuration option|bad configuration options|UNPROTECTED PRIVATE KEY",
        ClientMessage(StoreError, "ssh refuses its own configuration here; mend the file that it names"),
    ),
    (
        r"subsystem request failed",
        ClientMessage(UnsupportedError, "the server offers no SFTP: ask its operators, or use ssh:// if it has Python"),
    ),
    (
        r"quota exceeded|quota",
        ClientMessage(StoreError, "the quota there is used up; what was there before is intact", errno.EDQUOT),
    ),
    (
        r"No space left on device",
        ClientMessage(StoreError, "there is no space left there; what was there before is intact", errno.ENOSPC),
    ),
    (
        r"account is (?:currently )?not available|account has expired|nologin",
        ClientMessage(StoreAccessError, "this account may not log in there: ask its operators"),
    ),
    (
        r"sftp connections only|rrsync|scponly|restricted|rbash|not allowed|administratively prohibited",
        ClientMessage(StoreAccessError, "this account may run no commands there: use sftp:// instead of ssh://"),
    ),
    (
        r"MaxStartups|MaxSessions|open failed",
        ClientMessage(
            StoreUnavailableError, "the server takes no more sessions: try again later, or with connections=1"
        ),
    ),
    (
        r"kex_exchange_identification",
        ClientMessage(
            StoreUnavailableError,
            "the server closed the connection before it asked who you are: it has as many logins under way as it "
            "takes (MaxStartups), or turns this address away for a while; try again later",
        ),
    ),
    (
        r"Connection (?:closed|reset)|closed by remote host|Broken pipe|disconnect",
        ClientMessage(StoreUnavailableError, "the connection was cut: " + _PASSES),
    ),
)

_NOISE = re.compile(r"^(?:Warning: Permanently added|debug\d:|\*\* |Pseudo-terminal|@+$|@ +WARNING)", re.IGNORECASE)
SSH_FAILED = 255
"""The exit code of the SSH client for what is its own failure and not the remote command's."""


def error_of_client(place: str, host: str, said: str, code: int | None, *, doing: str) -> EmdstoreError:
    """Return the error for an SSH client that has ended, or does not answer.

    Parameters
    ----------
    place
        The store, as errors name it.
    host
        What the user would give to ``ssh``.
    said
        What it wrote to its standard error.
    code
        Its exit code; negative for a signal; None while it runs.
    doing
        What was being done, to follow "cannot"; ``"open"`` before the other side has greeted.
    """
    meaning = meaning_of(said)
    if meaning is None:
        if doing == "open" and code not in (SSH_FAILED, None) and code >= 0:
            meaning = ClientMessage(
                StoreAccessError,
                f"the server does not start it for this account but something else, which ended with {code}: the "
                "account may be limited to other uses, as by rrsync, git-shell or scponly; ask its operators",
            )
        elif code == SSH_FAILED or code is None or code < 0:
            meaning = ClientMessage(StoreUnavailableError, "the connection was cut: " + _PASSES)
        else:
            meaning = ClientMessage(
                StoreUnavailableError, f"the program over there ended early (exit code {code}); try again"
            )
    told = last_words(said)
    error = meaning.kind(
        f"cannot {doing} {place}: {told + '; ' if told else ''}{meaning.advice.format(host=host)}", store=place
    )
    error.errno = meaning.errno
    return error


def meaning_of(said: str) -> ClientMessage | None:
    """Return what the SSH client's message means; None if nothing is known of its like."""
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, said, re.IGNORECASE)), None)


def last_words(said: str) -> str:
    """Return the line of a message that tells most, without secrets."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    telling = [line for line in lines if meaning_of(line) is not None]
    line = (telling or lines or [""])[-1]
    return redact("".join(letter if letter.isprintable() else " " for letter in line)[:300]).rstrip(".")
