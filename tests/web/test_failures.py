"""What a log says of a failure, and where pages say it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app
from emdstore.web.failures import find_cause, grouped

CHAINED = """INFO reading
Traceback (most recent call last):
  File "a.py", line 1, in read
KeyError: 'tas'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 214, in run
    metrics = compute(<model>)
  File "c.py", line 9, in compute
    raise lib.errors.GridError("cells <b> differ")
lib.errors.GridError: cells <b> differ
  in 3 places
INFO leaving
"""


@pytest.mark.parametrize(
    ("log", "text", "line"),
    [
        (CHAINED, "lib.errors.GridError: cells <b> differ", 12),
        ("a\nTraceback (most recent call last):\n  File 'x'\nKeyboardInterrupt\n", "KeyboardInterrupt", 3),
        ("[1]  Traceback (most recent call last):\n[1]    x\n", "[1]    x", 1),
        ("x\nValueError: 3 steps\ncleaning up\n", "ValueError: 3 steps", 1),
        (
            "step 1\nslurmstepd: error: Detected 1 oom-kill event\nbye",
            "slurmstepd: error: Detected 1 oom-kill event",
            1,
        ),
        ("Traceback (most recent call last):\n  File 'x'\n", None, 0),  # cut off there
        ("all is well\n", None, 0),
        ("", None, 0),
    ],
)
def test_the_cause_is_the_last_exception_or_else_the_last_error(log: str, text: str | None, line: int) -> None:
    cause = find_cause(log)
    assert (cause and (cause.text, cause.line)) == (text and (text, line))


def test_the_last_frames_say_where() -> None:
    cause = find_cause(CHAINED)
    assert cause is not None
    assert cause.frames[0].strip() == 'File "b.py", line 214, in run'
    assert len(cause.frames) == 4
    deep = "Traceback (most recent call last):\n" + "  frame\n" * 50 + "RecursionError: " + "x" * 999
    found = find_cause(deep)
    assert found is not None
    assert (len(found.frames), len(found.short)) == (8, 300)


def test_causes_that_differ_in_numbers_are_one() -> None:
    assert grouped(["E: 1.5 GiB", "K: a", "E: 22 GiB", "K: a", "K: a"]) == [("K: a", 3), ("E: 1.5 GiB", 2)]


@pytest.fixture(scope="module")
def failing(served: Callable[..., str]) -> Iterator[tuple[str, Catalog, InMemoryArtifactStore]]:
    store = InMemoryArtifactStore()
    with Catalog("sqlite://") as catalog:
        for number in range(3):
            log = CHAINED if number < 2 else "nothing to see\n"
            told: dict[str, Any] = {"status": "failed", "failure": "diagnostic", "complete": False, "state": "failed"}
            at = datetime(2025, 1, 1, number, tzinfo=UTC)
            fragment = f"p/d/g{number}/1"
            store.write_bytes(f"{fragment}/out.log", log.encode())
            catalog.replace_execution(
                ExecutionContent(
                    fragment=fragment, provider="p", diagnostic="d", group=f"g{number}", reason="the run failed",
                    artifacts=[("out.log", "log", len(log), None, "text/plain", None)], started_at=at, host="node-7",
                    retryable=number == 1, **told,
                )
            )  # fmt: skip
        yield served(make_app(catalog, store)), catalog, store


def test_the_list_says_what_failed_and_how_often(failing: tuple[str, Catalog, InMemoryArtifactStore]) -> None:
    home, _, _ = failing
    page = httpx.get(f"{home}executions?attention=1").text
    assert page.count('<span class="why"><code>lib.errors.GridError: cells &lt;b&gt; differ</code>') == 2
    assert page.count('<span class="why">the run failed</span>') == 1
    assert "<li><code>lib.errors.GridError: cells &lt;b&gt; differ</code> × 2</li>" in page


def test_the_page_says_where_it_was_raised_and_marks_the_line(
    failing: tuple[str, Catalog, InMemoryArtifactStore],
) -> None:
    home, catalog, _ = failing
    page = httpx.get(f"{home}execution/{catalog.execution('p/d/g1/1').execution_id}").text
    assert re.findall("<mark>(.*?)</mark>", page) == ["lib.errors.GridError: cells &lt;b&gt; differ"]
    assert "compute(&lt;model&gt;)" in page
    assert "node-7" in page
    assert "as it is: it may succeed" in page
    log = re.findall(r'<pre class="log" tabindex="0" aria-label="Log">(.*?)</pre>', page, re.DOTALL)[0]
    assert len(log.splitlines()) == len(CHAINED.splitlines())


def test_an_incomplete_set_says_what_is_missing_and_what_to_do(served: Callable[..., str]) -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(
            ExecutionContent(
                fragment="p/d/it's/1", provider="p", diagnostic="d", group="g", status="failed", failure="result",
                complete=False, state="incomplete", reason="missing: map.png",
                artifacts=[("map.png", "plot", 3, "0" * 64, "image/png", None)],
            )
        )  # fmt: skip
        home = served(make_app(catalog, InMemoryArtifactStore()))
        row = catalog.executions().first()
        assert row is not None
        page = httpx.get(f"{home}execution/{row.execution_id}").text
    assert "<dd><code>map.png</code>" in page
    assert "emdstore reingest &#39;p/d/it&#39;&#34;&#39;&#34;&#39;s/1&#39;" in page
