"""What all figures share: colours, look, helpers, and how one is shown: as SVG in a page, as a PNG beside report.md.

A figure is one function that takes numbers and returns a matplotlib figure, decorated with `@rc_context(LOOK)`. An inch
is 96 pixels of a page: a figure of WIDTH fills its column, with letters of 12 pixels.

A figure is drawn once, in the colours of a light page. Those of DARK are written into the SVG as CSS variables, with
the value that each has on a dark page, so that the same figure is read on both.
"""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullLocator
from PIL import Image

from workloads.files import replacing

FloatArray = npt.NDArray[np.float64]

REAL = "#0b62a4"  # blue and orange stay apart for every kind of colour blindness, and in grey by their dash
SIMULATED = "#d9730d"
SIMULATED_TEXT = "#b35400"  # the same orange, dark enough for letters
INVALID = "#a8071a"
INK = "#1f2933"
MUTED = "#66707c"
GRID = "#e4e7eb"
PAPER = "#ffffff"
# Policies and settings: eight that red-blind and green-blind eyes tell apart, each 3:1 or more against the paper.
OTHERS = ("#1fa972", "#104ab6", "#c944b4", "#095c0e", "#678bfe", "#6b087a", "#8420f2", MUTED)
DARK = {  # each colour -> what it is on a dark page
    REAL: "#5aaeea",
    SIMULATED: "#f0913a",
    SIMULATED_TEXT: "#f0913a",
    INVALID: "#f2606c",
    INK: "#e6e9ee",
    MUTED: "#9aa5b1",
    GRID: "#2c343d",
    PAPER: "#14181d",
    OTHERS[0]: "#21de8f",
    OTHERS[1]: "#7284fe",
    OTHERS[2]: "#bf1d7c",
    OTHERS[3]: "#3c8324",
    OTHERS[4]: "#596697",
    OTHERS[5]: "#f39bf1",
    OTHERS[6]: "#9b12f2",
    # Of pods: pending, starting, loading, ready.
    "#c9ced6": "#4a545f",
    "#f3d9b1": "#6b5433",
    "#e9b872": "#b5853f",
    "#8fb8de": "#3d6f9c",
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif'  # of pages

LOOK: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # the first comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler(color={[*OTHERS]})",
    "axes.axisbelow": True,
    "axes.ymargin": 0.08,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 10,
    "grid.color": GRID,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is a $
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "kis",  # the same figure is the same bytes
}
WIDTH = 12.0  # inches
PIXELS_PER_INCH = 96  # of a page
SYMBOLS = "osD^Pv*hp"  # with the eight OTHERS, 72 that differ
LINE_HEIGHT_IN = 0.18  # between the names of marks, inches
PNG_DPI = 100
PNG_COLOURS = 128  # lines and text look the same as in full colour, in a third of the bytes
TITLE_LETTERS = 56  # of a line of a figure's title: a phone shows 490 of the figure's pixels at a time
POINTS = 500  # of a line at most: more than pixels show nothing


def svg_address(figure: Figure) -> str:
    """The figure as a data: address for an <img>, legible on a light and on a dark page.

    The same figure gives the same bytes.
    """
    drawn = io.StringIO()
    with rc_context(LOOK):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(_with_palette(_short(drawn.getvalue())).encode()).decode()


