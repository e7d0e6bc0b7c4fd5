"""The state of a set, as its readers see it, decided from its record, a listing and digests.

`judge` is the decision, a pure function. `look_at_set` gathers what it needs, and no more: the record, one listing of
the folder, the bundles, and each artifact that was written after its record according to the store. Everything that is
decoded has the recorded digest (R1), and everything that the record names is there in its size (R2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME, RETRACTION_NAME, ArtifactSet, artifact_set, decode_output_bundle
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
    RecordError,
    RecordVersionError,
)
from emdstore.keys import join_key
from emdstore.sets.cause import read_cause
from emdstore.sets.finding import Stamp, fragment_at, stamp_of
from emdstore.sets.record import ExecutionRecord, decode_record, state_of
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.sets.retraction import Retraction, last_word
from emdstore.sets.seal import list_set
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsStreaming
from emdstore.stores.views import scoped
from emdstore.transfers import Listing, digest_of, listing_of
from emdstore.workers.distance import is_far
from emdstore.workers.together import answers_to, ask_together

SetState = Literal["published", "failed", "publishing", "incomplete", "changed", "bare", "unreadable", "newer-schema"]
"""The states of a set; each set is in exactly one. See `docs/lifecycle.md`."""

SET_STATES: tuple[SetState, ...] = get_args(SetState)

Digest: TypeAlias = "tuple[int, str] | EmdstoreError"
"""Size and SHA-256 of an artifact's bytes, or the error that prevented reading them."""

_BUNDLES = ("metric", "output", "series")
_NAMED = 5


@attrs.frozen
class Judgement:
    """A set's state, and the reasons for it.

    Attributes
    ----------
    state
        ``published``: complete; ``failed``: the run itself failed; ``publishing``: its bytes are changing, or a writer
        was stopped while they were; ``incomplete``: according to its record, or else its bundles, something is missing
        for good; ``changed``: its bytes do not match its record; ``bare``: it has no record, and everything that its
        bundles name is there; ``unreadable``: its record, a bundle or the store cannot be read; ``newer-schema``: a
        newer emdstore wrote its record.
    lacking
        Artifacts that are named but not there.
    differing
        Artifacts whose size or digest differs from the record.
    unread
        Artifacts that the store could not read.
    doubtful
        Artifacts that are newer than the record and not hashed yet; the state assumes that they are right.
    """

    state: SetState
    lacking: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()


def judge(
    record: ExecutionRecord | EmdstoreError | None,
    listing: Listing,
    digests: Mapping[str, Digest] | None = None,
    *,
    named: Iterable[str] = (),
) -> Judgement:
    """Decide the state of a set.

    Parameters
    ----------
    record
        Its record, the error from reading it, or None if it has none.
    listing
        The files in its folder, including its record.
    digests
        The digests of artifacts whose bytes were read.
    named
        The files that the bundles of a set without a record name.

    Returns
    -------
    Judgement
        For every input; nothing is raised.
    """
    if record is None:
        lacking = tuple(key for key in named if key not in listing)
        return Judgement("incomplete" if lacking else "bare", lacking)
    if isinstance(record, EmdstoreError):
        return Judgement("newer-schema" if isinstance(record, RecordVersionError) else "unreadable")
    said: SetState | None = record.state or state_of(record.status, record.failure)
    if said is None or said == "publishing":  # a record without an outcome belongs to a run in scratch
        return Judgement(said or "unreadable")
    known = digests or {}
    written = listing.get(RECORD_NAME)
    lacking_, differing, unread, doubtful = [], [], [], []
    for artifact in record.artifacts:
        digest, info = known.get(artifact.key), listing.get(artifact.key)
        if isinstance(digest, tuple):
            if digest != (artifact.size, artifact.sha256):
                differing.append(artifact.key)
        elif digest is not None and not isinstance(digest, ArtifactNotFoundError):
            unread.append(artifact.key)
        elif digest is not None or artifact.key not in listing:
            lacking_.append(artifact.key)
        elif info is not None and info.size != artifact.size:
            differing.append(artifact.key)
        elif info is not None and written is not None and info.is_newer(written):
            doubtful.append(artifact.key)
    state: SetState = "changed" if lacking_ or differing else "unreadable" if unread else said
    return Judgement(state, tuple(lacking_), tuple(differing), tuple(unread), tuple(doubtful))


