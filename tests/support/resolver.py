"""A stand-in for the system's look-up of names, which hangs until a test lets it go on."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from .servers import PATIENCE


class HangingResolver:
    """Stands in for `socket.getaddrinfo`.

    Args:
        names: What it is asked for; the system is asked for other names. None: it is asked for all.

    Attributes:
        asked: For each question the name, and the name of the thread.
        hangs: Set by each question.
        go_on: Has all questions answered, once it is set.
        outcome: Returns the answer, or raises.
    """

    def __init__(self, *names: str) -> None:
        self.asked: List[Tuple[str, str]] = []
        self.hangs = threading.Event()
        self.go_on = threading.Event()
        self.outcome: Callable[[], List[Any]] = list
        self._names = names
        self._system = socket.getaddrinfo

    def __call__(self, host: Any, *others: Any, **more: Any) -> List[Any]:
        if self._names and host not in self._names:
            return self._system(host, *others, **more)
        self.asked.append((host, threading.current_thread().name))
        self.hangs.set()
        assert self.go_on.wait(2 * PATIENCE)
        return self.outcome()


@contextlib.contextmanager
def hanging_resolver(*names: str) -> Iterator[HangingResolver]:
    """Yields a resolver in the system's place."""
    resolver = HangingResolver(*names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolver)
        yield resolver
        resolver.go_on.set()


def addresses(*ports: int) -> List[Any]:
    """Returns what a resolver does that finds these ports on loopback."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
