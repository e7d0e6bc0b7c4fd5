"""The exit codes are told in one place, and the same everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cli.conftest import Here

from emdstore import errors
from emdstore.cli import exit_codes
from emdstore.cli.options import NothingMatchedError, WrongCallError

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_the_page_and_the_help_have_every_code_with_its_meaning(here: Here) -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows.keys() == {str(code) for code in exit_codes.MEANINGS}
    said = " ".join(here("--help").out.split())
    for code, meaning in exit_codes.MEANINGS.items():
        assert rows[str(code)].startswith(meaning)
        assert f"{code} {meaning}" in said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NothingMatchedError("x"), 4),
        (errors.ArtifactNotFoundError("x"), 4),
        (errors.ExecutionNotFoundError("x"), 4),
        (errors.ReleaseNotFoundError("x"), 4),
        (errors.SnapshotNotFoundError("x"), 4),
        (WrongCallError("x"), 2),
        (errors.StoreUnavailableError("x"), 3),
        (errors.CatalogUnavailableError("x"), 3),
        (errors.StoreURLError("x"), 2),
        (errors.StoreAccessError("x"), 2),
        (errors.StoreNotFoundError("x"), 2),
        (errors.SelectionError("x"), 2),
        (errors.ExportError("x"), 2),
        (errors.CatalogError("x"), 1),
        (errors.RecordError("x"), 1),
        (errors.IntegrityError("x"), 1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_error_leads_to_its_code(error: errors.EmdstoreError, code: int) -> None:
    assert exit_codes.exit_code(error) == code
