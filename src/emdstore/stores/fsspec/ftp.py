"""FTP, for reading.

fsspec's file system shares one connection, takes a folder that may not be listed for an empty one, calls every refusal
an absent file, and stops a download in the middle, after which some servers answer out of turn.
"""

from __future__ import annotations

import contextlib
import ftplib
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.ftp import FTPFileSystem

_NO_SUCH_COMMAND, _NOT_LOGGED_IN = ("500", "502"), "530"


class FTP(FTPFileSystem):  # type: ignore[misc]
    """A server that is listed by one connection for each thread, and read by one for each open file."""

    mv = AbstractFileSystem.mv  # what cannot be renamed cannot be written: uploads would appear before they are whole
    cat_file = AbstractFileSystem.cat_file

    def _connect(self) -> None:
        super()._connect()
        if self.tls is True and isinstance(self.ftp, ftplib.FTP_TLS):
            self.ftp.prot_p()  # fsspec asks for it only the first time; without it files come in the clear

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a folder, or describe a file.

        Raises
        ------
        FileNotFoundError, PermissionError
            If nothing is there, or the server refuses to list it.
        """
        path = self._strip_protocol(path)
        below = "" if path == "/" else path
        try:
            found = [_described(f"{below}/{name}", facts) for name, facts in self._entries(path)]
        except ftplib.error_perm as error:
            above, _, name = path.rpartition("/")
            if not name or str(error).startswith(_NOT_LOGGED_IN):
                raise PermissionError(str(error)) from None
            found = [each for each in self.ls(above or "/") if each["name"] == path]
            if not found:
                raise FileNotFoundError(path) from None
            if found[0]["type"] != "file":
                raise PermissionError(str(error)) from None
        return found if detail else [each["name"] for each in found]

    def _entries(self, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        try:
            return self._list(path)
        except (OSError, EOFError, ftplib.error_temp):  # servers close what was idle for some minutes
            self.ftp.close()
            return self._list(path)

    def _list(self, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        if self.ftp.sock is None:
            self._connect()
        try:
            return [each for each in self.ftp.mlsd(path) if each[1].get("type") not in ("cdir", "pdir")]
        except ftplib.error_perm as error:
            if not str(error).startswith(_NO_SUCH_COMMAND):
                raise
            lines: list[str] = []
            self.ftp.dir(path, lines.append)
            found = [_read_by_people(line) for line in lines if not line.startswith("total ")]
            return [each for each in found if each[0] not in (".", "..")]

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Any = None,
        autocommit: bool = True,
        **kwargs: Any,
    ) -> Any:
        if mode != "rb":
            raise NotImplementedError("FTP is for reading")
        other = FTP(**self.storage_options)
        try:
            return io.BufferedReader(_Download(other, self._strip_protocol(path)))
        except BaseException as error:
            other.ftp.close()
            if isinstance(error, ftplib.error_perm):
                self.info(path)  # which says if nothing is there
                raise PermissionError(str(error)) from None
            raise


def _read_by_people(line: str) -> tuple[str, Mapping[str, Any]]:
    """Take a line of a listing apart, as ``ls -l`` prints it; its times are not exact."""
    parts = line.split(maxsplit=8)
    if len(parts) != 9:
        raise ValueError("the server lists folders in a way that only people understand")
    return parts[8], {"type": {"d": "dir", "-": "file"}.get(line[0], "other"), "size": parts[4]}


def _described(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    said = str(facts.get("type", "something unknown")).lower()
    kind = "directory" if said == "dir" else said
    size = facts.get("size")
    found: dict[str, Any] = {"name": name, "type": kind, "size": None if size is None else int(size)}
    with contextlib.suppress(KeyError, ValueError):
        found["modified"] = datetime.strptime(facts["modify"][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return found


class _Download(io.RawIOBase):
    """A file on its way, by a connection of its own."""

    def __init__(self, server: FTP, path: str) -> None:
        self._server = server  # which closes its connection when nobody has it
        server.ftp.voidcmd("TYPE I")
        self._data = server.ftp.transfercmd(f"RETR {path}")
        self._is_over = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what has come; at the end, the server has to say that it sent everything."""
        if self._is_over:
            return 0
        count = int(self._data.recv_into(buffer))
        if not count:
            self._data.close()
            self._server.ftp.voidresp()
            self._is_over = True
        return count

    def close(self) -> None:
        """Close the connection, also in the middle."""
        if not self.closed:
            self._data.close()
            self._server.ftp.close()
        super().close()
