"""The bare stream that SSH is measured beside."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from benchmarks import stream


def _sent(folder: Path) -> bytearray:
    (folder / "sub folder").mkdir(parents=True)
    for number, size in enumerate((0, 1, 70_000)):
        (folder / "sub folder" / f"{number} é.bin").write_bytes(bytes([number]) * size)
    out = BytesIO()
    stream.send(out, str(folder))
    return bytearray(out.getvalue())


def test_what_was_sent_arrives(tmp_path: Path) -> None:
    stream.receive(BytesIO(_sent(tmp_path / "here")), str(tmp_path / "there"))
    assert [path.read_bytes() for path in sorted((tmp_path / "there").rglob("*.bin"))] == [b"", b"\1", b"\2" * 70_000]


def test_other_bytes_are_noticed(tmp_path: Path) -> None:
    sent = _sent(tmp_path / "here")
    sent[sent.index(b"\2\2\2")] = 3
    with pytest.raises(ValueError, match="other bytes"):
        stream.receive(BytesIO(sent), str(tmp_path / "there"))
