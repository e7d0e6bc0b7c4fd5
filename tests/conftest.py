from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# In this order: the second imports the first, whose assertions could no longer be rewritten then.
pytest_plugins = ["tests.servers.s3", "tests.servers.postgres"]

# A shell without job control has what it starts in the background ignore Ctrl-C, and all that this starts in turn.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Return the real EMDS sets: beside the project, or where EMDSTORE_SAMPLES says."""
    here = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("EMDSTORE_SAMPLES") or here.parent / "shared" / "emds-samples")
    if not (path / "SOURCES.md").is_file():
        pytest.skip(f"no sample sets at {path}; set EMDSTORE_SAMPLES")
    return path
