"""Processes for tests to start, each with an interpreter of its own that has everything imported."""

from __future__ import annotations

import multiprocessing

# A server that forks children: some 10 ms each, where a fresh interpreter takes 500. What it imports opens nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "psutil",
        "alembic.command",
        "sqlalchemy.dialects.sqlite",
        "sqlalchemy.dialects.postgresql.psycopg",
        "tests.catalog.examples",
        "tests.lifecycle.crash",
    ]
)
