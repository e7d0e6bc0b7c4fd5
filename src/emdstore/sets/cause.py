"""Why a run failed, from the end of its log: the exception, where it was raised, and the line that says so."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs

from emdstore.stores.port import CHUNK_SIZE, ArtifactStore, SupportsStreaming

_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning|Fault)\b.*")
_TROUBLE = re.compile(
    r"\b(?:error|fatal|failed|failure|killed|abort(?:ed)?|segmentation fault|out of memory|oom)\b", re.I
)
_MOST_FRAMES = 8
_LONGEST = 300

LOG_BYTES = 64 * 1024
"""The end of a log in which a cause is looked for."""


@attrs.frozen
class Cause:
    """What a log says of the failure.

    Attributes
    ----------
    text
        The last exception or, if there is none, the last line that speaks of an error.
    line
        Its place among the lines of the log's end, from 0.
    frames
        The last frames of its traceback: where it was raised, and from where that was called.
    """

    text: str
    line: int
    frames: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The text, cut if it is very long."""
        return self.text if len(self.text) <= _LONGEST else self.text[: _LONGEST - 1] + "…"


def find_cause(log: str) -> Cause | None:
    """Find the cause of a failure in the end of a log; None if no line speaks of any."""
    lines = log.splitlines()
    begin = next((n for n in reversed(range(len(lines))) if lines[n].strip().endswith(_TRACEBACK)), None)
    if begin is not None:
        found = _after_traceback(lines, begin)
        if found is not None:
            return found
    for pattern in (_EXCEPTION.match, _TROUBLE.search):
        for number in reversed(range(len(lines))):
            if pattern(lines[number].strip()):
                return Cause(lines[number].strip(), number)
    return None


def _after_traceback(lines: Sequence[str], begin: int) -> Cause | None:
    """Return the exception at the end of a traceback: the first line that is not indented further than its head."""
    head = lines[begin]
    indent = head[: len(head) - len(head.lstrip())]
    for number in range(begin + 1, len(lines)):
        line = lines[number].removeprefix(indent)
        if line.strip() and not line.startswith((" ", "\t")):
            return Cause(line.strip(), number, tuple(lines[begin + 1 : number][-_MOST_FRAMES:]))
    return None


def read_cause(folder: ArtifactStore, log: str) -> tuple[str | None, int, str]:
    """Read a log, in bounded memory: the cause of a failure in one line, and the size and SHA-256 of what was read."""
    digest, size, end = hashlib.sha256(), 0, b""
    for chunk in _chunks(folder, log):
        digest.update(chunk)
        size += len(chunk)
        end = (end + chunk)[-LOG_BYTES:]
    cause = find_cause(end.decode("utf-8", "replace"))
    return None if cause is None else cause.short, size, digest.hexdigest()


def _chunks(folder: ArtifactStore, key: str) -> Iterator[bytes]:
    if not isinstance(folder, SupportsStreaming):
        yield folder.read_bytes(key)
        return
    with folder.open_reader(key) as reader:
        while chunk := reader.read(CHUNK_SIZE):
            yield chunk


def count_causes(causes: Iterable[str]) -> list[tuple[str, int]]:
    """Count equal causes, the most frequent first; numbers in them do not tell them apart."""
    seen: Counter[str] = Counter()
    first: dict[str, str] = {}
    for cause in causes:
        key = re.sub(r"\d+(?:\.\d+)?", "#", cause)
        first.setdefault(key, cause)
        seen[key] += 1
    return [(first[key], count) for key, count in seen.most_common()]
