"""The record: ``execution.json``, which says what a set is and that it is whole.

In the results store it is written last. A set is published if and only if its record is there, so whoever reads it can
rely on every artifact that it names, and the catalog can be rebuilt from records and bundles alone. In scratch the same
file keeps the execution's identity from the start, and its outcome from the moment it stops; without an outcome the run
was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

import attrs
import msgspec

from emdstore._version import __version__
from emdstore.emds import RECORD_NAME, RETRACTION_NAME, BundleWarning
from emdstore.errors import ArtifactNotFoundError, OvertakenError, RecordError, RecordVersionError
from emdstore.keys import is_valid_key
from emdstore.sets.origin import Dataset, Resources
from emdstore.sets.result import ExecutionResult
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsFlush
from emdstore.transfers.seals import overtaken, write_seal
from emdstore.versioned import UnreadableError, VersionedDecoder

RECORD_VERSION = 2

State: TypeAlias = Literal["published", "failed", "publishing", "incomplete"]
"""The state that a record gives its set; see `ExecutionRecord.state`."""

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with a zone; without one it would be ambiguous."""


@attrs.frozen
class RecordedArtifact:
    """An artifact of a published set.

    Attributes
    ----------
    key
        Relative to the fragment.
    role
        ``log``, ``metric``, ``output``, ``plot``, ``data``, ``html`` or ``series``.
    size, sha256
        The size and digest of its bytes.
    media_type, description
        What it is.
    asset_role
        ``Output``, as opposed to a staged input.
    """

    key: str
    role: str
    size: int
    sha256: str
    media_type: str
    description: str = ""
    asset_role: Literal["Output"] = "Output"


@attrs.frozen
class RecordedInput:
    """A file that the run read: where it came from, and its digest; see `Execution.input_artifact`."""

    store: str
    key: str
    size: int
    sha256: str
    tags: tuple[str, ...] = ()
    asset_role: Literal["Input"] = "Input"


