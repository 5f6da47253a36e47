"""The embedded runtime: how fast a command's output comes through, and whether sessions slow each other down."""

import statistics
import subprocess
from typing import Any, Iterator, List

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

from .measuring import Row, in_threads, in_turns, sample

_SIZE = 100_000_000


def embedded(rounds: int) -> Iterator[Row]:
    """Megabytes per second of a command's output; and what 64 sessions at once take against one after the other."""
    received: List[int] = [0]

    def count(message: Any) -> None:
        received[0] += len(message.text)

    command = f"head -c {_SIZE} /dev/zero | tr '\\0' x"
    with LocalRuntime("echo") as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m")
        rates = []
        for _ in range(rounds):
            received[0] = 0
            taken = sample(lambda: client.execute_commands([command], on_command_output=count))
            assert received[0] == _SIZE
            rates.append(_SIZE / 1e6 / taken.wall)
        rate = statistics.median(rates)
        yield Row("LocalRuntime: 100 MB of a command's output", "MB/s", rate, 0.0, 0.0, rate, 120.0, True)
        ratios = []
        for _ in range(rounds):
            alone = sample(lambda: _sessions(client, 64, at_once=1)).wall
            together = sample(lambda: _sessions(client, 64, at_once=64)).wall
            ratios.append(together / alone)
        ratio = statistics.median(ratios)
        yield Row("LocalRuntime: 64 sessions at once ÷ in turn", "×", ratio, 0.0, 0.0, ratio, 1.1, False)


def commands(rounds: int, count: int = 500) -> Iterator[Row]:
    """Commands per second that the embedded runtime runs; the other column is a loop over `Popen(…).communicate()`."""

    def with_popen() -> None:
        for _ in range(count):
            subprocess.Popen("true", shell=True).communicate()

    with LocalRuntime("echo") as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m")

        def one_request() -> None:
            client.execute_commands(["true"] * count)

        def one_request_each() -> None:
            with client.session() as session:
                for _ in range(count):
                    session.execute_commands(["true"])

        taken = in_turns({"all": one_request, "each": one_request_each, "theirs": with_popen}, rounds)
    rates = {name: count / each.wall for name, each in taken.items()}
    for name, title, bar in (("all", "in one request", 0.4), ("each", "one request each", 0.2)):
        ratio = rates[name] / rates["theirs"]
        yield Row(
            f"LocalRuntime: {count} commands, {title}",
            "commands/s",
            rates[name],
            rates["theirs"],
            0.0,
            ratio,
            bar,
            True,
        )


def _sessions(client: RuntimeUseClient, count: int, at_once: int) -> None:
    def one() -> None:
        with client.session() as session:
            for _ in range(10):
                session.query("work")

    in_threads(at_once, count // at_once, one)
