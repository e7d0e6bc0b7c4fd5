"""Options that several commands share, and the stores, catalogs and workspaces that they name."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter

from emdstore.cli.manners import Manners
from emdstore.errors import CatalogError, CatalogUnavailableError, CatalogVersionError, EmdstoreError
from emdstore.stores import ArtifactStore, SupportsPath, open_store
from emdstore.stores.spelling import spelled
from emdstore.stores.urls import as_source

if TYPE_CHECKING:
    from emdstore.catalog import Catalog


class WrongCallError(EmdstoreError, ValueError):
    """The arguments of a command, or what they name, are not valid."""


class NothingMatchedError(EmdstoreError, LookupError):
    """Nothing that was asked for exists."""


def as_folder(name: str) -> str:
    """Accept a folder as people and shells write it: ``clim/`` and ``./clim`` are ``clim``, and ``.`` is all."""
    while name.startswith("./"):
        name = name[2:].lstrip("/") or ALL_OF_IT
    return "" if name == ALL_OF_IT else name.rstrip("/") if name.strip("/") else name


ALL_OF_IT = "."
"""How all of a store is named where keys and folders are, so that a variable that is not set does not mean it."""


def _as_name(name: str) -> str:
    return as_folder(name) or (ALL_OF_IT if name else name)


Folder = Annotated[str, Parameter(converter=lambda _, tokens: as_folder(tokens[0].value))]
"""A folder of a store, or an execution, which has one."""

Name = Annotated[str, Parameter(converter=lambda _, tokens: _as_name(tokens[0].value))]
"""A key or folder of a store; ``.`` for all of it."""

LocalName = Annotated[str, Parameter(converter=lambda _, tokens: os.path.expanduser(tokens[0].value))]
"""A file or folder of this machine, where a word or a URL may stand, too."""

Latest = Annotated[
    bool,
    Parameter(negative=(), help="Only the latest complete set of each execution group."),
]

ReleaseName = Annotated[
    str | None,
    Parameter(
        name="--release",
        help="Only the sets of this release, or of the one that this alias points at; an error if one has changed.",
    ),
]

AcceptLeftOut = Annotated[
    bool,
    Parameter(
        name="--accept-left-out",
        negative=(),
        help="Do not fail because a listing leaves something out: names that are no keys, files that cannot be read.",
    ),
]

Config = Annotated[
    Path | None,
    Parameter(
        name="--config",
        env_var="EMDSTORE_CONFIG",
        help="The workspace's file or folder; by default the emdstore.toml here or in a folder above.",
    ),
]

_DATABASE = "The database: a SQLite file, or a URL such as postgresql://host/name"
_OR_SNAPSHOT = f"{_DATABASE}; or, to read only, a store with a snapshot"

CatalogURL = Annotated[str, Parameter(name="--catalog", env_var="EMDSTORE_CATALOG", help=f"{_DATABASE}.")]
OptionalCatalogURL = Annotated[
    str | None,
    Parameter(name="--catalog", env_var="EMDSTORE_CATALOG", help=f"{_OR_SNAPSHOT}; by default the workspace's."),
]


_OUTPUT = Group("Output", sort_key=2)


def _said(help: str, **how: Any) -> Parameter:
    return Parameter(group=_OUTPUT, help=help, **how)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Output:
    """How a command reports what it did."""

    as_json: Annotated[
        bool, _said("Write one JSON document to stdout instead of text, also for errors.", name="--json", negative=())
    ] = False
    json_lines: Annotated[
        bool, _said("Write JSON Lines: progress and outcomes as they come, and the rest at the end.", negative=())
    ] = False
    quiet: Annotated[
        bool, _said("Only results and errors: no progress, hints or summary.", alias="-q", negative=())
    ] = False
    verbose: Annotated[
        int, _said("Log to stderr what emdstore does; with -vv also other libraries.", alias="-v", count=True)
    ] = 0
    progress: Annotated[
        bool | None,
        _said(
            "Show progress, or do not: by default a line on a terminal, elsewhere one a minute.",
            negative="--no-progress",
            env_var="EMDSTORE_PROGRESS",
        ),
    ] = None
    log_file: Annotated[
        Path | None, _said("Append to this file what is logged and said beside results.", env_var="EMDSTORE_LOG_FILE")
    ] = None
    log_format: Annotated[
        Literal["text", "json"], _said("How that is written, and what stderr gets.", env_var="EMDSTORE_LOG_FORMAT")
    ] = "text"

    @property
    def json(self) -> bool:
        """Whether stdout is for programs."""
        return self.as_json or self.json_lines

    def manners(self) -> Manners:
        """Return them for all output."""
        return Manners(self.json, self.json_lines, self.quiet, self.progress, self.log_format == "json")


_SECONDS = "Seconds to wait for a server's answer (20)."
_SECONDS_TO_CONNECT = "Seconds to wait for a connection (5)."
_RSH = "The SSH client with its options, as rsync's -e has it, for ssh:// and sftp:// (ssh)."
_RETRIES = "How often to retry what failed for a passing reason, for a minute at most; 0 fails at once."


@Parameter(name="*")
@attrs.frozen
class Patience:
    """How to reach stores that are not folders, and how long to wait for them."""

    timeout: Annotated[float | None, Parameter(env_var="EMDSTORE_TIMEOUT", help=_SECONDS)] = None
    connect_timeout: Annotated[
        float | None, Parameter(env_var="EMDSTORE_CONNECT_TIMEOUT", help=_SECONDS_TO_CONNECT)
    ] = None
    retries: Annotated[int | None, Parameter(env_var="EMDSTORE_RETRIES", help=_RETRIES)] = None
    rsh: Annotated[str | None, Parameter(env_var="EMDSTORE_SSH", help=_RSH)] = None

    def __attrs_post_init__(self) -> None:
        for name in ("timeout", "connect_timeout"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise WrongCallError(f"--{name.replace('_', '-')} takes a number of seconds above 0, not {value:g}")
        if self.retries is not None and self.retries < 0:
            raise WrongCallError(f"--retries is 0 or more, not {self.retries}")

    def options_for(self, place: str) -> dict[str, Any]:
        """Return the options for `open_store`."""
        return dict(self.bounds())

    def bounds(self) -> dict[str, float | str]:
        """Return those of them that are bounds."""
        given = {
            "timeout": self.timeout,
            "connect_timeout": self.connect_timeout,
            "retries": self.retries,
            "rsh": self.rsh,
        }
        return {name: value for name, value in given.items() if value is not None}


@Parameter(name="*")
@attrs.frozen
class Access(Patience):
    """How to reach stores that are not folders, and how long to wait for them.

    Credentials come from the environment, never from arguments.

    Attributes
    ----------
    endpoint_url
        The S3 server, if it is not AWS. Credentials and region come from the environment (AWS_ACCESS_KEY_ID, ...).
    engine
        Which library speaks S3.
    profile
        The profile in ~/.aws whose credentials to use for S3, whatever the environment says.
    anonymous
        Sign nothing, for public buckets.
    requester_pays
        Pay for the requests, as some buckets on S3 demand.
    ca_bundle
        A file with certificates of servers to trust beside those of the system; also AWS_CA_BUNDLE.
    verify
        Whether to verify the certificates of servers.
    """

    endpoint_url: Annotated[str | None, Parameter(env_var=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))] = None
    engine: Literal["obstore", "s3fs"] | None = None
    profile: str | None = None
    anonymous: Annotated[bool, Parameter(negative="")] = False
    requester_pays: Annotated[bool, Parameter(negative="")] = False
    ca_bundle: LocalName | None = None
    verify: Annotated[bool, Parameter(negative="--no-verify")] = True

    def options_for(self, place: str) -> dict[str, Any]:
        """Return the options for `open_store`."""
        who: dict[str, Any] = {}
        scheme = place.partition("://")[0].lower()
        if scheme in _CERTIFIED:
            who = {"ca_bundle": self.ca_bundle, "verify": None if self.verify else False}
        if scheme in _OBJECT_STORES:
            who["anonymous"] = self.anonymous or None
        if scheme == "s3":
            who = {
                "endpoint_url": self.endpoint_url,
                "engine": self.engine,
                "profile": self.profile,
                "anonymous": self.anonymous or None,
                "requester_pays": self.requester_pays or None,
                "ca_bundle": self.ca_bundle,
                "verify": None if self.verify else False,
            }
        return self.bounds() | {name: value for name, value in who.items() if value is not None}


_OBJECT_STORES = ("gs", "gcs", "az", "azure", "abfs", "abfss")
_CERTIFIED = (*_OBJECT_STORES, "http", "https", "dav", "davs", "webdav", "webdavs")

PLAIN = Output()
PATIENT = Patience()
ANY = Access()


def located(place: str) -> tuple[str, dict[str, Any]]:
    """Return where a place is, and the options that come with its name, if it is one of a named store: archive:pmp."""
    name, colon, folder = place.partition(":")
    if not colon or folder.startswith("//") or "/" in name or "::" in place:
        return place, {}
    from emdstore.executions.settings import named_stores  # asked only if it may be such a name

    stores = named_stores()
    if name in stores:
        return stores[name].at(folder), dict(stores[name].options)
    if not os.path.lexists(spelled(place)):
        known = f"there are {', '.join(stores)}" if stores else "no file names any"
        raise WrongCallError(
            f"there is no store named {name!r} ({known}); see `emdstore help urls`. A folder of such a name is written "
            f"./{name}:..., a folder on another machine ssh://{name}/..."
        )
    return place, {}


def open_existing(place: str, access: Access) -> ArtifactStore:
    """Open a store to read from. A folder must exist: a mistyped name is not an empty store."""
    return as_source(open_dest(place, access))


def open_dest(place: str, access: Access) -> ArtifactStore:
    """Open a store to write to; it is created if necessary."""
    url, options = located(place)
    return open_store(url, **(options | access.options_for(url)))


@contextmanager
def catalog_is_configuration() -> Iterator[None]:
    """Report a catalog that cannot be used as a wrong call of the command."""
    try:
        yield
    except (CatalogUnavailableError, CatalogVersionError):
        raise
    except CatalogError as error:
        raise WrongCallError(str(error), store=error.store) from error


def open_catalog(url: str, access: Patience = ANY, *, create: bool) -> Catalog:
    """Open a catalog and check that it can be used, also for writing if it may be created."""
    from emdstore.catalog import Catalog
    from emdstore.catalog.catalog import is_database

    with catalog_is_configuration():
        place = url if is_database(url) else open_store(url, **access.options_for(url))
        catalog = Catalog(place, create=create)
        if create:
            catalog.refuse_to_write()
        catalog.executions().first()
    return catalog


def fragment_of(place: str) -> str:
    """Return the fragment of an execution's folder from its place: the last four segments of the path."""
    place, _ = located(place)
    path = place.partition("://")[2].partition("/")[2] if "://" in place else os.path.abspath(os.path.expanduser(place))
    segments = [segment for segment in path.split("/") if segment]
    if not segments:
        raise WrongCallError(f"{place!r} does not tell which execution it is: give --fragment")
    return "/".join(segments[-4:])


def refuse_nothing(store: ArtifactStore) -> None:
    """Refuse a URL where there is nothing, which was probably mistyped; an empty folder at least exists."""
    if not isinstance(store, SupportsPath) and next(iter(store.iter_keys()), None) is None:
        raise WrongCallError(f"there is nothing in {store!r}: check the bucket and the prefix", store=repr(store))


def refuse_empty(found: int, prefix: str, what: str, *, store: str) -> None:
    """An empty folder was probably mistyped, and `all is well` would be the wrong answer."""
    if prefix and not found:
        raise NothingMatchedError(f"there is no {what} in the folder {prefix!r} of {store}", key=prefix, store=store)