def _short(svg: str) -> str:
    """The same picture in half of the bytes. A hundredth of a point is less than a pixel: other decimals go."""
    short = re.sub(r' (?:d|x|y)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    short = re.sub(r" ?\n(?=[LzQC] ?[\d\n-])", "", short)
    return re.sub(r"\n +<", "\n<", re.sub(r'<g id="[\w.]+_\d+">', "<g>", short))


def _with_palette(svg: str) -> str:
    """Colours of DARK as variables, whose values follow the page: an <img> takes over its element's colour scheme."""
    svg = re.sub(rf"(?<=: )(?:{'|'.join(DARK)})", lambda match: f"var(--{match[0][1:]})", svg)
    light, dark = (
        "".join(f"--{colour[1:]}:{value};" for colour, value in values)
        for values in (zip(DARK, DARK, strict=True), DARK.items())
    )
    rules = f"svg{{{light}fill:var(--{INK[1:]})}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace("<defs>", f"<style>{rules}</style><defs>", 1)


def save_png(figure: Figure, file: Path) -> None:
    """Write the figure with a palette of PNG_COLOURS, in one step."""
    drawn = io.BytesIO()
    with rc_context(LOOK):
        figure.savefig(drawn, format="png", dpi=PNG_DPI)
    few = Image.open(drawn).convert("RGB").quantize(PNG_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(file) as temporary:
        few.save(temporary, "PNG", optimize=True)


def title(figure: Figure, text: str) -> None:
    """At the top left, where a legend at `outside upper right` leaves room; in lines that a phone shows whole."""
    lines = textwrap.fill(text, TITLE_LETTERS, break_on_hyphens=False)
    figure.suptitle(lines, x=0.01, ha="left", weight="bold")


class _LogLocator(Locator):
    """Three marks or more at 1, 2 and 5 times a power of ten; between those where an axis spans less."""

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return []
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            marks = [digit * 10.0**power for power in powers for digit in digits]
            if len(shown := [mark for mark in marks if low <= mark <= high]) >= 3:
                return shown
        return list(MaxNLocator(4).tick_values(low, high))


def log_axis(axes: Axes, which: Literal["x", "y"], scale: float = 1.0) -> None:
    """Logarithmic, which its title says too: for axes whose titles are set.

    Marked with plain numbers times `scale`: powers of ten would need the math that LOOK turns off.
    """
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    axis.set_label_text(f"{axis.get_label_text()} (logarithmic)" if axis.get_label_text() else "logarithmic")
    axis.set_major_locator(_LogLocator())
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{scale * value:g}"))


def thinned(x: FloatArray, y: FloatArray, points: int = POINTS) -> tuple[FloatArray, FloatArray]:
    """At most so many points of a line, in order: the least and the largest value of each part of it, and its ends."""
    if len(x) <= points:
        return x, y
    parts = np.array_split(np.arange(len(x)), points // 2 - 1)
    low, high = np.where(np.isnan(y), np.inf, y), np.where(np.isnan(y), -np.inf, y)
    kept = [at for part in parts for at in (part[low[part].argmin()], part[high[part].argmax()])]
    places = np.unique([0, *kept, len(x) - 1])
    return x[places], y[places]


def steps_before(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Thinned steps, to be drawn with `where="pre"`, without the points at which nothing changes."""
    x, y = thinned(x, y)
    kept = np.append(y[1:] != y[:-1], True)
    kept[0] = True
    return x[kept], y[kept]


def draw_rate(axes: Axes, time_s: FloatArray, rate_rps: FloatArray, step: Any) -> None:
    """The offered rate as an area. step: where its steps are (`pre`, `mid`, `post`)."""
    time_s, rate_rps = thinned(time_s, rate_rps)
    axes.fill_between(time_s, rate_rps, step=step, color=INK, alpha=0.12, linewidth=0)
    axes.step(time_s, rate_rps, where=step, color=MUTED, linewidth=0.8)
    axes.set(ylabel="offered, 1/s", ylim=(0, None))
    axes.locator_params(axis="y", nbins=3)


def name_marks(figure: Figure, axes: Axes, marks: Mapping[str, Line2D]) -> None:
    """A legend right of the axes, as high as the marks are, with a line to each. For axes whose limits are set."""
    to_axes = axes.transScale + axes.transLimits
    points = {name: (float(x), float(y)) for name, mark in marks.items() for x, y in [np.array(mark.get_data())[:, 0]]}
    places = {name: float(to_axes.transform(point)[1]) for name, point in points.items()}
    names = sorted(places, key=lambda name: places[name])
    least = LINE_HEIGHT_IN / (0.85 * figure.get_size_inches()[1])
    heights = _apart(np.array([places[name] for name in names]), least)
    for name, height in zip(names, heights.tolist(), strict=True):
        axes.annotate(
            "",
            points[name],
            xytext=(1.02, height),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "alpha": 0.7, "shrinkA": 0, "shrinkB": 4},
        )
        again = Line2D([1.045], [height])
        again.update_from(marks[name])
        axes.add_artist(again)
        again.set(transform=axes.transAxes, clip_on=False)
        axes.annotate(name, (1.07, height), xycoords="axes fraction", va="center", fontsize=8.5, annotation_clip=False)


def _apart(heights: FloatArray, least: float) -> FloatArray:
    """Ascending heights from 0 to 1, moved so that they lie `least` apart: as little as they need to, if there is room.

    The nearest ascending sequence is found by pooling what is out of order, once `least` is taken off for each.
    """
    steps = least * np.arange(len(heights))
    pools: list[list[float]] = []
    for free in heights - steps:
        pools.append([free])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    ascending = np.array([np.mean(pool) for pool in pools for _ in pool]) + steps
    return np.asarray(np.maximum(np.minimum(ascending, 1 - steps[::-1]), steps))
