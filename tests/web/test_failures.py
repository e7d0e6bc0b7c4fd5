"""Why runs failed, as pages say it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from emdstore import ExecutionRecord, ExecutionResult, replay, scoped
from emdstore.catalog import Catalog, ExecutionContent
from emdstore.sets.origin import Resources
from emdstore.sets.publish import publish_set
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app

LOG = """INFO reading
Traceback (most recent call last):
  File "b.py", line 214, in run
    metrics = compute(<model>)
lib.errors.GridError: %d cells <b> differ
INFO leaving
"""


@pytest.fixture(scope="module")
def failing(served: Callable[..., str]) -> Iterator[tuple[str, Catalog, InMemoryArtifactStore]]:
    store = InMemoryArtifactStore()
    with Catalog("sqlite://") as catalog:
        for number in range(3):
            scratch, fragment = InMemoryArtifactStore(), f"p/d/g{number}/1"
            scratch.write_bytes("out.log", (LOG % number if number < 2 else "nothing to see\n").encode())
            identity = ExecutionRecord.at(
                fragment,
                started_at=datetime(2025, 1, 1, number, tzinfo=UTC),
                host="node-7",
                resources=Resources(peak_memory_bytes=3_200_000_000, exit_code=137),
            )
            result = ExecutionResult(successful=False, retryable=number == 1)
            publish_set(identity, result, source=scratch, dest=scoped(store, fragment))
        replay(store, catalog)
        yield served(make_app(catalog, store)), catalog, store


def test_the_list_says_what_failed_and_how_often(failing: tuple[str, Catalog, InMemoryArtifactStore]) -> None:
    home, _, _ = failing
    page = httpx.get(f"{home}executions?attention=1").text
    why = re.findall('<span class="why"><code>(.*?)</code>', page)
    assert sorted(why) == [f"lib.errors.GridError: {n} cells &lt;b&gt; differ" for n in (0, 1)]
    assert page.count('<span class="why">') == 3
    link, cause = re.findall('<li><a href="(.*?)"><code>(.*?)</code></a> × 2</li>', page)[0]
    assert cause in why
    assert httpx.get(home + html.unescape(link)).text.count('<span class="why">') == 2


def test_the_page_says_where_it_was_raised_and_marks_the_line(
    failing: tuple[str, Catalog, InMemoryArtifactStore],
) -> None:
    home, catalog, _ = failing
    page = httpx.get(f"{home}execution/{catalog.execution('p/d/g1/1').execution_id}").text
    assert re.findall("<mark>(.*?)</mark>", page) == ["lib.errors.GridError: 1 cells &lt;b&gt; differ"]
    assert "compute(&lt;model&gt;)" in page
    told = dict(re.findall("<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page))
    assert (told["on"], told["exit code"], told["memory"]) == ("node-7", "137", "3.2 GB")
    assert "as it is: it may succeed" in page
    assert "emdstore run --provider p --diagnostic d --group g1 -- PROGRAM" in page
    log = re.findall(r'<pre class="log" tabindex="0" aria-label="Log">(.*?)</pre>', page, re.DOTALL)[0]
    assert len(log.splitlines()) == len(LOG.splitlines())


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
