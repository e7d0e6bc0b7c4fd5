"""What runs took, by diagnostic."""

from __future__ import annotations

from tests.catalog.examples import execution_of

from emdstore.catalog import Catalog
from emdstore.catalog.resources import Percentiles, resources_by_diagnostic


def test_percentiles_are_numbers_that_were_measured() -> None:
    assert Percentiles.of(range(1, 11)) == Percentiles(10, 5, 9, 10)
    assert Percentiles.of([3.5]) == Percentiles(1, 3.5, 3.5, 3.5)
    assert Percentiles.of([2, 1]) == Percentiles(2, 1, 2, 2)
    assert Percentiles.of([]) is None


def test_each_diagnostic_has_what_was_measured_of_its_runs() -> None:
    with Catalog("sqlite://") as catalog:
        for number in range(10):
            measured = None if number == 9 else float(number)
            catalog.replace_execution(execution_of(f"run/{number}", wall_seconds=measured))
        catalog.replace_execution(execution_of("other", diagnostic="another", peak_memory_bytes=2**33))
        another, enso = resources_by_diagnostic(catalog.executions())
    assert (enso.diagnostic, enso.executions, enso.cpu_seconds) == ("enso", 10, None)
    assert enso.wall_seconds == Percentiles(9, 4.0, 8.0, 8.0)
    assert another.peak_memory_bytes == Percentiles(1, 2**33, 2**33, 2**33)
