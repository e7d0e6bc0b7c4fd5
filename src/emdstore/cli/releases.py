"""Commands on releases: names for exactly these sets, as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Parameter

from emdstore.cli.options import (
    ANY,
    PLAIN,
    Access,
    Folder,
    NothingMatchedError,
    Output,
    WrongCallError,
    open_existing,
)
from emdstore.cli.protecting import refuse_alias
from emdstore.cli.render import say, show_document, show_fields, show_table
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.sets.manifest import iter_manifest
from emdstore.sets.release import ReleaseDiff, list_aliases, list_releases, point_alias, read_release
from emdstore.sets.releasing import check_release, create_release
from emdstore.sets.signing import check_signature, is_signed, sign_release
from emdstore.stores.port import ArtifactStore
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.catalog import Catalog


@Parameter(name="*")
@attrs.frozen
class ReleaseStore:
    """In which results store releases are."""

    results: Annotated[str | None, Parameter(help="The results store, or a copy; by default the workspace's.")] = None
    own: OwnAndStores = OWN_AND_STORES


OF_WORKSPACE = ReleaseStore()


def create(
    name: str,
    /,
    *sets: Folder,
    prefix: Folder = "",
    latest: bool = False,
    provider: tuple[str, ...] = (),
    diagnostic: tuple[str, ...] = (),
    group: tuple[str, ...] = (),
    note: Annotated[str, Parameter(name=("--note", "-m"))] = "",
    by: str | None = None,
    key: Annotated[Path | None, Parameter(name="--sign")] = None,
    place: ReleaseStore = OF_WORKSPACE,
    output: Output = PLAIN,
) -> int:
    """Name exactly these sets, as they are, in a list that never changes. Every byte of them is read before.

    Without names all published sets are taken that were not retracted. --latest, --provider, --diagnostic and --group
    choose among them by the workspace's catalog.

    Parameters
    ----------
    name
        A new name, such as 2026.1.
    sets
        The folders of the sets.
    prefix
        Only sets in this folder.
    latest
        Only the latest complete set of each execution group.
    provider
        Only of this provider; may be given several times.
    diagnostic
        Only of this diagnostic; may be given several times.
    group
        Only of this group; may be given several times.
    note
        What the release is for.
    by
        Who makes it; by default the user and the host.
    key
        Sign it with this SSH key; see `emdstore release sign`.
    """
    given = (("provider", provider), ("diagnostic", diagnostic), ("group", group))
    filters: dict[str, Any] = {what: list(values) for what, values in given if values}
    if latest:
        filters["latest"] = True
    if sets and (filters or prefix):
        raise WrongCallError("give the sets by name, or choose them by options")
    with _store_and_catalog(place) as (store, catalog):
        fragments = list(sets) or None
        if filters:
            if catalog is None:
                raise WrongCallError("--latest, --provider, --diagnostic and --group ask the catalog of a workspace")
            rows = catalog.executions(fragment=prefix, status="uploaded", **filters)
            if not (fragments := [row.fragment for row in rows if row.state == "published"]):
                raise WrongCallError("the catalog has no published set like that")
        release = create_release(store, name, fragments, prefix=prefix, note=note, by=by, key=key)
    if output.json:
        return show_document("release create", {"release": release})
    say(f"release {name}: {count_text(len(release.sets), 'set')}")
    return 0


def list_all(*, place: ReleaseStore = OF_WORKSPACE, output: Output = PLAIN) -> int:
    """List the releases of a results store, and the aliases that point at them."""
    with _store_and_catalog(place) as (store, _):
        releases, aliases = list_releases(store), list_aliases(store)
    if output.json:
        about = [{"name": r.name, "at": r.at, "by": r.by, "note": r.note, "sets": len(r.sets)} for r in releases]
        return show_document("release list", {"releases": about, "aliases": aliases})
    pointing: dict[str, list[str]] = {}
    for alias in aliases:
        pointing.setdefault(alias.release, []).append(alias.name)
    columns = ("release", "aliases", "sets", "made", "by", "note")
    show_table(
        columns,
        [(r.name, ", ".join(pointing.get(r.name, ())), len(r.sets), r.at, r.by, r.note) for r in releases],
    )
    return 0


def show(
    name: str,
    /,
    *,
    place: ReleaseStore = OF_WORKSPACE,
    output: Output = PLAIN,
) -> int:
    """Show which sets a release names.

    Parameters
    ----------
    name
        The release, or an alias.
    """
    with _store_and_catalog(place) as (store, _):
        release = read_release(store, name)
    if output.json:
        return show_document("release show", {"release": release})
    about = {"release": release.name, "made": release.at, "by": release.by, "note": release.note}
    show_fields(about | ({} if release.promoted_from is None else {"promoted from": release.promoted_from}))
    for verdict in release.checks:
        say(f"{verdict.check}: {'passed' if verdict.ok else count_text(verdict.count, 'objection')}")
    say("")
    show_table(("set", "record"), [(each.fragment, each.record) for each in release.sets])
    return 0


def check(
    name: str,
    /,
    *,
    signers: Path | None = None,
    place: ReleaseStore = OF_WORKSPACE,
    output: Output = PLAIN,
) -> int:
    """Read every byte that a release names, and tell whether all is as it was released. Exit code 1 if it is not.

    Parameters
    ----------
    name
        The release, or an alias.
    signers
        Also expect a signature of one of these: a file of OpenSSH's format allowed_signers.
    """
    with _store_and_catalog(place) as (store, _):
        signed_by = None if signers is None else check_signature(store, name, signers)
        signed = signed_by is not None or is_signed(store, name)
        found = check_release(store, read_release(store, name))
    code = 0 if found.ok else 1
    if output.json:
        about = {"signed": signed, "signed_by": signed_by}
        return show_document("release verify", found.as_dict() | about, code)
    if signed:
        say("signed; --signers FILE tells by whom" if signed_by is None else f"signed by {signed_by}")
    for fragment, finding in found.findings.items():
        say(f"{finding}  {fragment}", style="red")
    for fragment in found.retracted:
        say(f"retracted  {fragment}")
    say(f"release {found.release.name}: {found.whole} of {count_text(len(found.release.sets), 'set')} as released")
    return code


def diff(
    one: str,
    other: str,
    /,
    *,
    place: ReleaseStore = OF_WORKSPACE,
    output: Output = PLAIN,
) -> int:
    """List what is different from one release to another. Exit code 1 if anything is.

    Parameters
    ----------
    one
        A release, or an alias.
    other
        Another one.
    """
    with _store_and_catalog(place) as (store, _):
        found = ReleaseDiff.between(read_release(store, one), read_release(store, other))
    code = 1 if found.added or found.removed or found.changed else 0
    if output.json:
        parts = {"added": found.added, "removed": found.removed, "changed": found.changed}
        sets = [{"fragment": fragment, "change": change} for change, some in parts.items() for fragment in some]
        return show_document("release diff", {"sets": sets} | parts, code)
    for word, fragments in (("added", found.added), ("removed", found.removed), ("changed", found.changed)):
        for fragment in fragments:
            say(f"{word}  {fragment}")
    return code


def sign(
    name: str,
    key: Path,
    /,
    *,
    place: ReleaseStore = OF_WORKSPACE,
    output: Output = PLAIN,
) -> int:
    """Sign a release with an SSH key, so that others can tell who stands behind it, also in a copy.

    OpenSSH checks the signature, too: ssh-keygen -Y verify -n emdstore-release -f SIGNERS -I WHO -s 2026.1.json.sig <
    2026.1.json, in .emdstore/releases.

    Parameters
    ----------
    name
        The release, or an alias.
    key
        The file of the private key, or of the public one if an agent holds the private one.
    """
    with _store_and_catalog(place) as (store, _):
        sign_release(store, name, key)
    if output.json:
        return show_document("release sign", {"release": name, "key": str(key)})
    say(f"release {name} is signed")
    return 0


def alias(
    name: str,
    release: str,
    /,
    *,
    why: Annotated[str, Parameter(name=("--reason", "-m"))] = "",
    by: str | None = None,
    place: ReleaseStore = OF_WORKSPACE,
    output: Output = PLAIN,
) -> int:
    """Point an alias, such as production, at a release. Where it pointed before is kept, with who moved it and why.

    Parameters
    ----------
    name
        The alias.
    release
        The release.
    why
        Why it moves.
    by
        Who moves it; by default the user and the host.
    """
    with _store_and_catalog(place) as (store, _):
        refuse_alias(name, store, place.results, place.own)
        pointed = point_alias(store, name, release, why=why, by=by)
    if output.json:
        return show_document("release alias", {"alias": pointed})
    say(f"{name} is release {pointed.release}")
    return 0


@contextmanager
def _store_and_catalog(place: ReleaseStore) -> Iterator[tuple[ArtifactStore, Catalog | None]]:
    """Open a results store, and the workspace's catalog where it is the workspace's; the catalog learns of releases."""
    if place.results is not None:
        yield open_existing(place.results, place.own.reach), None
        return
    from emdstore.ingestion.replay import note_releases

    with place.own.open(instead="--results") as workspace:
        yield workspace.results, workspace.catalog
        note_releases(workspace.results, workspace.catalog)


def manifest(
    store: str,
    prefix: Folder = "",
    /,
    *,
    release: str | None = None,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Print the SHA-256 of every artifact that is published, as `sha256sum -c` takes it in the store's folder.

    emdstore manifest results > SHA256SUMS && (cd results && sha256sum -c --quiet) < SHA256SUMS

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    release
        Only the sets of this release, or of the one that this alias points at.
    """
    opened = open_existing(store, access)
    named = None if release is None else read_release(opened, release)
    found, listed = False, []
    for sha256, key in iter_manifest(opened, prefix, release=named):
        found = True
        if output.json:
            listed.append({"key": key, "sha256": sha256})
        else:
            print(f"{sha256}  {key}")
    if not found:
        raise NothingMatchedError(f"no set is published below {prefix!r} in {opened!r}", key=prefix)
    return show_document("manifest", {"artifacts": listed}) if output.json else 0
