"""Uploads in parts that are under way in this process: whoever ends it early leaves their parts behind, paid for."""

from __future__ import annotations

from emdstore.per_process import PerProcess

_uploads: PerProcess[set[object]] = PerProcess(set)


def note_upload(upload: object) -> None:
    """Note an upload of which the server has parts."""
    _uploads.get().add(upload)


def forget_upload(upload: object) -> None:
    """Forget an upload that is completed, or taken back."""
    _uploads.get().discard(upload)


def uploads_are_under_way() -> bool:
    """Tell whether parts would be left behind if this process ended now."""
    return bool(_uploads.get())
