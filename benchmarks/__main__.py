"""Runs all rows and prints the table: `python -m benchmarks`. See `--help`."""

import argparse
import contextlib
import resource
import sys
import textwrap
from pathlib import Path
from typing import Callable, Dict, Iterator, List

from . import latency, rows, runtime
from .contenders import Work
from .growth import growth
from .measuring import Row
from .report import chart, machine, table
from .server import running
from .trust import trusted_certificate

_LEGEND = (
    "The rows in bold (wss://) are what production does: TLS, with the system's certificate authorities. "
    "Of the columns, 'ratio' and 'CPU ours ÷ async' are what counts there. 'raw socket' is the limit of the machine. "
    "The rows without TLS show what the clients themselves cost."
)
_EXIT_CODE = "The exit code is 0 if every bar is met and the async client is faster in no row, else 1."


def main() -> int:
    """Returns 0 if every bar is met and no row is slower than the async client's, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Our client against the async one.")
    parser.epilog = (
        f"{_LEGEND} The exit code is 0 if every bar is met and the async client is faster in no row, else 1."
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each contender does its work (default 7)")
    parser.add_argument("--only", metavar="GROUP", help="only this group of rows: " + ", ".join(_groups(None, None, 0)))
    parser.add_argument("--chart", metavar="DIR", type=Path, help="write benchmarks.png and benchmarks.svg there")
    arguments = parser.parse_args()
    # A thousand sessions are a few thousand descriptors.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 16384), hard))
    done: List[Row] = []
    print(machine(), flush=True)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(running())
        certificate = stack.enter_context(trusted_certificate())
        secure = Work(stack.enter_context(running(certificate)), secure=True)
        groups = _groups(Work(port), secure, arguments.rounds)
        if arguments.only is not None and arguments.only not in groups:
            parser.error(f"there is no group {arguments.only!r}")
        for name, group in groups.items():
            if arguments.only in (None, name):
                print(f"… {name}", file=sys.stderr, flush=True)
                done.extend(group())
    print("\n".join(textwrap.wrap(_LEGEND, 120)), end="\n\n")
    print("\n".join(table(done)))
    if arguments.chart is not None:
        chart(done, arguments.chart)
    return 0 if all(row.met for row in done) else 1


def _groups(work: "Work | None", secure: "Work | None", rounds: int) -> "Dict[str, Callable[[], Iterator[Row]]]":
    def sure() -> Work:
        assert work is not None
        return work

    def over_tls() -> Work:
        assert secure is not None
        return secure

    return {
        "wss-calls": lambda: rows.calls(over_tls(), rounds),
        "wss-threads": lambda: rows.threads(over_tls(), min(3, rounds)),
        "wss-streams": lambda: rows.streams(over_tls(), rounds),
        "wss-memory": lambda: iter([rows.idle_sessions(over_tls())]),
        "streams": lambda: rows.streams(sure(), rounds),
        "calls": lambda: rows.calls(sure(), rounds),
        "threads": lambda: rows.threads(sure(), rounds),
        "import": lambda: iter([rows.importing(rounds)]),
        "latency": lambda: latency.promptness(sure(), 20 * rounds),
        "readiness": lambda: latency.readiness(min(20, 3 * rounds), min(6.0, float(rounds))),
        "memory": lambda: iter([rows.idle_sessions(sure())]),
        "growth": lambda: growth(sure(), rounds),
        "runtime": lambda: runtime.embedded(min(3, rounds)),
        "commands": lambda: runtime.commands(min(3, rounds)),
    }


if __name__ == "__main__":
    sys.exit(main())
