"""The files of a set as its bundles name them, and what is wrong with them."""

from __future__ import annotations

import functools
import os
from typing import cast

import attrs

from emdstore.emds import (
    ArtifactSet,
    BundleRole,
    BundleWarning,
    OutputBundle,
    artifact_set,
    read_bundle,
)
from emdstore.errors import BundleError, EmdstoreError, UnsafePathError
from emdstore.sets.result import LOG_NAME, ExecutionResult
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsPath

_FOLDERS = (".zarr", ".n5")


@attrs.frozen
class ArtifactProblem:
    """An artifact that did not arrive or cannot be read, and why."""

    key: str
    error: Exception = attrs.field(eq=str)


class Curated:
    """The set that a result describes, frozen: its current bundles, and the list of files that they name.

    The bundles are shipped as they were read here. If the run adds a plot meanwhile and rewrites its bundles, two
    states do not mix: the addition waits for the next call.
    """

    def __init__(self, source: ArtifactStore, result: ExecutionResult, fragment: str | None) -> None:
        self._source = source
        self._folder = os.fspath(source.local_path()) if isinstance(source, SupportsPath) else None
        self.frozen = InMemoryArtifactStore()
        self.unread: dict[str, EmdstoreError] = {}
        self.unreadable: list[ArtifactProblem] = []
        self.warnings: list[BundleWarning] = []
        named = functools.partial(
            artifact_set,
            log=LOG_NAME,
            metric=result.metric_bundle_filename,
            output=result.output_bundle_filename,
            series=result.series_filename,
            ran_in=_places(self._folder, result),
            fragment=fragment,
            files_below=self._files_below,
        )
        self.set: ArtifactSet = named(bundle=self._read_all(named()))
        self.warnings.extend(self.set.warnings)

    def _read_all(self, named: ArtifactSet) -> OutputBundle | None:
        bundle = None
        for artifact in named.artifacts:
            if artifact.role == "log":
                continue
            try:
                data = self._source.read_bytes(artifact.key)
            except EmdstoreError as error:
                self.unread[artifact.key] = error
                continue
            self.frozen.write_bytes(artifact.key, data)
            try:
                read, warnings = read_bundle(cast("BundleRole", artifact.role), data, name=artifact.key)
            except BundleError as error:
                self.unreadable.append(ArtifactProblem(artifact.key, error))
                continue
            self.warnings.extend(warnings)
            bundle = read if isinstance(read, OutputBundle) else bundle
        return bundle

    def _files_below(self, key: str) -> list[str]:
        """Return the contents of a folder that an output bundle names; nothing if it names a file."""
        is_folder = _may_be_folder(key) if self._folder is None else os.path.isdir(os.path.join(self._folder, key))
        try:
            return list(self._source.iter_keys(key)) if is_folder else []
        except UnsafePathError:  # reported when the artifact itself is read
            return []


def _may_be_folder(key: str) -> bool:
    """Tell whether a name may be that of a folder, in a store that has no folders."""
    name = key.rpartition("/")[2]
    return name.endswith(_FOLDERS) or "." not in name


def _places(folder: str | None, result: ExecutionResult) -> tuple[str, ...]:
    """Return the paths under which the run may have known its output directory."""
    here = [folder, os.path.realpath(folder)] if folder is not None else []
    ran_in = [result.output_directory] if result.output_directory is not None else []
    return tuple(dict.fromkeys([*ran_in, *here]))
