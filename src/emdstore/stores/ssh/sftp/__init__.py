"""SFTP, for accounts that can do nothing else: no program is run at the other end."""

from emdstore.stores.ssh.sftp.store import Pending, Sftp

__all__ = ["Pending", "Sftp"]