@attrs.frozen(kw_only=True, repr=False)
class SetLook(Shown):
    """One set, as it was when somebody looked.

    Attributes
    ----------
    fragment, location
        The execution, and the folder in the store that was looked at.
    judgement
        Its state, and the reasons for it.
    record, record_digest
        The record, and the SHA-256 of its bytes; None without a record, or if it cannot be read.
    listing
        The files in its folder.
    digests
        The digests of what was hashed.
    bundles
        By role, the bytes of the bundles that could be read. If there is a record, they have the recorded digests.
    named
        What the bundles of a set without a record name; None if it has a record.
    stamp
        What the store says of the record.
    cause
        What the log of a run that failed says of it, if its record does not.
    word
        The last retraction, even if it was taken back; see `retraction`.
    error
        Why the set may not be used; None if it is published, failed, bare, or incomplete according to its record.
    """

    fragment: str
    location: str
    judgement: Judgement
    record: ExecutionRecord | None = None
    record_digest: str | None = None
    listing: Listing = attrs.field(factory=dict, repr=False)
    digests: Mapping[str, Digest] = attrs.field(factory=dict, repr=False)
    bundles: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)
    named: ArtifactSet | None = attrs.field(default=None, repr=False)
    stamp: Stamp | None = None
    cause: str | None = None
    word: Retraction | None = None
    error: EmdstoreError | None = attrs.field(default=None, eq=str)

    @property
    def state(self) -> SetState:
        """The set's state."""
        return self.judgement.state

    @property
    def retraction(self) -> Retraction | None:
        """Why it must not be used any more, if it was retracted. Its state and digests do not change."""
        return self.word if self.word is not None and self.word.retracted else None

    @property
    def size(self) -> int:
        """The total size of its artifacts, according to its record or else the store."""
        if self.record is not None:
            return sum(artifact.size for artifact in self.record.artifacts)
        infos = (self.listing.get(key) for key in (self.named.keys if self.named is not None else ()))
        return sum(info.size for info in infos if info is not None)


def look_at_set(
    store: ArtifactStore,
    location: str,
    *,
    stamp: Stamp | None = None,
    bundles: bool = True,
    every_digest: bool = False,
) -> SetLook:
    """Look at one set, and decide its state. Nothing is changed.

    If its bytes do not match the record, the record is read once more, because a writer may have been at work
    meanwhile.

    Parameters
    ----------
    store
        The results store.
    location
        The set's folder; ``""`` if the store is that folder.
    stamp
        The record's stamp from a listing; by default from the store when the record is read.
    bundles
        Whether to read the bundles so that they can be decoded.
    every_digest
        Whether to hash every artifact, instead of only those that are newer than the record.

    Returns
    -------
    SetLook
        The set. If it cannot be read, the error is in it.

    Raises
    ------
    ExecutionNotFoundError
        If there is neither a record nor a metric bundle in the folder.
    """
    folder = scoped(store, location)
    fragment = location
    try:
        fragment = fragment_at(store, location)
        look = _look(folder, fragment, location, stamp, bundles, every_digest)
        if look.record_digest is not None and not _is_calm(look, folder):
            # The stamp belongs to the previous record.
            look = _look(folder, fragment, location, None, bundles, every_digest)
    except ExecutionNotFoundError:
        raise
    except EmdstoreError as error:  # the store's, while the folder was listed
        return SetLook(fragment=fragment, location=location, judgement=Judgement("unreadable"), error=error)
    return look


def is_whole_and_bare(folder: ArtifactStore) -> bool:
    """Tell whether a folder holds a complete set without a record: somebody else's publication."""
    try:
        return look_at_set(folder, "", bundles=False).state == "bare"
    except ExecutionNotFoundError:
        return False


