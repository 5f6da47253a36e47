"""A function in a thread of its own, for tests of what threads do to each other."""

from __future__ import annotations

import functools
import threading
from typing import Any, Callable, Optional

from .servers import PATIENCE


class InThread(threading.Thread):
    """Runs a function in a thread, and hands over what it returns or raises.

    Named like the package's own threads, so that one which is left behind is found as those are.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        super().__init__(name="runtimeuse-test-caller", daemon=True)
        self._work = functools.partial(function, *args, **keywords)
        self._result: Any = None
        self._error: Optional[BaseException] = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._wait()
        if self._error is not None:
            raise self._error
        return self._result

    def error(self) -> BaseException:
        self._wait()
        assert self._error is not None, f"it returned {self._result!r}"
        return self._error

    def _wait(self) -> None:
        self.join(PATIENCE)
        assert not self.is_alive(), "it never ended"
