"""Throughput, calls and start-up: the rows in which we are compared with the async client."""

import asyncio
import functools
import os
import subprocess
import sys
import tempfile
from typing import Any, Callable, Iterator, List, Tuple

import psutil

from .contenders import Work
from .measuring import Row, faster, in_threads, in_turns, shorter


def _ignore(_: Any) -> None:
    return


async def _ignore_async(_: Any) -> None:
    return


def streams(work: Work, rounds: int) -> Iterator[Row]:
    """Messages per second, with a callback for each; and megabytes per second, in large chunks."""
    names = {"output": "on_command_output", "lines": "on_command_output", "assistant": "on_assistant_message"}
    plan: List[Tuple[str, str, int, int, float]] = [
        ("20,000 command outputs of 40 B", "output", 40, 20_000, 2.5),
        ("20,000 assistant messages of 40 B", "assistant", 40, 20_000, 2.5),
        ("chunks of 64 KB", "output", 64_000, 1_000, 1.2),
        ("chunks of 900 KB", "output", 900_000, 100, 1.2),
        ("chunks of 64 KB in lines", "lines", 64_000, 1_000, 1.2),
        ("chunks of 900 KB in lines", "lines", 900_000, 100, 1.2),
    ]
    if work.secure:
        # TLS limits all contenders alike, and lines make no difference to it.
        plan = [(*each[:4], 1.3 if each[2] > 1000 else each[4]) for each in plan if each[1] != "lines"]
    for title, kind, size, count, bar in plan:
        path = f"/stream/{kind}/{size}/{count}"
        callback = names[kind]
        taken = in_turns(
            {
                "ours": work.our_query(path, **{callback: _ignore}),
                "theirs": work.their_query(path, **{callback: _ignore_async}),
                "raw": work.raw_query(path),
            },
            rounds,
        )
        small = size < 1000
        yield _named(
            work, faster(title, "messages/s" if small else "MB/s", count if small else size * count / 1e6, taken, bar)
        )
        if work.secure and not small:
            times = {name: each.wall * 1000 for name, each in taken.items()}
            ratio = times["ours"] / times["raw"]
            row = Row(f"{title}: time ÷ raw socket", "ms", times["ours"], 0.0, times["raw"], ratio, 1.1, False)
            yield _named(work, row)


def calls(work: Work, rounds: int) -> Iterator[Row]:
    """Milliseconds per one-shot query, and per query of a session."""

    def repeated(one: Callable[[], object], times: int) -> Callable[[], object]:
        def run() -> None:
            for _ in range(times):
                one()

        return run

    times = 50
    one_shots = {"ours": work.our_query, "theirs": work.their_query, "raw": work.raw_query}
    taken = in_turns({name: repeated(make("/answer"), times) for name, make in one_shots.items()}, rounds)
    yield _named(work, shorter("one-shot query", times, taken, *((0.08, 0.0) if work.secure else (0.65, 0.5))))
    times = 300
    on_sessions = {"ours": work.our_round_trips, "theirs": work.their_round_trips, "raw": work.raw_round_trips}
    taken = in_turns({name: make(times) for name, make in on_sessions.items()}, rounds)
    yield _named(work, shorter("session round trip", times, taken, 0.8, 0.0 if work.secure else 0.8))


def threads(work: Work, rounds: int) -> Iterator[Row]:
    """One-shot queries per second from many threads; the async client's threads each run a loop per query."""
    client = work.ours("/answer")
    total = 640

    def ours() -> None:
        client.query("p")

    def theirs() -> None:
        asyncio.run(work.their_call("/answer"))

    for count in (16, 64):
        contenders = {
            "ours": functools.partial(in_threads, count, total // count, ours),
            "theirs": functools.partial(in_threads, count, total // count, theirs),
        }
        bar = 12.0 if work.secure else 2.0
        row = faster(f"one-shots from {count} threads", "queries/s", total, in_turns(contenders, rounds), bar)
        yield _named(work, row)


def importing(rounds: int) -> Row:
    """Milliseconds that a process takes longer for importing the client, than for nothing."""
    programs = {
        "nothing": "pass",
        "ours": "from runtimeuse_sync import RuntimeUseClient",
        "theirs": "from runtimeuse_client import RuntimeUseClient",
    }
    with tempfile.TemporaryDirectory() as cache:
        # All from bytecode, as if installed; the round that does not count writes it.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def process(program: str) -> None:
            subprocess.run([sys.executable, "-c", program], env=environment, check=True)

        contenders = {name: functools.partial(process, program) for name, program in programs.items()}
        taken = in_turns(contenders, 3 * rounds)
    mine, other = ((taken[name].wall - taken["nothing"].wall) * 1000 for name in ("ours", "theirs"))
    return Row("import", "ms", mine, other, 0.0, mine / other, 0.3, False, compared=True)


def idle_sessions(work: Work) -> Row:
    """KiB of resident memory per open session, of 1,000."""
    count = 1000
    client = work.ours("/answer")
    process = psutil.Process()
    opened = [client.session().open()]
    opened[0].query("p")
    before = process.memory_info().rss
    try:
        opened.extend(client.session().open() for _ in range(count))
        each = (process.memory_info().rss - before) / count / 1024
    finally:
        for session in opened:
            session.close()
    bar = 48.0 if work.secure else 60.0
    return _named(work, Row("open idle session, of 1,000", "KiB", each, 0.0, 0.0, each, bar, False))


def _named(work: Work, row: Row) -> Row:
    """Returns the row, marked as one of production if the work goes over TLS."""
    return row._replace(work=f"wss:// {row.work}", production=True) if work.secure else row
