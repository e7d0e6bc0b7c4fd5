"""The command that looks at an installation and tries a store."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.cli.test_export import answers_to

import emdstore


def test_an_installation_is_told_and_a_store_is_tried(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "closed").write_text("a file")
    alone, tried, document, nowhere, file = answers_to(
        ["doctor", "doctor results", "doctor results --json", "doctor nowhere", "doctor closed"],
        tmp_path,
        AWS_SECRET_ACCESS_KEY="hush-hush",
        COLUMNS="200",
    )
    assert (alone.code, tried.code, document.code, nowhere.code, file.code) == (0, 0, 0, 2, 2)
    for text in (emdstore.__version__, sys.version.split()[0], "sqlalchemy", "AWS_SECRET_ACCESS_KEY"):
        assert text in alone.out
    assert "hush-hush" not in alone.out + document.out
    assert "throughput" not in alone.out
    assert [line.split()[0] for line in tried.out.splitlines() if " ok " in line][:2] == ["reading", "writing"]
    assert {each["outcome"] for each in document.json["items"]} <= {"ok", "note"}
    assert document.json["versions"]["emdstore"] == emdstore.__version__
    assert "AWS_SECRET_ACCESS_KEY" in document.json["variables"]
    assert list((tmp_path / "results").iterdir()) == []
