"""What a run has seen: a place to tell it, and for the press a way to hear it.

Needs no torch, so that the claims can be read without it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str, dict], None]] = []  # empty outside a published run


def note(event: str, **facts) -> None:
    """Tell whoever listens that something was loaded, trained or printed. Nobody does,
    but for the press while it runs a chapter: the stamp is made of these notes."""
    for listener in _listeners:
        listener(event, facts)


def heard() -> bool:
    """Whether somebody listens: the press, which runs a chapter to publish it."""
    return bool(_listeners)


@contextmanager
def listening(listener: Callable[[str, dict], None]) -> Iterator[None]:
    """Hand every `note` to `listener` for a while."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
