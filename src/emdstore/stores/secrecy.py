"""What of a store's options does not travel: a pickle holds no credentials that somebody passed.

A pickle is kept in files, in a scheduler's memory and in logs. So a store that is pickled leaves the credentials behind
that it was opened with, and notes that it did. A copy in the same process, or in a fork of it, finds them again, and
child processes of `multiprocessing` get them through their pipes; one elsewhere looks where it is: in the environment,
in profiles, in the role of its machine. Who wants credentials to travel says so (`send_credentials=True`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.reduction import ForkingPickler
from typing import Any

from emdstore import system
from emdstore.errors import has_secrets

_NAMED = re.compile(r"key|secret|token|pass|credential|\bsas|connection_string|auth", re.IGNORECASE).search

FOUND_AGAIN = frozenset({"access_key_id", "secret_access_key", "session_token", "key", "secret", "token"})
"""Options of stores on S3 that a copy can find again elsewhere."""

_kept: dict[str, Mapping[str, Any]] = {}
_go_along: ContextVar[bool] = ContextVar("credentials go along", default=False)


@contextmanager
def credentials_go_along() -> Iterator[None]:
    """Have stores that are pickled in the block keep their credentials: for processes of this machine alone."""
    before = _go_along.set(True)
    try:
        yield
    finally:
        _go_along.reset(before)


def send_to_children(kind: type) -> None:
    """Have stores of a class keep their credentials on the way to child processes that `multiprocessing` starts."""
    ForkingPickler.register(kind, _with_credentials)


def _with_credentials(store: Any) -> Any:
    with credentials_go_along():
        return store.__reduce__()


def do_credentials_go_along() -> bool:
    """Tell whether a store that is pickled now keeps its credentials."""
    return _go_along.get()


def secrets_among(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that hold credentials, as their names tell, also inside of others."""
    return {name: value for name, value in options.items() if _is_secret(name, value)}


def _is_secret(name: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_secret(str(inner), each) for inner, each in value.items())
    if isinstance(value, str) and "://" in value and has_secrets(value):
        return True
    return bool(_NAMED(name)) and not isinstance(value, int | float | None) and value not in ("", "anon")


def put_away(secrets: Mapping[str, Any]) -> str:
    """Keep credentials in this process; return what stands for them in a pickle, which tells nothing of them."""
    for token, kept in _kept.items():
        if kept == secrets:
            return token
    token = system.current().token(8)
    _kept[token] = dict(secrets)
    return token


def found_again(token: str) -> Mapping[str, Any] | None:
    """Return the credentials that a pickle left behind, if this is the process that made it or a fork of it."""
    return _kept.get(token)


def left_behind(names: str, store: str) -> str:
    """Return the sentence on credentials that a copy lacks, to follow what could not be done for want of them."""
    return (
        f"{store} was sent here without the credentials that it was opened with ({names}): set them where it is used, "
        "as AWS_ACCESS_KEY_ID and so on, or open it with send_credentials=True if its pickles may hold them"
    )
