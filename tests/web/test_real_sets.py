"""What real frameworks wrote has pages too: all of it is on them, whatever it is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.real_sets import RealSets

from emdstore.catalog import Catalog
from emdstore.ingestion.replay import replay
from emdstore.stores import LocalArtifactStore
from emdstore.web.app import make_app


@pytest.mark.slow
@pytest.mark.once
def test_every_real_set_has_a_page_with_all_that_its_bundles_name(
    real_sets: RealSets, served: Callable[[Any], str], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    store = LocalArtifactStore(real_sets.scratch)
    with Catalog(tmp_path / "catalog.db") as catalog:
        replay(store, catalog)
        home = served(make_app(catalog, store))
        for row in catalog.executions():
            with subtests.test(row.fragment):
                answer = httpx.get(f"{home}execution/{row.execution_id}", timeout=60)
                assert answer.status_code == 200
                assert 'class="trouble"' not in answer.text
                files = set(re.findall(r'<tr data-key="([^"]+)">', answer.text))
                assert len(files) == real_sets.sets[row.fragment].counts.files + 4
                plots = [output for output in catalog.outputs(fragment=row.fragment) if output.kind == "plot"]
                assert len(re.findall(r'<figure class="plot"', answer.text)) == len(plots)
