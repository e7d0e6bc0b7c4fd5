"""Ctrl-C that comes where it would do harm waits, and is never lost."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from emdstore.workers.interrupts import uninterrupted


@pytest.fixture(autouse=True)
def handler() -> Any:
    before = signal.getsignal(signal.SIGINT)
    yield before
    assert signal.getsignal(signal.SIGINT) is before


def test_it_comes_when_the_last_block_has_ended() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
            done.append("inner")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner"]


def test_it_comes_when_the_block_failed() -> None:
    def work() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("what others would handle")

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_it_comes_once() -> None:
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
    with uninterrupted():
        pass


def test_blocks_of_greenlets_overlap_without_being_nested(handler: object) -> None:
    first, second = uninterrupted(), uninterrupted()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    signal.raise_signal(signal.SIGINT)  # still waits
    with pytest.raises(KeyboardInterrupt):
        second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is handler
