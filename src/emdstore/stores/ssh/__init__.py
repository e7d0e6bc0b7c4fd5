"""Artifacts as files of another machine, by SSH."""

from emdstore.stores.ssh.store import SSHArtifactStore

__all__ = ["SSHArtifactStore"]
