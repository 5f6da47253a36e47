"""The table, as Markdown, and the chart."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import List

from runtimeuse_sync import __version__

from .measuring import Row


def machine() -> str:
    """Returns a line on what this ran on."""
    packages = ("runtimeuse-client", "websocket-client", "websockets")
    # Our own from the code, which need not be installed.
    versions = ", ".join([f"runtimeuse_sync {__version__}", *(f"{name} {version(name)}" for name in packages)])
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Linux, Python {platform.python_version()}; {versions}"


def table(rows: List[Row]) -> List[str]:
    """Returns the lines of the table. Rows of what production does are in bold, and come first."""
    lines = [
        "| work | unit | ours | async | raw socket | ratio | bar | CPU ours ÷ async |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in production_first(rows):
        sign = "≥" if row.at_least else "≤"
        figures = " | ".join(_figure(value) for value in (row.ours, row.theirs, row.raw))
        mark = " **slower**" if row.is_slower else "" if row.meets_bar else " **missed**"
        most_cpu = f", ≤ {row.most_cpu:g}{'' if row.meets_most_cpu else ' **missed**'}" if row.most_cpu else ""
        work = f"**{row.work}**" if row.production else row.work
        lines.append(
            f"| {work} | {row.unit} | {figures} | {_figure(row.ratio)} | {sign} {row.bar:g}{mark} | "
            f"{_figure(row.cpu)}{most_cpu} |"
        )
    return lines


def production_first(rows: List[Row]) -> List[Row]:
    """Returns the rows in the order in which they are shown."""
    return sorted(rows, key=lambda row: not row.production)


def _figure(value: float) -> str:
    if value == 0:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def chart(rows: List[Row], directory: Path) -> None:
    """Writes `benchmarks.png` and `benchmarks.svg`: how many times as fast as the async client, and the bar for it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = production_first(rows)
    compared = [row for row in shown if row.compared][::-1]
    speedups = [row.ratio if row.at_least else 1 / row.ratio for row in compared]
    bars = [row.bar if row.at_least else 1 / row.bar for row in compared]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(compared) + 1.2))
    places = range(len(compared))
    axes.barh(places, speedups, color="#2a6f97", height=0.6)
    axes.scatter(bars, places, marker="|", s=260, color="#c1121f", label="what we ask of ourselves", zorder=3)
    for place, speedup in zip(places, speedups):
        axes.text(speedup, place, f" {speedup:.1f}×", va="center")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(list(places), [row.work for row in compared])
    axes.set_xlim(0, max(speedups + bars) * 1.12)
    axes.set_xlabel("times as fast as the async client, in the same run")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    for kind in ("png", "svg"):
        figure.savefig(directory / f"benchmarks.{kind}", dpi=120, metadata={"Date": None} if kind == "svg" else None)
    pyplot.close(figure)
