"""Errors of databases: the emdstore error for each, and advice for the user.

PostgreSQL's messages come in many languages, so the SQLSTATE counts. The text is used only for SQLite, and if there is
no SQLSTATE, as before a connection is made.
"""

from __future__ import annotations

import attrs

from emdstore.errors import CatalogError, CatalogUnavailableError


@attrs.frozen
class Failure:
    """What a failure means for the user of the catalog.

    Attributes
    ----------
    kind
        The error to raise.
    advice
        What to do next; None if the database's message says it best.
    lead
        How to introduce the database's message.
    """

    kind: type[CatalogError] = CatalogError
    advice: str | None = None
    lead: str = "cannot be used"


_GONE = Failure(CatalogUnavailableError, "check that the server runs and the catalog's URL is right, then try again")
_CROWDED = Failure(CatalogUnavailableError, "let fewer processes use the server at once, or raise its limit")
_REFUSED = Failure(lead="refuses this content")

_BY_SQLSTATE = {
    "08": _GONE,  # connection exception
    "22": _REFUSED,  # data exception
    "22021": (_NUL := Failure(lead="refuses this content", advice="PostgreSQL keeps no NUL characters; remove them")),
    "22P05": _NUL,
    "23": _REFUSED,  # integrity constraint violation
    "25006": Failure(advice="the server can only be read; give the URL of one that takes writes"),
    "25P03": Failure(CatalogUnavailableError, "this process paused in the middle of a transaction; try again"),
    "40": Failure(CatalogUnavailableError, "another transaction came in between; try again"),
    "42501": Failure(advice="have the owner of the database grant what is missing"),
    "53": Failure(advice="free some space or memory on the server and try again"),
    "53300": _CROWDED,
    "55P03": Failure(
        CatalogUnavailableError,
        "somebody else's transaction holds what this waited for: end that one (pg_stat_activity shows whose it "
        "is), or try again later",
    ),
    "57P": _GONE,  # the server is shutting down, or starting up
}

_BY_TEXT = {
    "NUL": _NUL,
    "unable to open": Failure(advice="check that the folder exists and that you may write to it"),
    "not a database": Failure(advice="the file is something else; give the catalog another path"),
    "readonly": Failure(advice="the catalog cannot be written to; check the permissions of the file and its folder"),
    "is locked": Failure(
        CatalogUnavailableError, "another process or thread is holding a transaction open; end it or try again later"
    ),
    "full": Failure(advice="free some space and try again"),
    "UNIQUE constraint": _REFUSED,
    "password authentication": Failure(advice="check the user and the password in the catalog's URL"),
    "does not exist": Failure(advice="create the database first, or correct the catalog's URL"),
    "too many": _CROWDED,
    "connection": _GONE,
}


def explain(error: BaseException, text: str) -> Failure:
    """Return what a driver's error means.

    Parameters
    ----------
    error
        What was raised.
    text
        What it says.
    """
    code: str | None = getattr(error, "sqlstate", None)
    if code is not None:
        return next((_BY_SQLSTATE[code[:size]] for size in (5, 3, 2) if code[:size] in _BY_SQLSTATE), Failure())
    return next((failure for sign, failure in _BY_TEXT.items() if sign in text), Failure())
