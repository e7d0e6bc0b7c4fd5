"""Opening the store that a URL or a path names."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from emdstore.errors import MissingExtraError, StoreNotFoundError, StoreURLError, redact_url
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.spelling import check_endpoint, is_chain, spelled
from emdstore.stores.views import scoped

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Engine = Literal["obstore", "s3fs", "fsspec"]

ENTRY_POINTS = "emdstore.stores"
"""Where packages register what opens stores of a scheme of theirs: a function of a URL and options."""

_CLOUDS = {"gs": "google", "gcs": "google", "az": "azure", "azure": "azure", "abfs": "azure", "abfss": "azure"}
_ENGINES = {
    "s3": ("obstore", "s3fs"),
    **dict.fromkeys(("ssh", "sftp"), ("fsspec",)),
    **dict.fromkeys(_CLOUDS, ("obstore", "fsspec")),
}


def open_store(
    url: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    timeout: float | None = None,
    connect_timeout: float | None = None,
    retries: int | None = None,
    rsh: str | None = None,
    **options: Any,
) -> ArtifactStore:
    """Open the store at a place.

    Parameters
    ----------
    url
        A path or ``file:///path`` for a folder of this machine; ``memory://name``, which is one store for the whole
        process, or ``memory://name/prefix``; ``s3://bucket/prefix``; ``ssh://user@host/path`` or
        ``sftp://user@host/path``; a URL that another package serves (see `docs/testing.md`); or any URL that fsspec
        knows. ``S3://`` is ``s3://``.
    engine
        The engine for ``s3://``: obstore if it is installed, otherwise s3fs. Both take the same names for endpoint,
        region and credentials; see `S3ArtifactStore`. ``"fsspec"`` has fsspec serve ``ssh://`` or ``sftp://``, by
        whatever package is installed for it.
    timeout, connect_timeout
        Seconds that a server may take to answer, and to be reached; by default 20 and 5 (SSH: 10). Ignored for local
        folders and memory.
    retries
        How often a transient failure is tried again, for a minute at most. 0 fails at once.
    rsh
        The SSH client with its options, as ``rsync -e`` takes it; ``EMDSTORE_SSH`` or ``ssh`` by default. Ignored for
        everything else.
    **options
        Passed to the store: see `LocalArtifactStore`, `S3ArtifactStore`, `SSHArtifactStore` and `FsspecArtifactStore`.

    Returns
    -------
    ArtifactStore
        Nothing has been read, written or connected to yet.

    Raises
    ------
    StoreURLError
        If the URL's scheme is unknown, or has one slash (``s3:/bucket``), or the URL or an option makes no sense.
    MissingExtraError
        If a package is missing; the message has the command that installs it.
    """
    place = spelled(os.fspath(url))
    scheme = place.partition("://")[0] if "://" in place else ""
    if engine is not None and engine not in _ENGINES.get(scheme, ()):
        raise StoreURLError(
            f"engine={engine!r} makes no sense for {safe_url(place)!r}; it is for s3 (obstore or s3fs), gs and az "
            "(obstore or fsspec), ssh and sftp (fsspec)"
        )
    patience = {"timeout": timeout, "connect_timeout": connect_timeout, "retries": retries}
    for name, value in patience.items():
        if value is not None and not (value >= 0 if name == "retries" else value > 0):
            raise StoreURLError(f"{name}={value!r} makes no sense for {safe_url(place)!r}")
    if "://" in place and scheme != "memory":
        options |= {name: value for name, value in patience.items() if value is not None}
    if rsh is not None and scheme in ("ssh", "sftp"):
        if engine is not None:
            raise StoreURLError(f"rsh= makes no sense for {safe_url(place)!r} by fsspec, which starts no SSH client")
        options["rsh"] = rsh
    if isinstance(bundle := options.get("ca_bundle"), str):
        options["ca_bundle"] = os.path.expanduser(bundle)
    try:
        return _open(place, scheme, engine, options)
    except TypeError as error:  # an option that this store does not have
        raise StoreURLError(f"cannot open {safe_url(place)!r}: {error}") from None


StoreLike: TypeAlias = ArtifactStore | str | os.PathLike[str]
"""A store, or its path or URL; accepted wherever a store is."""


def as_store(place: StoreLike) -> ArtifactStore:
    """Return a store unchanged, or open the store at a path or URL.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(place, str | os.PathLike):
        return open_store(place)
    if isinstance(place, ArtifactStore):
        return place
    raise TypeError(f"a store, a path or a URL is needed here, not {type(place).__name__}: {place!r:.100}")


