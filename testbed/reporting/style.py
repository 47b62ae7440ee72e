"""One look for page, figures and pictures: a colour for real, one for simulated, greys for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go

REAL = "#0b62a4"  # blue and orange stay apart for every kind of colour blindness, and in grey by their dash
SIMULATED = "#d9730d"
REAL_BAND = "rgba(11, 98, 164, 0.18)"
BAND = "rgba(31, 41, 55, 0.10)"
INVALID = "#a8071a"
INK = "#1f2933"
MUTED = "#66707c"
GRID = "#e4e7eb"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif'


def short(values: Iterable[float]) -> list[float | None]:
    """Four significant digits: what a pixel can show, at half the page's weight. NaN becomes a gap."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


def axis() -> dict[str, Any]:
    """What every axis of a plotly figure shares."""
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": MUTED,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "title_standoff": 8,
    }


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give a plotly figure its height and the page's look; returns it."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 12, "t": 34, "b": 48},
        font={"family": FONT, "size": 12, "color": INK},
        legend={"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure
