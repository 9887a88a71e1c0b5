"""Predictions: what a reader is asked before the answer shows, and a kind word when it does."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutaway.lessons.lesson import Ask, Guess

LETTERS = "abcdefg"
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")


def choices(ask: Ask) -> list[str]:
    """What there is to choose from, in an order that does not give the right one away and is always the same."""
    mixed = [ask.right, *ask.wrong]
    random.Random(ask.question).shuffle(mixed)
    return mixed


def letter_of(text: str, ask: Ask) -> str | None:
    """The choice that a reader's line means; None where it means none."""
    typed = text.strip().lower().rstrip(").")
    return typed if len(typed) == 1 and typed in LETTERS[: len(ask.wrong) + 1] else None


def number_of(text: str) -> float | None:
    """The number in a reader's line: `77`, `77 %`, `about 77,5`; None where there is none."""
    found = _NUMBER.search(text)
    return float(found[0].replace(",", ".")) if found else None


def judge_choice(ask: Ask, said: str | None) -> str:
    """What to say to the choice `said`; None for no prediction."""
    right = LETTERS[choices(ask).index(ask.right)]
    if said == right:
        return f"{right}, as you said. {ask.because}"
    instead = f"You said {said}; it" if said else "It"
    return f"{instead} is {right}) {ask.right}. {ask.because}"


def judge_number(guess: Guess, said: float | None, answer: float) -> str:
    """What to say to the number `said`, where `answer` is right."""
    if said is None:
        return f"It is {answer:g}. {guess.because}"
    distance = abs(said - answer)
    if distance <= guess.within:
        return f"{answer:g}: you said {said:g}, well predicted. {guess.because}"
    near = "Close, but it" if distance <= max(3 * guess.within, abs(answer) / 10) else f"You said {said:g}; it"
    return f"{near} is {answer:g}. {guess.because}"
