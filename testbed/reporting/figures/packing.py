"""The figure of a packing: what is on each GPU, beside a model on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.reporting.drawing import LOOK, PAPER, WIDTH
from testbed.reporting.packing import gpu_text

ROW_IN, REST_IN = 0.55, 1.9  # of a GPU; of titles, axis and legend


@rc_context(LOOK)
def packing(told: Mapping[str, Any]) -> Figure:
    """A bar for each GPU: how busy its models keep one that they have alone."""
    models, packed = told["models"], told["gpus"]
    separate = [
        {
            "name": f"GPU {k}",
            "models": [model["name"]],
            "memory_gib": model["memory_gib"],
            "utilisation": model["utilisation"],
        }
        for k, model in enumerate((one for one in models for _ in range(one["replicas"])), start=1)
    ]
    parts = [(f"packed: {len(packed)}", packed), (f"a model on each: {len(separate)}", separate)]
    parts = [part for part in parts if part[1]]
    rows = [len(gpus) for _, gpus in parts]
    figure = Figure(figsize=(WIDTH, REST_IN + ROW_IN * sum(rows)), layout="constrained")
    panels = figure.subplots(len(parts), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": rows})[:, 0]
    for axes, (title, gpus) in zip(panels, parts, strict=True):
        _bars(axes, told, gpus)
        axes.set(title=title)
    panels[-1].set(
        xlabel="busy time of the GPU, as each model has it alone, %", xlim=(0, max(100, panels[0].get_xlim()[1]))
    )
    handles, labels = panels[-1].get_legend_handles_labels()
    first = dict(zip(reversed(labels), reversed(handles), strict=True))
    names = [model["name"] for model in models]
    figure.legend([first[name] for name in names], names, loc="outside lower left", ncols=6)
    return figure


def _bars(axes: Axes, told: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> None:
    colours = {model["name"]: f"C{k}" for k, model in enumerate(told["models"])}
    busy = {model["name"]: 100 * model["utilisation"] for model in told["models"]}
    for row, gpu in enumerate(gpus):
        left = 0.0
        for name in gpu["models"]:
            look: dict[str, Any] = {"color": colours[name], "edgecolor": PAPER, "label": name}
            axes.barh(row, busy[name], left=left, height=0.42, **look)
            left += busy[name]
        axes.text(0, row - 0.3, gpu_text(told, gpu), va="bottom")
    axes.set(yticks=[], ylim=(len(gpus) - 0.6, -0.75))
    axes.grid(visible=False, axis="y")
