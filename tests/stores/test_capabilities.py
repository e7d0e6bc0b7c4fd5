"""The table of what each kind of store can do is made from the stores."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.needs("webdav")
def test_the_table_of_the_pages_is_what_the_stores_claim() -> None:
    table = runpy.run_path(str(ROOT / "docs/site/capabilities.py"))["matrix"]()
    assert table in (ROOT / "docs/sites.md").read_text(encoding="utf-8")
