"""What an adopter works with: the folder that it reads, and the sets that it finds there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import attrs

from emdstore.emds import MetricBundle, OutputKind, Series, media_type
from emdstore.errors import StoreNotFoundError
from emdstore.keys import in_folder
from emdstore.sets.origin import Dataset
from emdstore.stores.left_out import iter_known
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import LeftOut

NO_VALUES = MetricBundle((), {}, {}, {"PROVENANCE": None, "DISCLAIMER": None, "NOTES": None})
"""The metric bundle of a set without scalars."""


@attrs.frozen
class Left:
    """Something in the folder that is part of no set.

    Attributes
    ----------
    name
        The file, relative to the folder; a folder ends with ``/``.
    reason
        Why it is left out, as the rest of a sentence that begins with its name.
    lost
        Whether it holds results that should have been taken, but could not be.
    """

    name: str
    reason: str
    lost: bool = False


@attrs.frozen(kw_only=True)
class FoundOutput:
    """A file of the folder that is to be a plot, data or a page of a set; its key stays the same."""

    key: str
    kind: OutputKind
    long_name: str
    description: str = ""
    dimensions: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls, key: str, long_name: str = "", description: str = "", dimensions: Mapping[str, str] | None = None
    ) -> FoundOutput:
        """Return the output for a file, of the kind that its suffix says; by default its name is what it is called."""
        kind, name = output_kind_of(key), key.rpartition("/")[2]
        return cls(
            key=key, kind=kind, long_name=long_name or name, description=description, dimensions=dimensions or {}
        )


@attrs.frozen(kw_only=True)
class FoundSet:
    """One set that an adopter found.

    Attributes
    ----------
    provider, diagnostic, group
        Its identity, in any spelling; what cannot be in a path becomes a hyphen. The group may have several segments.
    name
        What tells this run from others of the same group. None for a digest of the values and the files' names: a run
        with other values is another execution then.
    metric, series
        Its values. The positions of the series do not matter.
    outputs
        Its files.
    index
        The page to open first.
    log
        The file that becomes its log.
    successful
        Whether the run succeeded. Of one that failed only the log is published.
    datasets, software, provider_version
        What it read, and what computed it.
    selectors, description
        What the group's datasets have in common, and a description.
    started_at, stopped_at
        Aware datetimes.
    """

    provider: str
    diagnostic: str
    group: str = "default"
    name: str | None = None
    metric: MetricBundle = NO_VALUES
    series: tuple[Series, ...] = ()
    outputs: tuple[FoundOutput, ...] = ()
    index: str | None = None
    log: str | None = None
    successful: bool = True
    datasets: tuple[Dataset, ...] = ()
    software: Mapping[str, str] = attrs.field(factory=dict)
    provider_version: str | None = None
    selectors: Mapping[str, str] = attrs.field(factory=dict)
    description: str | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None


class Source:
    """A folder that a framework has written. It is read, and never changed.

    Whatever an adopter neither puts into a set, nor marks by `used` or `leave_out`, is reported as left out.

    Attributes
    ----------
    path
        The folder.
    store
        The folder as a store.
    keys
        Its files, sorted.
    left
        What is left out so far.

    Raises
    ------
    StoreNotFoundError
        If there is no such folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_dir():
            raise StoreNotFoundError(f"there is no folder {str(self.path)!r} to adopt", key=str(path))
        self.store = LocalArtifactStore(self.path)
        self.left: list[Left] = []
        known = iter_known(self.store, left_out=self._cannot_be_named)
        self.keys = tuple(sorted(each if isinstance(each, str) else each.key for each in known))
        self._used: set[str] = set()

    def _cannot_be_named(self, each: LeftOut) -> None:
        self.left.append(Left(each.name, each.reason, lost=True))

    def read(self, key: str) -> bytes:
        """Return the content of a file."""
        return self.store.read_bytes(key)

    def text(self, key: str) -> str:
        """Return the content of a file as text; bytes that are not UTF-8 are replaced."""
        return self.read(key).decode("utf-8", "replace")

    def below(self, folder: str) -> list[str]:
        """Return the files in a folder, and in those below it."""
        return [key for key in self.keys if in_folder(key, folder)]

    def used(self, *keys: str) -> None:
        """Say that everything in some files is in a set, though the files themselves are not."""
        self._used.update(keys)

    def leave_out(self, name: str, reason: str, *, lost: bool = False) -> None:
        """Leave out a file, or a folder, whose name ends with ``/``, with the reason.

        With a reason why something *in* a file is left out, the file itself may be part of a set.
        """
        self._used.update(self.below(name.rstrip("/")) if name.endswith("/") else ())
        self._used.add(name)
        self.left.append(Left(name, reason, lost))

    def untold(self, taken: Iterable[str]) -> list[Left]:
        """Return the files about which nothing was said."""
        said = self._used.union(taken)
        return [Left(key, "belongs to no set that was recognised") for key in self.keys if key not in said]


Adopter: TypeAlias = Callable[[Source], Iterable[FoundSet]]
"""Finds the sets in a folder. An entry point of the group ``emdstore.adopters`` names one."""


def output_kind_of(key: str) -> OutputKind:
    """Return what kind of output a file is, by its suffix."""
    media = media_type(key)
    if media == "text/html":
        return "html"
    pictures = ("application/pdf", "application/postscript")
    return "plot" if media.startswith("image/") or media in pictures else "data"


def assign(keys: Iterable[str], labels: Sequence[Sequence[str]]) -> list[list[str]]:
    """Sort files by what their names say they are of.

    Parameters
    ----------
    keys
        The files.
    labels
        For each set the words that the names of its files contain, as whole words. The longest ones count.

    Returns
    -------
    list of list of str
        The files of each set, and at the end those of none.
    """
    patterns = [[re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])") for word in each] for each in labels]
    found: list[list[str]] = [[] for _ in (*labels, None)]
    for key in keys:
        last = key.rpartition("/")[2]
        fitting = [at for at, each in enumerate(patterns) if each and all(word.search(last) for word in each)]
        found[max(fitting, key=lambda at: sum(map(len, labels[at])), default=-1)].append(key)
    return found
