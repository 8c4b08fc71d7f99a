"""Charts of pods: how their containers' restarts went."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

from runbook_lib import charts
from runbook_lib.model import Chart


def restarts(
    lines: dict[str, list[tuple[datetime, int]]],
    start: datetime,
    now: datetime,
    left_out: int = 0,
) -> Chart | None:
    """Restart counts of containers between `start` and `now`, as steps; None without a line.

    lines: {container: [(when, restarts by then)], oldest first}. The marks are all that
    Kubernetes still knows; where more than one restart lies between two, the line is dotted.
    """
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    from matplotlib import dates, ticker  # slow to import

    # Narrow, so that its words stay legible on a phone; no empty hour before the first mark.
    figure, axes = charts.new_figure(5.2, 2.5)
    first = min(when for points in lines.values() for when, _ in points)
    start = max(start, first - (now - first) / 20)
    for (name, points), colour in zip(lines.items(), charts.COLOURS, strict=False):
        for (when, count), (later, more) in pairwise(points):
            known: Any = {"drawstyle": "steps-post", "linewidth": 1.6}
            gap: Any = {"linestyle": ":", "linewidth": 1.2}
            times: Any = [when, later]
            axes.plot(times, [count, more], color=colour, **(known if more - count < 2 else gap))
        marks: Any = [when for when, _ in points]
        axes.plot(marks, [n for _, n in points], "o", color=colour, markersize=4, label=name)
    axes.set_xlim(dates.date2num(start), dates.date2num(now))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.set_xlabel("UTC (dots: known counts; dotted lines: times not known)")
    axes.set_ylabel("restarts")
    # Names of pods are too long for a row above; the lines leave the upper left free.
    axes.legend(loc="upper left", frameon=False, fontsize=9, labelcolor=charts.INK)
    return charts.finish(
        figure, alt=_words(lines, now, left_out), title="Restarts over time, as far as known"
    )


def _words(lines: dict[str, list[tuple[datetime, int]]], now: datetime, left_out: int) -> str:
    told = [
        f"{name}: {', '.join(f'{count} at {when:%d %b %H:%M}' for when, count in points[:-1])}, "
        f"{points[-1][1]} now"
        for name, points in lines.items()
    ]
    more = f" {left_out} more containers are not drawn." if left_out else ""
    return (
        f"Restarts by container up to {now:%H:%M} UTC, where Kubernetes still knows them. "
        f"{'; '.join(told)}.{more}"
    )
