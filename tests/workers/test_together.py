from __future__ import annotations

import threading
from collections.abc import Callable

import attrs
import pytest

from emdstore import system
from emdstore.errors import StoreError
from emdstore.workers.together import answers_to, ask_together


def _fail() -> str:
    raise StoreError("no")


def test_what_takes_long_is_asked_at_once_and_answered_in_order() -> None:
    all_ask = threading.Barrier(3)

    def ask(number: int) -> Callable[[], int]:
        return lambda: number + 0 * all_ask.wait(10)

    assert ask_together([ask(0), ask(1), ask(2)], at_once=True) == [0, 1, 2]


def test_what_is_near_is_asked_one_after_the_other_without_threads() -> None:
    threads: list[int] = []
    ask_together([lambda: threads.append(threading.get_ident())] * 3, at_once=False)
    ask_together([lambda: threads.append(threading.get_ident())], at_once=True)  # one needs no other thread
    assert threads == [threading.get_ident()] * 4


@pytest.mark.parametrize("at_once", [False, True])
def test_an_error_of_a_store_stands_for_its_answer_and_any_other_is_raised(at_once: bool) -> None:
    first, second = ask_together([_fail, lambda: "there"], at_once=at_once)
    assert isinstance(first, StoreError)
    assert second == "there"
    with pytest.raises(StoreError):
        answers_to([lambda: "there", _fail], at_once=at_once)
    assert answers_to([lambda: "there"] * 2, at_once=at_once) == ["there"] * 2
    with pytest.raises(ZeroDivisionError):
        ask_together([lambda: 1 // 0, lambda: 1], at_once=at_once)


def test_threads_ask_on_the_same_machine() -> None:
    here = attrs.evolve(system.current(), host=lambda: "elsewhere")
    with system.using(here):
        assert ask_together([lambda: system.current().host()] * 2, at_once=True) == ["elsewhere"] * 2


def test_more_than_a_few_are_asked_by_as_many_threads() -> None:
    names: list[str] = []
    ask_together([lambda: names.append(threading.current_thread().name)] * 50, at_once=True)
    assert len(names) == 50
    assert len(set(names)) <= 32