def _is_calm(look: SetLook, folder: ArtifactStore) -> bool:
    """Tell whether the record is unchanged since it was read, if a change could explain what was found."""
    listed = look.listing.get(RECORD_NAME)
    listed_stamp = None if listed is None else stamp_of(listed)
    if look.state != "changed" and (look.stamp is None or listed_stamp is None or listed_stamp == look.stamp):
        return True
    try:
        return digest_of(folder, RECORD_NAME)[1] == look.record_digest
    except ArtifactNotFoundError:
        return False


def _look(
    folder: ArtifactStore, fragment: str, location: str, stamp: Stamp | None, bundles: bool, every_digest: bool
) -> SetLook:
    record: ExecutionRecord | EmdstoreError
    began = system.current().monotonic()
    try:
        data, told = read_with_stamp(folder, RECORD_NAME)
        answered = system.current().monotonic()
    except ArtifactNotFoundError:
        return _look_at_bare(folder, fragment, location, stamp, bundles)
    except EmdstoreError as error:
        return _judged(SetLook(fragment=fragment, location=location, judgement=Judgement("unreadable"), error=error))
    try:
        record = decode_record(data, name=join_key(location, RECORD_NAME))
    except EmdstoreError as error:
        record = error
    seen = SetLook(
        fragment=fragment,
        location=location,
        judgement=judge(record, {}),
        record=None if isinstance(record, EmdstoreError) else record,
        record_digest=sha256_of(data),
        stamp=stamp or told,
        error=record if isinstance(record, EmdstoreError) else None,
    )
    if isinstance(record, EmdstoreError) or seen.state in ("publishing", "unreadable"):
        return _judged(seen)
    at_once = is_far(folder, answered - began)
    listing, digests, read = _listed_and_read(folder, record, bundles=bundles, at_once=at_once)
    seen = attrs.evolve(seen, word=last_word(folder, "") if RETRACTION_NAME in listing else None)
    wanted = [each.key for each in record.artifacts] if every_digest else []
    if bundles and record.state == "failed" and record.cause is None:  # written before records had it, or by others
        seen = attrs.evolve(seen, cause=_read_cause(folder, record, listing, digests))
    doubtful = judge(record, listing, digests).doubtful
    for key in dict.fromkeys((*wanted, *doubtful)):
        if key in digests:
            continue
        try:
            digests[key] = digest_of(folder, key)
        except EmdstoreError as error:
            digests[key] = error
    judgement = judge(record, listing, digests)
    return _judged(attrs.evolve(seen, judgement=judgement, listing=listing, digests=digests, bundles=read))


def _listed_and_read(
    folder: ArtifactStore, record: ExecutionRecord, *, bundles: bool, at_once: bool
) -> tuple[Listing, dict[str, Digest], dict[str, bytes]]:
    """List a set's folder and read its bundles: their digests by key, and their bytes by role."""
    wanted = [each for each in record.artifacts if bundles and each.role in _BUNDLES]
    asked: list[Callable[[], Any]] = [partial(list_set, folder, record)]
    asked += [partial(folder.read_bytes, each.key) for each in wanted]
    listing, *contents = ask_together(asked, at_once=at_once)
    if isinstance(listing, EmdstoreError):
        raise listing
    digests: dict[str, Digest] = {}
    read: dict[str, bytes] = {}
    for artifact, content in zip(wanted, contents, strict=True):
        if artifact.key not in listing or artifact.role in read:
            continue
        if isinstance(content, EmdstoreError):
            digests[artifact.key] = content
        else:
            digests[artifact.key] = (len(content), sha256_of(content))
            read[artifact.role] = content
    return listing, digests, read


def _read_cause(
    folder: ArtifactStore, record: ExecutionRecord, listing: Listing, digests: dict[str, Digest]
) -> str | None:
    log = next((each for each in record.artifacts if each.role == "log" and each.key in listing), None)
    if log is None:
        return None
    try:
        cause, size, sha256 = read_cause(folder, log.key)
    except EmdstoreError as error:
        digests[log.key] = error
        return None
    digests[log.key] = (size, sha256)
    return cause


