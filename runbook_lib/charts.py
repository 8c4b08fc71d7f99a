"""Charts, where a person would rather look than read: small, quiet, legible on light and dark."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING, Any

from runbook_lib.model import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Mid grey reads on white and on near-black; the hues stay apart for the colour-blind too.
INK = "#7a828e"
COLOURS = ("#3b82f6", "#f59e0b", "#8b5cf6", "#10b981", "#ec4899", "#64748b")
LIMIT = "#dc2626"
SVG_MARKS = 1500


def new_figure(width: float = 7.0, height: float = 2.8) -> tuple[Figure, Axes]:
    """A figure of these inches with quiet axes and no background."""
    from matplotlib.figure import Figure  # 1 s to import

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def limit_line(axes: Axes, value: float, words: str, *, across: bool = True) -> None:
    """Draw a limit over the marks and name it. across: horizontal; else vertical."""
    draw = axes.axhline if across else axes.axvline
    draw(value, color=LIMIT, linewidth=1.4, linestyle="--", label=words)


def legend(axes: Axes) -> None:
    """A frameless legend above the plot."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=9,
        labelcolor=INK, borderaxespad=0.2,
    )  # fmt: skip


def finish(figure: Figure, alt: str, title: str = "") -> Chart:
    """The finished picture: SVG, or PNG at twice the size where an SVG would be heavy.

    alt says in words what the picture shows. Text in an SVG stays text.
    """
    import matplotlib

    marks = sum(len(line.get_path()) for axes in figure.axes for line in axes.lines)
    kind = "svg" if marks <= SVG_MARKS else "png"
    out = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 200}
    style = {"svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A glyph missing from the font is drawn as a box; that is no reason to lose a chart.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(out, format=kind, transparent=True, **options)
    return Chart(
        media="image/svg+xml" if kind == "svg" else "image/png",
        data=base64.b64encode(out.getvalue()).decode(),
        alt=alt,
        title=title,
    )
