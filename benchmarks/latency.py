"""How promptly a call ends that is aborted, or whose time is over; and how soon a runtime that is up is noticed."""

import random
import selectors
import socket
import threading
import time
from typing import Iterator, List

from runtimeuse_sync import CancelledException, RunTimeoutError, RuntimeUseClient

from .contenders import Work
from .measuring import Row, spread
from .server import Connection


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


def readiness(tries: int, longest_boot: float) -> Iterator[Row]:
    """Seconds from when a port serves until `wait_until_ready` returns, as 99th percentiles; and attempts per second.

    Args:
        tries: How many runtimes boot, all at the same time.
        longest_boot: The most seconds that one takes to boot; the least is 0.2.
    """
    chance = random.Random(1)
    attempts: List[int] = []
    titles = {False: "wait_until_ready, the port refuses before", True: "wait_until_ready, the port answers before"}
    for answers, title in titles.items():
        noticed: List[float] = []

        def boot(seconds: float, answers: bool = answers, noticed: List[float] = noticed) -> None:
            noticed.append(_boot(seconds, answers, attempts))

        threads = [
            threading.Thread(target=boot, args=(chance.uniform(0.2, longest_boot),), daemon=True) for _ in range(tries)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(noticed) == tries
        median, p99 = spread(noticed)
        yield Row(f"{title}, p99", "s", median, 0.0, 0.0, p99, 0.25, False)
    most = float(max(attempts))
    yield Row("wait_until_ready, attempts in any second, most", "", most, 0.0, 0.0, most, 10.0, False)


def _boot(seconds: float, answers: bool, attempts: List[int]) -> float:
    """Returns the seconds from the end of a boot until the client has noticed it.

    Args:
        seconds: How long the boot takes.
        answers: Whether the port accepts connections meanwhile, and closes them, as one does that is forwarded.
        attempts: Gets the most connections that it accepted in any one second.
    """
    accepted: List[float] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        client = RuntimeUseClient(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        returned: List[float] = []

        def wait() -> None:
            client.wait_until_ready(seconds + 30)
            returned.append(time.perf_counter())

        waiter = threading.Thread(target=wait, daemon=True)
        until = time.perf_counter() + seconds
        if answers:
            listener.listen()
        waiter.start()
        while answers:
            listener.settimeout(max(0.001, until - time.perf_counter()))
            try:
                listener.accept()[0].close()
                accepted.append(time.perf_counter())
            except socket.timeout:
                break
        if answers:
            attempts.append(max((sum(at <= each < at + 1 for each in accepted) for at in accepted), default=0))
        time.sleep(max(0.0, until - time.perf_counter()))
        listener.listen()
        serves = time.perf_counter()
        listener.settimeout(30)
        sock, _ = listener.accept()
        sock.setblocking(False)
        with selectors.DefaultSelector() as selector:
            Connection(sock, selector)
            while selector.get_map():
                for key, events in selector.select():
                    key.data.on_ready(events)
        waiter.join()
    return returned[0] - serves
