"""What the pages tell of each kind of store is what the stores do."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from emdstore.errors import StoreURLError
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.fsspec.systems import class_of, mechanics_of

ROOT = Path(__file__).parents[2]


@pytest.mark.needs("webdav")
def test_the_table_of_the_pages_is_what_the_stores_claim() -> None:
    table = runpy.run_path(str(ROOT / "docs/site/capabilities.py"))["matrix"]()
    assert table in (ROOT / "docs/sites.md").read_text(encoding="utf-8")


def test_each_kind_of_site_is_told_of_completely() -> None:
    told = re.split(r"^## ", (ROOT / "docs/sites.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    kinds = {
        part.partition("\n")[0]: part for part in told if "\n| |" in part and "<!--" not in part.partition("```")[0]
    }
    assert len(kinds) >= 9
    for kind, part in kinds.items():
        assert "```python" in part or "```bash" in part, kind
        for row in ("credentials", "atomic", "proves bytes", "slow", "errors"):
            assert f"\n| {row} |" in part, (kind, row)


def test_each_file_system_does_what_the_table_says_of_it() -> None:
    table = (
        (ROOT / "docs/sites.md")
        .read_text(encoding="utf-8")
        .partition("<!-- file systems -->")[2]
        .partition("<!-- end -->")[0]
    )
    rows = re.findall(r"^\| (`.+?) \| (.+?) \|", table, flags=re.MULTILINE)
    seen = set()
    for schemes, use in rows:
        for scheme in re.findall(r"`(\w+)`", schemes):
            try:
                kind = class_of(scheme)
            except (ImportError, ValueError, AttributeError):
                continue  # its package is not here
            seen.add(use)
            if use == "refused":
                with pytest.raises(StoreURLError):
                    FsspecArtifactStore(f"{scheme}::memory://x")
                continue
            can_write = mechanics_of(object.__new__(kind)) != "read"
            assert can_write == (use == "reading and writing"), scheme
    assert seen == {"reading and writing", "reading", "refused", "nothing"}
