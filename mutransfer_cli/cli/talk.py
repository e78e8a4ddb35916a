"""How much a command says beside results, warnings and errors: as usual, less (-q) or more (-v)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Talk:
    notes, details = True, False


def talk_as_usual() -> None:
    """Say notes, and no details."""
    _Talk.notes, _Talk.details = True, False


def be_quiet() -> None:
    """Say no notes."""
    _Talk.notes = False


def be_verbose() -> None:
    """Say details too."""
    _Talk.details = True


@contextmanager
def aloud(result: bool) -> Iterator[None]:
    """Say notes within, even to users who want quiet, if they are the only form of the result."""
    before, _Talk.notes = _Talk.notes, _Talk.notes or result
    try:
        yield
    finally:
        _Talk.notes = before


def is_quiet() -> bool:
    """Whether only results, warnings and errors are wanted."""
    return not _Talk.notes


def _on_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def detail(make: Callable[[], str], say: Callable[[str], None] = _on_stderr) -> None:
    """Say a sentence to users who want to know more; only then is it made."""
    if _Talk.details:
        say(make())
