"""Deciding whether an execution's scratch folder may be removed, and removing it, for every verb (P2).

A status in the catalog says what was believed when it was written. Removing a folder takes proof at the time of the
removal: the current bundles name these files, each has the digest in the published record, and the object is in the
results store. Everything else is a doubt about a file, and the folder stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
    RecordError,
)
from emdstore.executions.locations import Locations
from emdstore.executions.process import is_group_alive, own_name
from emdstore.executions.scratch import read_scratch_record
from emdstore.keys import is_staging
from emdstore.sets.curated import Curated
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.sets.state import Digest, look_at_set
from emdstore.stores.checksums import Check
from emdstore.stores.local.trees import Tree, look_at_tree, remove_tree
from emdstore.stores.port import ArtifactStore, SupportsFlush, SupportsPath
from emdstore.stores.views import scoped
from emdstore.transfers import Listing, digest_of, listing_of

_NAMED = 5


@attrs.frozen(kw_only=True)
class Proof:
    """What was found in an execution's scratch folder and its published set.

    Attributes
    ----------
    tree
        The folder; None if it is not there.
    doubts
        Why it must stay, by file: it is named and was not shipped, differs from what was, or is not known.
    lost
        What the results store should contain and does not, by file.
    unnamed
        Files in the folder that no bundle names.
    whole
        Whether the folder contains everything that its bundles name, so that it can be shipped again.
    """

    tree: Tree | None
    doubts: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    whole: bool = False

    def refusal(self, *, unnamed: bool) -> str | None:
        """Return why the folder stays, in one line; None if it may be removed.

        Parameters
        ----------
        unnamed
            Whether files that no bundle names may be removed with it.
        """
        if self.lost:
            return f"the results store lacks what was published: {_some(self.lost)}"
        if self.doubts:
            return f"not all of it is proved to be published: {_some(self.doubts)}"
        if self.unnamed and not unnamed:
            some = "a file" if len(self.unnamed) == 1 else f"{len(self.unnamed)} files"
            return (
                f"it holds {some} that no bundle names: {_some(self.unnamed)}; --unnamed (unnamed=True) removes it all"
            )
        return None


def _some(names: tuple[str, ...]) -> str:
    return "; ".join(names[:_NAMED]) + ("; ..." if len(names) > _NAMED else "")


def look_before_removal(locations: Locations, fragment: str) -> Proof:
    """Compare an execution's scratch folder with its published set, file by file. Nothing is changed.

    Raises
    ------
    StoreError, UnsafePathError
        If one of the stores cannot be read. Then nothing is proved.
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
    if not _is_still(published, dest):
        untold = (*untold, f"the published record: {RECORD_NAME} was replaced while this was looked at")
    doubts = (*unknown, *_not_shipped(here, published), *untold)
    return Proof(tree=tree, doubts=doubts, lost=lost, unnamed=unnamed, whole=whole)


def remove_proved(
    locations: Locations, fragment: str, *, unnamed: bool, before_removal: Callable[[], object] = lambda: None
) -> str | None:
    """Remove an execution's folder from scratch if everything that its bundles name is proved to be published.

    Parameters
    ----------
    locations, fragment
        The execution.
    unnamed
        Whether files that no bundle names may be removed with it.
    before_removal
        Called right before the removal. If it raises, the folder stays.

    Returns
    -------
    str | None
        Why it stays; None if it was removed.

    Raises
    ------
    SourceChangedError
        If the folder was changed while it was looked at.
    StoreError
        If the system refuses the removal.
    """
    proof = look_before_removal(locations, fragment)
    refusal = proof.refusal(unnamed=unnamed)
    if refusal is None and proof.tree is not None:
        remove_shipped(locations, fragment, proof.tree, before_removal)
    return refusal


def published_status(locations: Locations, fragment: str) -> str:
    """Return the status of an execution that is gone from scratch, if its published set is complete.

    Raises
    ------
    ArtifactNotFoundError
        If the results store has no record of it either.
    IncompleteSetError
        If the set is being published, or lacks something that its record names; the message says what.
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


def remove_shipped(
    locations: Locations, fragment: str, tree: Tree, before_removal: Callable[[], object] = lambda: None
) -> None:
    """Remove the folder of an execution whose files were found in the results store, once these survive a power cut.

    Whoever brought them there, such as a transfer or ``rsync``, may have left that to the system.
    """
    if isinstance(locations.results, SupportsFlush):
        locations.results.flush()
    before_removal()
    remove_looked_at(locations, fragment, tree)


def remove_looked_at(locations: Locations, fragment: str, tree: Tree) -> None:
    """Remove an execution's folder from scratch, if it is unchanged since it was looked at; see `remove_tree`."""
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
    """Return that part of an execution's program still runs and may write; None if nothing is known to."""
    if record.program is None or not is_group_alive(record.program):
        return None
    return f"something that its program has started still runs, in process group {record.program.split(':')[2]}"


def _unknown(curated: Curated) -> Iterator[str]:
    """Return why it is not known what the set consists of."""
    for each in curated.unreadable:
        yield f"{each.key}: it cannot be read ({each.error}), so what it names is not known"
    for key, error in curated.unread.items():
        if not isinstance(error, ArtifactNotFoundError):
            yield f"{key}: {error}"
    for name in curated.set.rejected:
        yield f"{name.filename!r}: it is named, and was not shipped as the name leads out of the folder or is no key"


def _is_still(published: ExecutionRecord, dest: ArtifactStore) -> bool:
    """Tell whether the record that was gone by is still there: to hash everything may take long."""
    try:
        return read_record(dest) == published
    except RecordError:
        return False


@attrs.frozen
class _Hashed:
    """The current state of a file in scratch.

    Attributes
    ----------
    digest
        Its size and SHA-256, or the error from reading it.
    kept
        Whether the file matches the checksum that the results store keeps of the object.
    """

    digest: Digest
    kept: bool = False


def _hashed(source: ArtifactStore, keys: tuple[str, ...], there: Listing) -> dict[str, _Hashed]:
    """Hash files in scratch, also in the way of the results store's checksums, if it has any."""
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
    """Return what the results store lacks of the published record, and what is not known.

    An object is right if the store's checksum of it matches a file in scratch that has the recorded digest. All others
    are read, because a mistake here would lose data for good.
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
    # The folder may be a link inside scratch: the files behind it are named, and the link is what is removed.
    return name == RECORD_NAME or name in keys or any(key.startswith(name + "/") for key in keys)


def _is_torn(name: str) -> bool:
    return is_staging(name.rpartition("/")[2])
