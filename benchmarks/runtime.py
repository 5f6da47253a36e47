"""The embedded runtime: how fast a command's output comes through, and whether sessions slow each other down."""

import statistics
from typing import Any, Iterator, List

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

from .measuring import Row, in_threads, sample

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
        yield Row("LocalRuntime: 100 MB of a command's output", "MB/s", rate, 0.0, 0.0, rate, 100.0, True)
        ratios = []
        for _ in range(rounds):
            alone = sample(lambda: _sessions(client, 64, at_once=1)).wall
            together = sample(lambda: _sessions(client, 64, at_once=64)).wall
            ratios.append(together / alone)
        ratio = statistics.median(ratios)
        yield Row("LocalRuntime: 64 sessions at once ÷ in turn", "×", ratio, 0.0, 0.0, ratio, 1.1, False)


def _sessions(client: RuntimeUseClient, count: int, at_once: int) -> None:
    def one() -> None:
        with client.session() as session:
            for _ in range(10):
                session.query("work")

    in_threads(at_once, count // at_once, one)
