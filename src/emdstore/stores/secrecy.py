"""Keeping credentials out of pickles.

Pickles end up in files, in a scheduler's memory and in logs. So the pickle of a store has no credentials that were
passed when it was opened, only a note that there were some. A copy in the same process, or in a fork of it, finds them
again, and child processes of `multiprocessing` get them through their pipes. A copy elsewhere looks in its own
environment, profiles and machine role. `send_credentials=True` puts the credentials into the pickle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
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
    """Let stores that are pickled in the block keep their credentials; for processes of this machine only."""
    before = _go_along.set(True)
    try:
        yield
    finally:
        _go_along.reset(before)


def send_to_children(kind: type) -> None:
    """Let stores of a class keep their credentials on the way to child processes of `multiprocessing`."""
    from multiprocessing.reduction import ForkingPickler  # slow to import

    ForkingPickler.register(kind, _with_credentials)


def _with_credentials(store: Any) -> Any:
    with credentials_go_along():
        return store.__reduce__()


def do_credentials_go_along() -> bool:
    """Tell whether a store that is pickled now keeps its credentials."""
    return _go_along.get()


def secrets_among(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options whose names say that they hold credentials, also nested ones."""
    return {name: value for name, value in options.items() if _is_secret(name, value)}


def _is_secret(name: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_secret(str(inner), each) for inner, each in value.items())
    if isinstance(value, str) and "://" in value and has_secrets(value):
        return True
    return bool(_NAMED(name)) and not isinstance(value, int | float | None) and value not in ("", "anon")


def put_away(secrets: Mapping[str, Any]) -> str:
    """Keep credentials in this process; return a reference for the pickle that reveals nothing about them."""
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
    """Return the sentence that says which credentials a copy lacks, to append to an error."""
    return (
        f"{store} was sent here without the credentials that it was opened with ({names}): set them where it is used, "
        "as AWS_ACCESS_KEY_ID and so on, or open it with send_credentials=True if its pickles may hold them"
    )
