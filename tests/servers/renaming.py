"""A file system that can rename and is not known to be this machine's, as those of SFTP or HDFS are.

It is fsspec's own for local disks under another name. Importing this module registers it, so that a store which came
here by pickle finds it, too.
"""

from __future__ import annotations

from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from emdstore.stores.fsspec import FsspecArtifactStore


class RenamingFileSystem(LocalFileSystem):
    protocol = "renaming"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("renaming://"))


class RenamingStore(FsspecArtifactStore):
    """Opens ``renaming:///path``."""


fsspec.register_implementation("renaming", RenamingFileSystem, clobber=True)
