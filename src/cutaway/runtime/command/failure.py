"""How a verb fails: the sentence that runc has for it, since engines read that, and its exit code."""

from __future__ import annotations

import os

from cutaway.kernel.errors import sentence


def said(error: Exception) -> str:
    """`sentence`, with what the kernel says as Go writes it, in small letters: engines look for that."""
    text = sentence(error)
    words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
    return text.replace(words, words.lower()) if words else text


class Failure(Exception):
    """What an invocation ends with: one sentence, and the exit code."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Misuse(Failure):
    """A command line that is wrong: the verb's usage is shown with it."""