def _look_at_bare(folder: ArtifactStore, fragment: str, location: str, stamp: Stamp | None, bundles: bool) -> SetLook:
    began = system.current().monotonic()
    listing = listing_of(folder)
    at_once = is_far(folder, system.current().monotonic() - began)
    if METRIC_NAME not in listing:
        raise ExecutionNotFoundError(
            f"no set at {fragment!r} in {folder!r}: neither a record ({RECORD_NAME}) nor a metric bundle", key=fragment
        )
    usual = {"metric": METRIC_NAME, "output": OUTPUT_NAME, "series": SERIES_NAME}
    names = {role: name for role, name in usual.items() if name in listing}
    name_all = partial(
        artifact_set,
        metric=METRIC_NAME,
        output=names.get("output"),
        series=names.get("series"),
        fragment=fragment,
        files_below=lambda key: [each for each in listing if each.startswith(f"{key}/")] if key not in listing else [],
    )
    named = name_all()
    seen = SetLook(
        fragment=fragment,
        location=location,
        judgement=Judgement("bare"),
        listing=listing,
        stamp=stamp,
        word=last_word(folder, "") if RETRACTION_NAME in listing else None,
    )
    wanted = {role: name for role, name in names.items() if bundles or role == "output"}
    asked = [partial(folder.read_bytes, name) for name in wanted.values()]
    try:
        read = dict(zip(wanted, answers_to(asked, at_once=at_once), strict=True))
        if "output" in names:
            bundle = decode_output_bundle(read["output"], name=names["output"])
            named = name_all(bundle=bundle)
    except EmdstoreError as error:
        return _judged(attrs.evolve(seen, judgement=Judgement("unreadable"), named=named, error=error))
    required = [each.key for each in named.artifacts if each.role != "log"]
    judgement = judge(None, listing, named=required)
    return _judged(attrs.evolve(seen, judgement=judgement, bundles=read, named=named))


def _judged(look: SetLook) -> SetLook:
    """Add the error that says why a set may not be used, if it may not."""
    if look.error is not None:
        return look
    record, verdict, what = look.record, look.judgement, repr(look.fragment)
    error: EmdstoreError | None = None
    if verdict.state == "publishing":
        assert record is not None
        by = f" by {record.opened_by}" if record.opened_by else ""
        since = f" since {record.opened_at:%Y-%m-%d %H:%M:%S %Z}" if record.opened_at else ""
        error = IncompleteSetError(
            f"{what} is being published{by}{since}, or whoever did so was stopped: wait, or publish it again",
            key=look.fragment,
        )
    elif verdict.state == "changed":
        assert record is not None
        error = IncompleteSetError(
            f"{what} is not what its record says: of {len(record.artifacts)} artifacts {_wrong(verdict)}; wait until a "
            "copy is done, publish or copy it again, or repair it from a good copy",
            key=look.fragment,
        )
    elif verdict.state == "incomplete" and record is None:
        error = IncompleteSetError(
            f"{what} is not complete: it has no record, and its bundles name what is not there: "
            f"{names_of(verdict.lacking)}; copy that too",
            key=look.fragment,
        )
    elif verdict.unread:
        first = look.digests[verdict.unread[0]]
        assert isinstance(first, EmdstoreError)
        error = first
    elif verdict.state == "unreadable":
        error = RecordError(
            f"the record of {what} has no outcome: it is that of a run in scratch, not of a published set",
            key=look.fragment,
        )
    return attrs.evolve(look, error=error)


def _wrong(verdict: Judgement) -> str:
    parts = [
        f"{len(keys)} {'is' if len(keys) == 1 else 'are'} {what} ({names_of(keys)})"
        for keys, what in ((verdict.lacking, "missing"), (verdict.differing, "of another size or content"))
        if keys
    ]
    return " and ".join(parts)


def names_of(keys: Iterable[str]) -> str:
    """Name the first of some keys, for a message."""
    named = [repr(key) for key in keys]
    return ", ".join(named[:_NAMED]) + (", ..." if len(named) > _NAMED else "")


def read_with_stamp(folder: ArtifactStore, key: str) -> tuple[bytes, Stamp | None]:
    """Read a whole file, together with its info if that costs nothing."""
    if not isinstance(folder, SupportsStreaming):
        return folder.read_bytes(key), None
    with folder.open_reader(key) as reader:
        return b"".join(iter(reader.read, b"")), stamp_of(reader.info)
