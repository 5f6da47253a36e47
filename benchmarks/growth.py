"""What ten times as much takes: about ten times as long, and no more memory."""

import functools
import statistics
from typing import Any, Callable, Iterator, List, Tuple

import psutil

from .contenders import Work
from .measuring import Row, in_threads, sample


def growth(work: Work, rounds: int) -> Iterator[Row]:
    """The times that ten times the messages, bytes, calls and threads take, as multiples."""

    def messages(count: int) -> Callable[[], object]:
        return work.our_query(f"/stream/output/40/{count}", on_command_output=_ignore)

    def size(count: int) -> Callable[[], object]:
        return work.our_query(f"/result/{count}")

    def threads(count: int) -> Callable[[], object]:
        return functools.partial(in_threads, count, 1, work.our_query("/answer"))

    plan: List[Tuple[str, Callable[[int], Callable[[], object]], int]] = [
        ("10 × the messages", messages, 20_000),
        ("10 × the bytes of a result", size, 5_000_000),
        ("10 × the calls of a session", work.our_round_trips, 300),
        ("10 × the threads", threads, 20),
    ]
    for title, make, small in plan:
        few, many = make(small), make(10 * small)
        few()
        pairs = [(sample(few).wall, sample(many).wall) for _ in range(rounds)]
        once, tenfold = (statistics.median(values) for values in zip(*pairs))
        yield Row(title, "ms", once * 1000, tenfold * 1000, 0.0, tenfold / once, 11.0, False)
    yield _memory(messages)


def _memory(messages: Callable[[int], Callable[[], object]]) -> Row:
    """Resident memory after ten times the messages, against before."""
    messages(20_000)()
    process = psutil.Process()
    before = process.memory_info().rss
    messages(200_000)()
    grown = (process.memory_info().rss - before) / 2**20
    return Row("memory after 10 × the messages", "MiB", grown, 0.0, 0.0, grown, 4.0, False)


def _ignore(_: Any) -> None:
    return
