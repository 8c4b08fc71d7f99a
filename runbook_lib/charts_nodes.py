"""Charts of nodes: how full each one is, against the limit."""

from __future__ import annotations

from runbook_lib import charts
from runbook_lib.model import Chart

SHOWN = 16


def fullness(values: dict[str, dict[str, float]], limit: float, what: str) -> Chart | None:
    """Percent in use of every node as bars, the fullest on top; None where nothing is known.

    values: {node: {series: percent}}, such as nodefs and imagefs; what: "Disk", "Memory".
    """
    if not values:
        return None
    fullest_first = sorted(values, key=lambda node: -max(values[node].values()))
    shown = fullest_first[:SHOWN]
    series = list(dict.fromkeys(name for node in shown for name in values[node]))
    thickness = 0.75 / len(series)
    figure, axes = charts.new_figure(7.0, 1.2 + 0.28 * len(shown) * (1 + len(series)) / 2)
    for number, name in enumerate(series):
        places = [row + number * thickness for row in range(len(shown))]
        percents = [values[node].get(name, 0.0) for node in shown]
        colour = charts.COLOURS[number % len(charts.COLOURS)]
        bars = axes.barh(places, percents, height=thickness * 0.9, color=colour, label=name)
        axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8, color=charts.INK)
    middle = (len(series) - 1) * thickness / 2
    # The domain is the same for all nodes; without it names fit on a phone.
    axes.set_yticks(
        [row + middle for row in range(len(shown))], [node.split(".")[0] for node in shown]
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel(f"{what.lower()} in use, %")
    charts.limit_line(axes, limit, f"limit {limit:g} %", across=False)
    charts.legend(axes)
    left_out = len(values) - len(shown)
    rest = f" {left_out} less full nodes are not drawn." if left_out else ""
    said = "; ".join(
        f"{node} " + ", ".join(f"{name} {percent:.0f} %" for name, percent in values[node].items())
        for node in shown[:8]
    )
    return charts.finish(
        figure,
        alt=f"{what} in use by node, the fullest first, against a limit of {limit:g} %: "
        f"{said}.{rest}",
        title=f"{what} in use by node",
    )