@attrs.frozen(kw_only=True, repr=False)
class ExecutionRecord(Shown):
    """What is kept about one execution, beside its artifacts.

    Attributes
    ----------
    fragment
        Its folder, relative to the store's root.
    provider, diagnostic, group
        The provider, the diagnostic, and the key of the group of input datasets.
    selectors, dataset_hash
        What the group's datasets have in common, and a hash of exactly these datasets.
    description
        A description by the person who ran it.
    created_at, started_at, stopped_at, published_at
        Aware datetimes.
    host, pid
        Where it ran.
    owner, program
        In scratch, while it runs: its process, and the process group of its program.
    reingest_of
        The fragment of the execution that this one repeats without running. The group's flag stays as it is.
    result
        What the run said of itself; None while it runs, or if it was cut off.
    state
        ``published``: successful and complete; ``failed``: the run itself failed; ``incomplete``: the run succeeded,
        but something is missing for good; ``publishing``: bytes are changing, or a writer was stopped while they were,
        so nothing that the record names can be relied on. None in scratch.
    status, failure, dirty, reason
        The decision of `resolve_status`; None in scratch, and while the state is ``publishing``.
    cause
        The last exception in the log of a run that failed, in one line, or else its last line that speaks of an error.
    upload_duration
        Seconds that the commit took until the record was written.
    inputs
        The staged and verified files that it read.
    datasets
        The datasets that it read, under the framework's names.
    provider_version, diagnostic_version, software
        The versions of the software: of the provider, of the diagnostic, and of packages by name.
    resources
        The resources that it used.
    artifacts
        What is published, in curated order. While the state is ``publishing``, what the previous record named.
    missing, rejected, unreadable
        What the run named and is not published.
    stale
        What is in the folder and not part of this set.
    superseded
        What of that was published once, as part of a set that was replaced.
    warnings
        What is worth knowing.
    extra
        A framework's own data, under its name; passed on unchanged.
    generation
        Grows with each claim of the execution, and with each record that replaces another. A lower one never replaces a
        higher one.
    replaces
        SHA-256 of the record that this one replaced.
    planned, opened_at, opened_by
        While the state is ``publishing``: what is to be published, since when, and by whom.
    producer
        The software that wrote the record.
    record_version
        The version of the format; newer ones are refused.
    """

    fragment: str
    provider: str
    diagnostic: str
    group: str
    selectors: Mapping[str, Any] = attrs.field(factory=dict)
    dataset_hash: str | None = None
    description: str | None = None
    created_at: Moment | None = None
    started_at: Moment | None = None
    stopped_at: Moment | None = None
    published_at: Moment | None = None
    host: str | None = None
    pid: int | None = None
    owner: str | None = None
    program: str | None = None
    reingest_of: str | None = None
    result: ExecutionResult | None = None
    state: State | None = None
    status: str | None = None
    failure: str | None = None
    dirty: bool | None = None
    reason: str | None = None
    cause: str | None = None
    upload_duration: float | None = None
    inputs: tuple[RecordedInput, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    provider_version: str | None = None
    diagnostic_version: str | None = None
    software: Mapping[str, str] = attrs.field(factory=dict)
    resources: Resources | None = None
    artifacts: tuple[RecordedArtifact, ...] = ()
    missing: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    warnings: tuple[BundleWarning, ...] = ()
    extra: Mapping[str, Any] = attrs.field(factory=dict)
    generation: int = 0
    replaces: str | None = None
    planned: tuple[str, ...] = ()
    opened_at: Moment | None = None
    opened_by: str | None = None
    producer: str = f"emdstore {__version__}"
    record_version: int = RECORD_VERSION

    @classmethod
    def at(cls, fragment: str, **fields: Any) -> ExecutionRecord:
        """Return a record whose identity comes from its fragment: ``provider/diagnostic/group.../execution``."""
        provider, diagnostic, group = split_fragment(fragment)
        told: dict[str, Any] = {"provider": provider, "diagnostic": diagnostic, "group": group, "fragment": fragment}
        return cls(**told | fields)

    @property
    def is_open(self) -> bool:
        """Whether it says that its set is being written, or was left so."""
        return self.state == "publishing"

    def is_older_than(self, other: ExecutionRecord) -> bool:
        """Tell whether this is an older publication than another one of the same execution.

        The generation decides; where two sites have published the same one, the time does. A catalog decides in the
        same way which rows stay (`emdstore.catalog.precedence`): what a transfer brings has to get its rows.
        """
        if self.generation != other.generation:
            return self.generation < other.generation
        if self.published_at is None or other.published_at is None:
            return False
        return self.published_at < other.published_at


def split_fragment(fragment: str) -> tuple[str, str, str]:
    """Read provider, diagnostic and group from a fragment.

    The first two segments are provider and diagnostic, the last is the execution, and those in between are the group.
    If there are too few, the last segment is also the group.
    """
    segments = fragment.split("/")
    provider, diagnostic = segments[0], segments[min(1, len(segments) - 1)]
    return provider, diagnostic, "/".join(segments[2:-1]) or segments[-1]


def state_of(status: str | None, failure: str | None) -> State | None:
    """Return the state of a set from the decision of `resolve_status`; None without a decision."""
    if status == "uploaded":
        return "published"
    if status is None:
        return None
    return "incomplete" if failure == "result" else "failed"


def encode_record(record: ExecutionRecord) -> bytes:
    """Write a record as JSON for people and programs; equal records give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def decode_record(data: bytes, *, name: str = RECORD_NAME) -> ExecutionRecord:
    """Read and check a record of this version or an older one; the result has the form of this version.

    Parameters
    ----------
    data
        The file's bytes.
    name
        What to call it in errors.

    Raises
    ------
    RecordVersionError
        If a newer emdstore wrote it.
    RecordError
        If it is not a record; the message says what is wrong, and where.
    """
    try:
        record = _record.decode(data, key=name)
    except UnreadableError as error:
        raise RecordError(f"{name} is no execution record: {error}", key=name) from None
    if not is_valid_key(record.fragment):
        raise RecordError(f"{name} names a fragment that is no valid key: {record.fragment!r}", key=name)
    for artifact in record.artifacts:
        if not is_valid_key(artifact.key):
            raise RecordError(f"{name} names an artifact that is no valid key: {artifact.key!r}", key=name)
    if record.record_version == RECORD_VERSION:
        return record
    return attrs.evolve(record, state=state_of(record.status, record.failure), record_version=RECORD_VERSION)


def named_sizes(data: bytes) -> dict[str, int] | None:
    """Return the artifacts that a final record names, with their sizes, and do not check the rest of it.

    None for whatever is no final record: an open one, one of a run in scratch, of a newer version, or something else.
    """
    try:
        names = _names.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if names.record_version < RECORD_VERSION:
        is_final = names.status is not None
    else:
        is_final = names.record_version == RECORD_VERSION and names.state in ("published", "failed", "incomplete")
    return {each["key"]: each["size"] for each in names.artifacts} if is_final else None


def read_record(store: ArtifactStore) -> ExecutionRecord | None:
    """Return the record of a fragment's store, or None if the set is not published."""
    try:
        return decode_record(store.read_bytes(RECORD_NAME))
    except ArtifactNotFoundError:
        return None


def publish_record(
    record: ExecutionRecord,
    dest: ArtifactStore,
    *,
    over: ExecutionRecord | None = None,
    before_write: Callable[[], object] | None = None,
) -> bool:
    """Publish a set: write its record, last.

    First everything that the record names is made durable, and then the record, so that a power cut cannot leave a
    record without its artifacts. Nothing is written if the record that is there says the same, apart from its times.

    Parameters
    ----------
    record
        The record.
    dest
        The execution's folder in the results store, as a scoped store.
    over
        The record that this one was made from; no other is replaced. None replaces any record.
    before_write
        Called right before the record is written. If it raises, nothing is written.

    Returns
    -------
    bool
        Whether it was written; False if it was there already.

    Raises
    ------
    RecordVersionError
        If a newer emdstore wrote the record that is there. It stays.
    OvertakenError
        If somebody else has written another one meanwhile. It stays.
    StoreError
        If it could not be written. The old record stays, if there was one.
    """
    data, there = _record_there(dest)
    if over is not None and there != over:
        raise overtaken(record.fragment, dest)
    if there is not None:
        if says_the_same(there, record):
            return False
        record = attrs.evolve(record, generation=max(record.generation, there.generation))
    seen = None if data is None else sha256_of(data)
    return put_record(record, dest, seen, before_write=before_write)


def put_record(
    record: ExecutionRecord,
    dest: ArtifactStore,
    seen: str | None,
    *,
    before_write: Callable[[], object] | None = None,
) -> bool:
    """Write a record over the one with this SHA-256 (None: there is no record), and make it durable after what it
    names.

    See `publish_record`. Also returns False if somebody else has published the same meanwhile.
    """
    if isinstance(dest, SupportsFlush):
        dest.flush()
    if before_write is not None:
        before_write()
    try:
        write_seal(dest, RECORD_NAME, encode_record(record), seen, folder=record.fragment)
    except OvertakenError:
        if is_written(record, dest):
            return False
        raise
    if isinstance(dest, SupportsFlush):
        dest.flush()
    return True


def _record_there(dest: ArtifactStore) -> tuple[bytes | None, ExecutionRecord | None]:
    try:
        data = dest.read_bytes(RECORD_NAME)
    except ArtifactNotFoundError:
        return None, None
    try:
        return data, decode_record(data)
    except RecordVersionError:
        raise
    except RecordError:
        return data, None


def is_written(record: ExecutionRecord, dest: ArtifactStore) -> bool:
    """Tell whether the record that is there says the same, apart from when and by what software it was written.

    `RecordVersionError` if a newer emdstore wrote it.
    """
    _, there = _record_there(dest)
    return there is not None and says_the_same(there, record)


def says_the_same(one: ExecutionRecord, other: ExecutionRecord) -> bool:
    """Tell whether two records differ only in when, by what software and over which record they were written."""
    return _lasting(one) == _lasting(other)


def _lasting(record: ExecutionRecord) -> ExecutionRecord:
    return attrs.evolve(record, published_at=None, upload_duration=None, producer="", generation=0, replaces=None)


def find_stale(dest: ArtifactStore, keys: Iterable[str]) -> tuple[str, ...]:
    """List the keys in a fragment's store that are not part of its set, sorted."""
    known = {RECORD_NAME, RETRACTION_NAME, *keys}
    return tuple(key for key in dest.iter_keys() if key not in known)


class _Named(TypedDict):
    key: str
    size: int


@attrs.frozen
class _Names:
    record_version: int
    state: str | None = None
    status: str | None = None
    artifacts: tuple[_Named, ...] = ()


# Made here and not on first use, because msgspec crashes if several threads introduce a class at the same time.
_names = msgspec.json.Decoder(_Names)
_record = VersionedDecoder(ExecutionRecord, "record_version", RECORD_VERSION, RecordVersionError)
