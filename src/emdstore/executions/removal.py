"""Whether an execution's scratch folder may be removed, and removing it: decided here for every verb (P2).

A status in the catalog says what somebody believed when it was written. What lets a folder go is proof, at the time of
the removal: the set's bundles as they are now name these files; each has the digest that the published record has for
it; and the object lies in the results store. Everything else is a doubt, by file, and the folder stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, ExecutionNotFoundError, IncompleteSetError
from emdstore.executions.locations import Locations
from emdstore.executions.process import is_group_alive, own_name
from emdstore.executions.scratch import read_scratch_record
from emdstore.keys import is_staging
from emdstore.sets.materialize import Curated
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.sets.state import Digest, look_at_set
from emdstore.stores.checksums import Check
from emdstore.stores.local.trees import Tree, look_at_tree, remove_tree
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.views import scoped
from emdstore.transfers import Listing, digest_of, listing_of

_NAMED = 5


@attrs.frozen(kw_only=True)
class Proof:
    """What was found of an execution's scratch folder and of its published set.

    Attributes
    ----------
    tree
        The folder; None if it is not there.
    doubts
        Why it has to stay: what is named and was not shipped, differs from what was, or cannot be told, by file.
    lost
        What the results store should hold and does not, by file.
    unnamed
        What lies in the folder and no bundle names.
    whole
        Whether the folder holds all that its bundles name, so that it can be shipped again.
    """

    tree: Tree | None
    doubts: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    whole: bool = False

    def refusal(self, *, unnamed: bool) -> str | None:
        """Return why the folder stays, in one line; None if it may go.

        Parameters
        ----------
        unnamed
            Whether what no bundle names may go with it.
        """
        if self.lost:
            return f"the results store lacks what was published: {_some(self.lost)}"
        if self.doubts:
            return f"not all of it is proved to be published: {_some(self.doubts)}"
        if self.unnamed and not unnamed:
            return (
                f"it holds {len(self.unnamed)} files that no bundle names: {_some(self.unnamed)}; --unnamed "
                "(unnamed=True) removes them, too"
            )
        return None


def _some(names: tuple[str, ...]) -> str:
    return "; ".join(names[:_NAMED]) + ("; ..." if len(names) > _NAMED else "")


def look_before_removal(locations: Locations, fragment: str) -> Proof:
    """Compare an execution's scratch folder with its published set, file by file. Nothing is changed.

    Raises
    ------
    StoreError, UnsafePathError
        If one of the stores cannot be read at all. Nothing is proved then.
    """
    tree = look_at_tree(locations.scratch.ground, fragment)
    if tree is None:
        return Proof(tree=None)
    try:
        record = read_scratch_record(locations.scratch, fragment)
    except EmdstoreError as error:
        return Proof(tree=tree, doubts=(f"{RECORD_NAME}: {error}",))
    doubt = _doubt_of_record(record, fragment)
    if doubt is not None or record is None or record.result is None:
        return Proof(tree=tree, doubts=(doubt or "",))
    result = record.result if record.result.successful else ExecutionResult(successful=False)
    curated = Curated(scoped(locations.scratch, fragment), result, fragment)
    unnamed = tuple(sorted(name for name in tree.files if not _is_named(name, curated.set.keys) and not _is_torn(name)))
    unknown = [*_unknown(curated)]
    missing = [key for key in curated.set.keys if isinstance(curated.unread.get(key), ArtifactNotFoundError)]
    dest = scoped(locations.results, fragment)
    try:
        published = read_record(dest)
    except EmdstoreError as error:
        return Proof(tree=tree, doubts=(*unknown, f"the published record: {error}"), unnamed=unnamed)
    source = scoped(locations.scratch, fragment)
    whole = not unknown and not missing and all(source.exists(key) for key in curated.set.keys)
    if published is None:
        return Proof(tree=tree, lost=(f"{RECORD_NAME}: there is none",), unnamed=unnamed, whole=whole)
    if published.state not in ("published", "failed", "incomplete"):
        doubts = (*unknown, f"the published record: its set is {published.state}")
        return Proof(tree=tree, doubts=doubts, unnamed=unnamed, whole=whole)
    there = listing_of(dest)
    here = _hashed(source, curated.set.keys, there)
    lost, untold = _find_lost(dest, there, published, here)
    doubts = (*unknown, *_not_shipped(here, published), *untold)
    return Proof(tree=tree, doubts=doubts, lost=lost, unnamed=unnamed, whole=whole)


def remove_proved(
    locations: Locations, fragment: str, *, unnamed: bool, before_removal: Callable[[], object] = lambda: None
) -> str | None:
    """Remove an execution's folder from scratch if all that its bundles name is proved to be published.

    Parameters
    ----------
    locations, fragment
        The execution.
    unnamed
        Whether what no bundle names may go with it.
    before_removal
        Called right before it goes; what it raises keeps it.

    Returns
    -------
    str | None
        Why it stays; None if it is gone.

    Raises
    ------
    SourceChangedError
        If the folder was changed while it was looked at.
    StoreError
        If the system refuses to remove what may go.
    """
    proof = look_before_removal(locations, fragment)
    refusal = proof.refusal(unnamed=unnamed)
    if refusal is None and proof.tree is not None:
        before_removal()
        remove_looked_at(locations, fragment, proof.tree)
    return refusal


def published_status(locations: Locations, fragment: str) -> str:
    """Return the status of an execution of which scratch holds nothing any more, if its published set is there, whole.

    Raises
    ------
    ArtifactNotFoundError
        If the results store has no record of it either.
    IncompleteSetError
        If the set is being published, or lacks what its record names; the message says what.
    """
    dest = scoped(locations.results, fragment)
    where = f"scratch holds nothing of execution {fragment!r} any more, and the results store {dest!r}"
    try:
        look = look_at_set(locations.results, fragment, bundles=False, every_digest=isinstance(dest, SupportsPath))
    except ExecutionNotFoundError:
        look = None
    if look is None or look.named is not None:
        raise ArtifactNotFoundError(
            f"{where} has no record of it: nothing can be shipped. Bring it back from another copy, or run it again",
            key=fragment,
            store=repr(dest),
        )
    if look.record is None or look.judgement.unread:
        assert look.error is not None
        raise look.error
    verdict = look.judgement
    if verdict.lacking or verdict.differing:
        wrong = _some((*verdict.lacking, *verdict.differing))
        raise IncompleteSetError(
            f"{where} lacks what its record names ({wrong}): bring it back from another copy", key=fragment
        )
    if look.record.status is None:
        raise IncompleteSetError(
            f"{where} has a record by which its set is {verdict.state}: bring back one of the two", key=fragment
        )
    return look.record.status


def remove_looked_at(locations: Locations, fragment: str, tree: Tree) -> None:
    """Remove an execution's folder from scratch, if it still is what was looked at; see `remove_tree`."""
    remove_tree(locations.scratch.ground, fragment, tree, token=own_name())


