"""Throughput, calls and start-up: the rows in which we are compared with the async client."""

import asyncio
import functools
import os
import re
import statistics
import subprocess
import sys
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Tuple

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
        yield faster(title, "messages/s" if small else "MB/s", count if small else size * count / 1e6, taken, bar)


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
    yield shorter("one-shot query", times, taken, 0.6)
    times = 300
    on_sessions = {"ours": work.our_round_trips, "theirs": work.their_round_trips, "raw": work.raw_round_trips}
    taken = in_turns({name: make(times) for name, make in on_sessions.items()}, rounds)
    yield shorter("session round trip", times, taken, 0.6)


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
        yield faster(f"one-shots from {count} threads", "queries/s", total, in_turns(contenders, rounds), 2.0)


def importing(rounds: int) -> Row:
    """Milliseconds to import the client in a fresh interpreter, without what the interpreter itself imports."""

    def measure(module: str, environment: Dict[str, str]) -> float:
        told = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", f"import {module}"],
            env=environment,
            stderr=subprocess.PIPE,
            check=True,
        ).stderr.decode()
        found = re.findall(r"import time: +(\d+) \| +(\d+) \| (\S.*)", told)
        # Top level, by its indentation: the cumulative times of what the command itself imports.
        package = module.split(".", maxsplit=1)[0]
        return float(sum(int(cumulative) for _, cumulative, name in found if name.split(".")[0] == package)) / 1000

    ours: List[float] = []
    theirs: List[float] = []
    with tempfile.TemporaryDirectory() as cache:
        # Both from bytecode, as if installed; the round that does not count writes it.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(3 * rounds + 1):
            for module, taken in (("runtimeuse_sync.client", ours), ("runtimeuse_client", theirs)):
                value = measure(module, environment)
                if number:
                    taken.append(value)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row("import", "ms", mine, other, 0.0, mine / other, 0.6, False)


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
    return Row("open idle session, of 1,000", "KiB", each, 0.0, 0.0, each, 60.0, False)
