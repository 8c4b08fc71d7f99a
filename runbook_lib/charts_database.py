"""Charts of the database: who holds its connections, and how their number went."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runbook_lib import charts
from runbook_lib.model import Chart

STATES = ("active", "idle in transaction", "idle")


def connections(counts: dict[str, dict[str, int]], usable: int) -> Chart:
    """Connections of each application by state, as stacked bars, against the usable slots.

    counts: {application: {state: connections}}, the largest first.
    """
    names = list(counts)[:8][::-1]
    figure, axes = charts.new_figure(7.0, 1.3 + 0.35 * len(names))
    left = [0] * len(names)
    for state, colour in zip(STATES, charts.COLOURS, strict=False):
        widths = [counts[name].get(state, 0) for name in names]
        axes.barh(names, widths, left=left, color=colour, label=state, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    charts.limit_line(axes, usable, f"{usable} usable slots", across=False)
    axes.set_xlabel("connections")
    charts.legend(axes)
    largest = ", ".join(f"{name} {sum(counts[name].values())}" for name in list(counts)[:3])
    return charts.finish(
        figure,
        alt=f"Connections by application and state against {usable} usable slots: {largest}.",
        title="Connections by application and state",
    )


def trend(points: list[dict[str, Any]], ylabel: str = "connections") -> Chart | None:
    """CloudWatch's maxima over time, or None for fewer than two points.

    points: [{time, maximum, average}], oldest first.
    """
    if len(points) < 2:
        return None
    import matplotlib.dates as dates

    times: Any = [datetime.fromisoformat(point["time"]) for point in points]
    values = [point["maximum"] for point in points]
    figure, axes = charts.new_figure(7.0, 2.2)
    axes.plot(times, values, color=charts.COLOURS[0], linewidth=1.8)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.set_ylim(bottom=0)
    axes.set_ylabel(ylabel)
    axes.set_xlabel("UTC")
    return charts.finish(
        figure,
        alt=f"{ylabel} from {times[0]:%H:%M} to {times[-1]:%H:%M} UTC: "
        f"first {values[0]:g}, highest {max(values):g}, last {values[-1]:g}.",
        title=f"Database {ylabel} over time (CloudWatch, 5-minute maxima)",
    )
