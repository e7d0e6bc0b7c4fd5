"""What became of the keys of a transfer, in little memory: of a million keys there may be a million outcomes.

An outcome is made when it is looked at. Until then its parts lie packed, one after the other, and only what went wrong
is kept as it is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, overload

import attrs

Outcome = Literal["copied", "unchanged", "missing", "rejected", "failed", "left"]
OUTCOMES: tuple[Outcome, ...] = ("copied", "unchanged", "missing", "rejected", "failed", "left")

_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_PENDING, _UNCHANGED = len(OUTCOMES), _CODES["unchanged"]
_UNKNOWN = -1
_LARGEST = 2**63 - 1
_SHA256_BYTES = 32
_NO_SHA256 = bytes(_SHA256_BYTES)


@attrs.frozen
class KeyOutcome:
    """The outcome of one key.

    Attributes
    ----------
    key
        The artifact's key.
    outcome
        ``copied``: its bytes are at the destination now; ``unchanged``: they were there before; ``missing``: it is not
        at the source; ``rejected``: its name or a link leads out of a store; ``failed``: see the error; ``left``: not
        moved because of its set: see the error.
    size
        Bytes, if known.
    sha256
        Hex digest of the bytes if they passed through or were compared; None if they were not read, or copied by the
        server.
    error
        Why it is missing, rejected or failed.
    """

    key: str
    outcome: Outcome
    size: int | None = None
    sha256: str | None = None
    error: Exception | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return KeyOutcome, (self.key, self.outcome, self.size, self.sha256, self.error)  # as fast as steps have to go


class _Texts:
    """Texts, one after the other in one buffer."""

    __slots__ = ("_bytes", "_ends")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, text: str) -> None:
        self._bytes += text.encode("utf-8", "surrogatepass")  # of names that are no keys, too
        self._ends.append(len(self._bytes))

    def ending_in(self, suffix: bytes) -> Iterator[int]:
        """Yield the positions of the texts that end so."""
        start, texts = 0, bytes(self._bytes)
        for position, end in enumerate(self._ends):
            if texts.endswith(suffix, start, end):
                yield position
            start = end

    def __getitem__(self, position: int) -> str:
        start = self._ends[position - 1] if position else 0
        return self._bytes[start : self._ends[position]].decode("utf-8", "surrogatepass")


class Outcomes(Sequence[KeyOutcome]):
    """The outcomes of a transfer, in the order in which its keys were planned.

    A sequence that equals a tuple of the same outcomes, and pickles. Only the transfer itself adds to it.

    Parameters
    ----------
    outcomes
        The initial outcomes.
    """

    __slots__ = (
        "_codes",
        "_digests",
        "_folder",
        "_folder_number",
        "_folder_of",
        "_folders",
        "_kept",
        "_names",
        "_sizes",
    )

    def __init__(self, outcomes: Iterable[KeyOutcome] = ()) -> None:
        self._folder: str | None = None  # that of the last key, which most keys share with the one before
        self._folder_number = -1
        self._folders, self._names = _Texts(), _Texts()
        self._folder_of = array("I")
        self._codes, self._sizes = bytearray(), array("q")
        self._digests = bytearray()
        self._kept: dict[int, KeyOutcome] = {}
        for each in outcomes:
            self.put(self.reserve(each.key), each)

    def reserve(self, key: str) -> int:
        """Return the position for the outcome of the next key."""
        folder, _, name = str(key).rpartition("/")
        if folder != self._folder:
            self._folder = folder
            self._folder_number += 1
            self._folders.append(folder)
        self._names.append(name)
        self._folder_of.append(self._folder_number)
        self._codes.append(_PENDING)
        self._sizes.append(_UNKNOWN)
        return len(self._codes) - 1

    def keep(self, unchanged: Iterable[tuple[str, int | None]]) -> int:
        """Record that the next keys are unchanged, as many are, given their sizes; return the sum of these."""
        total = 0
        for key, size in unchanged:
            position = self.reserve(key)
            if not _packs_size(size):
                self.put(position, KeyOutcome(key, "unchanged", size))
            else:
                self._codes[position] = _UNCHANGED
                if size is not None:
                    self._sizes[position] = size
            total += size or 0
        return total

    def put(self, position: int, outcome: KeyOutcome) -> None:
        """Record the outcome of a key."""
        self._codes[position] = _CODES[outcome.outcome]
        size, digest = outcome.size, outcome.sha256
        is_sized, packed = _packs_size(size), None if digest is None else _packed_digest(digest)
        if outcome.error is not None or not is_sized or (digest is not None and packed is None):
            self._kept[position] = outcome
        self._sizes[position] = size if size is not None and is_sized else _UNKNOWN
        if packed is not None:
            start = position * _SHA256_BYTES
            if len(self._digests) < start:
                self._digests.extend(bytes(start - len(self._digests)))
            self._digests[start : start + _SHA256_BYTES] = packed

    def settled(self) -> Outcomes:
        """Return the known outcomes: all of them, unless the transfer was interrupted."""
        if _PENDING not in self._codes:
            return self
        return Outcomes(self[position] for position, code in enumerate(self._codes) if code != _PENDING)

    def count_of(self, outcome: Outcome) -> int:
        """Return how many keys had this outcome."""
        return self._codes.count(_CODES[outcome])

    def of_kind(self, *kinds: Outcome) -> Iterator[KeyOutcome]:
        """Yield the outcomes of some kinds."""
        codes = {_CODES[kind] for kind in kinds}
        if any(map(self._codes.count, codes)):
            yield from (self[position] for position, code in enumerate(self._codes) if code in codes)

    def ending_in(self, suffix: str, outcome: Outcome) -> Iterator[KeyOutcome]:
        """Yield the outcomes of this kind whose keys end so; of the others nothing is made."""
        code = _CODES[outcome]
        if code in self._codes:
            for position in self._names.ending_in(suffix.encode()):
                if self._codes[position] == code:
                    yield self[position]

    def bytes_of(self, outcome: Outcome) -> int:
        """Return the total size of the keys with this outcome, as far as it is known."""
        code = _CODES[outcome]
        return sum(size for size, each in zip(self._sizes, self._codes, strict=True) if each == code and size > 0)

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, index: int) -> KeyOutcome: ...
    @overload
    def __getitem__(self, index: slice) -> Outcomes: ...
    def __getitem__(self, index: int | slice) -> KeyOutcome | Outcomes:
        if isinstance(index, slice):
            return Outcomes(self[position] for position in range(*index.indices(len(self))))
        position = range(len(self))[index]  # as a tuple takes it
        if (kept := self._kept.get(position)) is not None:
            return kept
        folder, name = self._folders[self._folder_of[position]], self._names[position]
        start = position * _SHA256_BYTES
        digest = self._digests[start : start + _SHA256_BYTES]
        size = self._sizes[position]
        return KeyOutcome(
            f"{folder}/{name}" if folder else name,
            OUTCOMES[self._codes[position]],
            None if size == _UNKNOWN else size,
            digest.hex() if any(digest) else None,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(_are_equal, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {each}" for each in OUTCOMES if (count := self.count_of(each)))
        return f"<outcomes: {counts or 'none'}>"


def packed(outcomes: Iterable[KeyOutcome]) -> Outcomes:
    """Return outcomes packed, if they are not yet."""
    return outcomes if isinstance(outcomes, Outcomes) else Outcomes(outcomes)


def _are_equal(one: KeyOutcome, other: object) -> bool:
    return one == other


def _packed_digest(digest: str) -> bytes | None:
    """Return the bytes of a SHA-256; None if this is none, or the one of zeros alone, which stand for none."""
    try:
        found = bytes.fromhex(digest)
    except ValueError:
        return None
    return found if len(found) == _SHA256_BYTES and found.hex() == digest and found != _NO_SHA256 else None


def _packs_size(size: int | None) -> bool:
    return size is None or 0 <= size <= _LARGEST
