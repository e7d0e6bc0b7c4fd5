"""Asking a store several things, at once if each answer takes long."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import TypeVar

from emdstore.errors import EmdstoreError
from emdstore.workers.backlog import executor_or_threads

T = TypeVar("T")

_AT_ONCE = 32


def ask_together(asked: Sequence[Callable[[], T]], *, at_once: bool) -> list[T | EmdstoreError]:
    """Ask one after the other, or all at once, and return each answer, or the error of ours instead of it.

    Any other error passes through. Nothing is changed by it: what is asked only reads, and after Ctrl-C nobody waits
    for it.

    Parameters
    ----------
    asked
        What to ask.
    at_once
        Whether to, because each answer takes long: see `is_far`.
    """
    if not at_once or len(asked) < 2:
        return [_answer(ask) for ask in asked]
    with executor_or_threads(None, min(len(asked), _AT_ONCE), "asking", only_read=True) as threads:
        answers = [threads.submit(contextvars.copy_context().run, _answer, ask) for ask in asked]
        return [each.result() for each in answers]


def answers_to(asked: Sequence[Callable[[], T]], *, at_once: bool) -> list[T]:
    """Ask as `ask_together` does, and raise the first error instead of returning it."""
    answers = []
    for answer in ask_together(asked, at_once=at_once):
        if isinstance(answer, EmdstoreError):
            raise answer
        answers.append(answer)
    return answers


def _answer(ask: Callable[[], T]) -> T | EmdstoreError:
    try:
        return ask()
    except EmdstoreError as error:
        return error