def _doubt_of_record(record: ExecutionRecord | None, fragment: str) -> str | None:
    if record is None:
        return f"it holds no {RECORD_NAME}, which would say what it is"
    if record.fragment != fragment:
        return f"{RECORD_NAME}: it is that of {record.fragment!r}"
    if record.result is None:
        return f"{RECORD_NAME}: it has no outcome"
    return doubt_of_program(record)


def doubt_of_program(record: ExecutionRecord) -> str | None:
    """Say that something of an execution's program still runs, and so may write; None if nothing is known to."""
    if record.program is None or not is_group_alive(record.program):
        return None
    return f"something that its program has started still runs, in process group {record.program.split(':')[2]}"


def _unknown(curated: Curated) -> Iterator[str]:
    """Name what keeps anybody from knowing what the set consists of."""
    for each in curated.unreadable:
        yield f"{each.key}: it cannot be read ({each.error}), so what it names is not known"
    for key, error in curated.unread.items():
        if not isinstance(error, ArtifactNotFoundError):
            yield f"{key}: {error}"
    for name in curated.set.rejected:
        yield f"{name.filename!r}: it is named, and was not shipped as the name leads out of the folder or is no key"


@attrs.frozen
class _Hashed:
    """What a file of scratch is now.

    Attributes
    ----------
    digest
        Its size and SHA-256, or why it cannot be read.
    kept
        Whether the results store has a checksum of its own for the object there, and the file has it.
    """

    digest: Digest
    kept: bool = False


def _hashed(source: ArtifactStore, keys: tuple[str, ...], there: Listing) -> dict[str, _Hashed]:
    """Hash files of scratch, also as the results store does, where it tells a checksum."""
    hashed = {}
    for key in keys:
        info = there.get(key)
        check = None if info is None else Check(info.checksum, info.size)
        try:
            digest = digest_of(source, key, check)
        except EmdstoreError as error:
            hashed[key] = _Hashed(error)
        else:
            hashed[key] = _Hashed(digest, check is not None and check.fits() is True)
    return hashed


def _not_shipped(here: Mapping[str, _Hashed], published: ExecutionRecord) -> Iterator[str]:
    recorded = {each.key: each for each in published.artifacts}
    for key, found in here.items():
        if isinstance(found.digest, ArtifactNotFoundError):
            if key not in recorded:
                yield f"{key}: it is named, and neither here nor published"
        elif isinstance(found.digest, EmdstoreError):
            yield f"{key}: {found.digest}"
        elif key not in recorded:
            yield f"{key}: it was not published; commit it"
        elif found.digest != (recorded[key].size, recorded[key].sha256):
            yield f"{key}: it differs from what was published; commit it again"


def _find_lost(
    dest: ArtifactStore, there: Listing, published: ExecutionRecord, here: Mapping[str, _Hashed]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name what the published record names and the results store does not hold as it says; and what cannot be told.

    An object is what the record says if the store's own checksum of it is that of a file of scratch with the record's
    digest. All others are read: what is believed wrongly here is gone for good.
    """
    lost, untold = [], []
    for artifact in published.artifacts:
        key, wanted = artifact.key, (artifact.size, artifact.sha256)
        info, known = there.get(key), here.get(key)
        if key not in there:
            lost.append(f"{key}: it is not there")
        elif info is not None and info.size != artifact.size:
            lost.append(f"{key}: {info.size} bytes, where the record says {artifact.size}")
        elif known is None or not known.kept or known.digest != wanted:
            try:
                if digest_of(dest, key) != wanted:
                    lost.append(f"{key}: its bytes are not those that were published")
            except EmdstoreError as error:
                untold.append(f"{key}: {error}")
    return tuple(lost), tuple(untold)


def _is_named(name: str, keys: tuple[str, ...]) -> bool:
    # A folder may be a link inside scratch: the files behind it are named, and it is what is removed.
    return name == RECORD_NAME or name in keys or any(key.startswith(name + "/") for key in keys)


def _is_torn(name: str) -> bool:
    return is_staging(name.rpartition("/")[2])
