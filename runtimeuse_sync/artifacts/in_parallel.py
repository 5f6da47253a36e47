"""Calls a function for each of many items, in a few threads: for questions to a storage, which take their time.

Threads: the caller's works as well. The others are named `runtimeuse-lookup`. They end with the last item, or, if one
fails or the caller is interrupted, after the item that they are at.
"""

import math
import threading
from collections import deque
from typing import Callable, List, Sequence, TypeVar

from .._interrupts import cleaned_up
from .._threads import join_thread, new_thread, start_thread
from ..errors import RuntimeUseError

#: How many threads help the caller's. A boto3 client has ten connections.
_HELPERS = 7

#: For how many items one more thread is worth its start.
_WORTH_A_THREAD = 4

_T = TypeVar("_T")


def for_each(items: Sequence[_T], do: Callable[[_T], None]) -> None:
    """Calls a function for each item, in no certain order, and returns when all are done.

    Args:
        items: The items.
        do: The function, which may run in several threads at once.

    Raises:
        BaseException: What the function raises. Other items may not be done then.
    """
    pending = deque(items)
    errors: List[BaseException] = []
    helpers: List[threading.Thread] = []

    def work() -> None:
        while True:
            try:
                item = pending.popleft()
            except IndexError:
                return
            do(item)

    def help_out() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)  # Raised in the caller's thread.
            pending.clear()

    def work_together() -> None:
        for _ in range(min(_HELPERS, len(items) // _WORTH_A_THREAD)):
            helper = new_thread(help_out, "runtimeuse-lookup")
            try:
                start_thread(helper)
            except RuntimeUseError:
                # No more threads can be started. Those there are will do.
                break
            helpers.append(helper)
        work()
        for helper in helpers:
            join_thread(helper, math.inf)

    cleaned_up(work_together, pending.clear)
    if errors:
        raise errors[0]
