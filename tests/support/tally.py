"""How often each fault was injected and survived: counted by the tests, shown as one table at the end of the run.

The counts travel with the tests' reports, as `user_properties`, so they also arrive from the workers of pytest-xdist.
By default a test makes a reduced number of tries; with `RUNTIMEUSE_RELIABILITY=full` it makes all of them.
`RUNTIMEUSE_SEED` repeats a run: whatever is random in this suite is drawn from it.
"""

from __future__ import annotations

import os
import random
from typing import Dict, Iterable, List, Tuple

PROPERTY = "reliability"
FULL = os.environ.get("RUNTIMEUSE_RELIABILITY", "") == "full"
SEED = int(os.environ.get("RUNTIMEUSE_SEED", "1"))


def tries(reduced: int, full: int) -> int:
    """Returns how many tries to make."""
    return full if FULL else reduced


def seeded(name: str) -> random.Random:
    """Returns a source of randomness that depends on the run's seed and on `name` only."""
    return random.Random(f"{SEED}/{name}")


class Tally:
    """Counts what one test tries; a try that is not counted as survived fails the test by its own assertion."""

    def __init__(self) -> None:
        self._counts: Dict[str, List[int]] = {}

    def tried(self, fault: str, count: int = 1) -> None:
        """Counts `count` injections of `fault`, before they are made."""
        self._counts.setdefault(fault, [0, 0])[0] += count

    def survived(self, fault: str, count: int = 1) -> None:
        """Counts injections of which all that was promised has been asserted."""
        self._counts.setdefault(fault, [0, 0])[1] += count

    def rows(self) -> List[Tuple[str, int, int]]:
        """Returns fault, tries and survived."""
        return [(fault, tried, survived) for fault, (tried, survived) in self._counts.items()]


def table(rows: Iterable[Tuple[str, int, int]]) -> List[str]:
    """Returns the lines of a table that adds up the rows of the same fault; the names say `area: fault`."""
    sums: Dict[str, List[int]] = {}
    for fault, tried, survived in rows:
        total = sums.setdefault(fault, [0, 0])
        total[0] += tried
        total[1] += survived
    if not sums:
        return []
    width = max(len(fault) for fault in sums)
    lines = [f"{'fault':<{width}}  {'tries':>9}  {'survived':>9}"]
    for fault in sorted(sums):
        tried, survived = sums[fault]
        lines.append(f"{fault:<{width}}  {tried:>9,}  {survived:>9,}" + ("" if tried == survived else "  <<<"))
    return lines
