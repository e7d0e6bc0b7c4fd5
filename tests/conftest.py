from __future__ import annotations

import os
from pathlib import Path

import pytest

# In this order: the second imports the first, whose assertions could no longer be rewritten then.
pytest_plugins = ["tests.servers.s3", "tests.servers.postgres"]


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Return the real EMDS sets: beside the project, or where EMDSTORE_SAMPLES says."""
    here = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("EMDSTORE_SAMPLES") or here.parent / "shared" / "emds-samples")
    if not (path / "SOURCES.md").is_file():
        pytest.skip(f"no sample sets at {path}; set EMDSTORE_SAMPLES")
    return path