def as_source(place: StoreLike) -> ArtifactStore:
    """Return a store to read from; see `as_store`.

    Raises
    ------
    StoreNotFoundError
        If a local folder does not exist, or is a file. A mistyped name or a disk that is not mounted is not an empty
        store.
    """
    store = as_store(place)
    if isinstance(store, SupportsPath) and not (path := store.local_path()).is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise StoreNotFoundError(f"{str(path)!r} {what}: give the folder that holds the artifacts", store=repr(store))
    return store


def knows_scheme(scheme: str) -> bool:
    """Tell whether `open_store` knows what to do with URLs of a scheme."""
    from fsspec import available_protocols

    scheme = scheme.lower()
    own = {"file", "memory", "ssh", "sftp", *_ENGINES}
    return scheme in own or "::" in scheme or scheme in available_protocols() or bool(_registered(scheme))


def safe_url(url: str) -> str:
    """Return a URL that is safe to show: without ``user:password@`` and without secrets in its query."""
    return redact_url(url)


def _open(place: str, scheme: str, engine: Engine | None, options: dict[str, Any]) -> ArtifactStore:
    # Each engine is imported where it is needed, and only there.
    if scheme == "s3":
        return _open_s3(place, engine, options)
    if scheme in _CLOUDS and engine != "fsspec":
        return _open_cloud(place, scheme, options)
    if scheme == "memory":
        from emdstore.stores.memory import InMemoryArtifactStore

        name, _, prefix = place.removeprefix("memory://").partition("/")
        return scoped(InMemoryArtifactStore(name, **options), prefix.removesuffix("/"))
    if scheme in ("ssh", "sftp") and engine is None:
        from emdstore.stores.ssh import SSHArtifactStore

        return SSHArtifactStore(place, **options)
    if not scheme and not is_chain(place):
        from emdstore.stores.local import LocalArtifactStore

        return LocalArtifactStore(place, **options)
    opener = _opener_of(scheme)
    if opener is not None:
        return opener(place, **options)
    from emdstore.stores.fsspec import FsspecArtifactStore

    store: ArtifactStore = FsspecArtifactStore(place, **options)
    return store


def _registered(scheme: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # slow to import

    found = entry_points(group=ENTRY_POINTS, name=scheme)
    return {each.dist.name if each.dist else each.value: each for each in found}


def _opener_of(scheme: str) -> Callable[..., ArtifactStore] | None:
    """Return what an installed package has registered for a scheme; None if none has."""
    found = _registered(scheme)
    if len(found) > 1:
        raise StoreURLError(f"{' and '.join(sorted(found))} both serve {scheme}://: uninstall all but one")
    for package, entry in found.items():
        try:
            opener: Callable[..., ArtifactStore] = entry.load()
        except Exception as error:
            raise StoreURLError(
                f"the package {package} serves {scheme}://, but cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        return opener
    return None


def _open_cloud(place: str, scheme: str, options: dict[str, Any]) -> ArtifactStore:
    if not find_spec("obstore"):
        raise MissingExtraError.of(f"{safe_url(place)!r}", "gcs" if _CLOUDS[scheme] == "google" else "azure")
    if _CLOUDS[scheme] == "google":
        from emdstore.stores.google import GoogleArtifactStore

        return GoogleArtifactStore(place, **options)
    from emdstore.stores.azure import AzureArtifactStore

    return AzureArtifactStore(place, **options)


def _open_s3(place: str, engine: Engine | None, options: dict[str, Any]) -> ArtifactStore:
    if options.get("endpoint_url"):
        options = options | {"endpoint_url": check_endpoint(options["endpoint_url"])}
    if engine is None:
        engine = next((each for each in ("obstore", "s3fs") if find_spec(each)), None)
        if engine is None:
            raise MissingExtraError.of(f"{safe_url(place)!r}", "s3")
    if engine == "obstore":
        if "acl" in options:
            raise StoreURLError(
                f"cannot open {safe_url(place)!r}: obstore sends no ACL; pass engine='s3fs', or have the bucket own "
                "whatever is put there (Object Ownership: bucket owner enforced), which needs no ACL"
            )
        from emdstore.stores.s3 import S3ArtifactStore

        return S3ArtifactStore(place, **options)
    from emdstore.stores.fsspec import FsspecArtifactStore
    from emdstore.stores.fsspec.s3_options import s3fs_options

    store: ArtifactStore = FsspecArtifactStore(place, **s3fs_options(place, options))
    return store
