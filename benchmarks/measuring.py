"""Runs contenders in turns and takes medians, of wall time and of the process's CPU time."""

import concurrent.futures
import gc
import statistics
import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Tuple


class Sample(NamedTuple):
    """What one piece of work took, in seconds."""

    wall: float
    cpu: float


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        work: What was done.
        unit: What the figures are in.
        ours: Our figure; and likewise `theirs` (the async client's) and `raw`, where there is one.
        ratio: What is compared with the bar.
        bar: The bar for `ratio`.
        at_least: Whether the bar is a lower one.
        cpu: Our CPU seconds divided by theirs; 0 where that was not measured.
        production: Whether it is what production does: TLS, with the system's certificate authorities.
        most_cpu: The bar for `cpu`; 0 where there is none.
        compared: Whether `ratio` is that of our figure and the async client's.
    """

    work: str
    unit: str
    ours: float
    theirs: float
    raw: float
    ratio: float
    bar: float
    at_least: bool
    cpu: float = 0.0
    production: bool = False
    most_cpu: float = 0.0
    compared: bool = False

    @property
    def met(self) -> bool:
        """Whether all is as it should be: both bars are met, and the async client is not faster."""
        return self.meets_bar and self.meets_most_cpu and not self.is_slower

    @property
    def meets_bar(self) -> bool:
        """Whether the bar for the ratio is met."""
        return self.ratio >= self.bar if self.at_least else self.ratio <= self.bar

    @property
    def meets_most_cpu(self) -> bool:
        """Whether the bar for the CPU time is met, if there is one."""
        return not self.most_cpu or self.cpu <= self.most_cpu

    @property
    def is_slower(self) -> bool:
        """Whether the async client is faster."""
        return self.compared and (self.ratio < 1 if self.at_least else self.ratio > 1)


def sample(work: Callable[[], object]) -> Sample:
    """Does the work once."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> Dict[str, Sample]:
    """Does each contender's work `rounds` times, in turns, after one round that does not count; returns medians."""
    taken: Dict[str, List[Sample]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            one = sample(work)
            if number:
                taken[name].append(one)
    return {
        name: Sample(statistics.median(each.wall for each in samples), statistics.median(each.cpu for each in samples))
        for name, samples in taken.items()
    }


def in_threads(count: int, each: int, call: Callable[[], object]) -> None:
    """Makes `each` calls in each of `count` threads; raises what one of them raised."""

    def many() -> None:
        for _ in range(each):
            call()

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(many) for _ in range(count)]:
            future.result()


def percentile(values: List[float], percent: float) -> float:
    """Returns the value that `percent` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def faster(work: str, unit: str, amount: float, taken: Dict[str, Sample], bar: float) -> Row:
    """Returns a row that compares amounts per second; the higher the better."""
    ours, theirs = taken["ours"], taken["theirs"]
    rates = {name: amount / each.wall for name, each in taken.items()}
    return Row(
        work, unit, rates["ours"], rates["theirs"], rates.get("raw", 0.0), theirs.wall / ours.wall, bar, True,
        ours.cpu / theirs.cpu, compared=True,
    )  # fmt: skip


def shorter(work: str, calls: int, taken: Dict[str, Sample], bar: float, most_cpu: float = 0.0) -> Row:
    """Returns a row that compares milliseconds per call, and the CPU time; the lower the better."""
    ours, theirs = taken["ours"], taken["theirs"]
    times = {name: each.wall / calls * 1000 for name, each in taken.items()}
    return Row(
        work, "ms", times["ours"], times["theirs"], times.get("raw", 0.0), ours.wall / theirs.wall, bar, False,
        ours.cpu / theirs.cpu, most_cpu=most_cpu, compared=True,
    )  # fmt: skip


def spread(values: List[float]) -> Tuple[float, float]:
    """Returns the median and the 99th percentile."""
    return statistics.median(values), percentile(values, 99)
