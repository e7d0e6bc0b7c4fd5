"""Multipart uploads in progress in this process. If the process is killed, their parts stay behind, and cost money."""

from __future__ import annotations

from emdstore.per_process import PerProcess

_uploads: PerProcess[set[object]] = PerProcess(set)


def note_upload(upload: object) -> None:
    """Note that the server has parts of an upload."""
    _uploads.get().add(upload)


def forget_upload(upload: object) -> None:
    """Forget an upload that was completed or aborted."""
    _uploads.get().discard(upload)


def uploads_are_under_way() -> bool:
    """Tell whether parts would stay behind if this process ended now."""
    return bool(_uploads.get())
