"""How promptly a call ends that is aborted, or whose time is over."""

import threading
import time
from typing import Iterator, List

from runtimeuse_sync import CancelledException, RunTimeoutError

from .contenders import Work
from .measuring import Row, spread


def promptness(work: Work, tries: int) -> Iterator[Row]:
    """Milliseconds from `abort()` to the exception, and from the deadline to the exception: 99th percentiles."""
    aborts = [_abort(work) for _ in range(tries)]
    median, p99 = spread(aborts)
    yield Row("abort() to exception, p99", "ms", median, 0.0, 0.0, p99, 5.0, False)
    client = work.ours("/silent")
    overshoots: List[float] = []
    for _ in range(tries):
        started = time.perf_counter()
        try:
            client.query("p", timeout=0.02)
        except RunTimeoutError:
            overshoots.append((time.perf_counter() - started - 0.02) * 1000)
    assert len(overshoots) == tries
    median, p99 = spread(overshoots)
    yield Row("deadline overshoot, p99", "ms", median, 0.0, 0.0, p99, 10.0, False)


def _abort(work: Work) -> float:
    """Returns the milliseconds that one abort takes."""
    client = work.ours("/silent")
    ended: List[float] = []

    def call() -> None:
        try:
            _ = run.result  # waits
        except CancelledException:
            ended.append(time.perf_counter())

    with client.stream("p") as run:
        caller = threading.Thread(target=call)
        caller.start()
        # Long enough for the thread to wait in `result`.
        time.sleep(0.005)
        aborted = time.perf_counter()
        run.abort()
        caller.join()
    return (ended[0] - aborted) * 1000
