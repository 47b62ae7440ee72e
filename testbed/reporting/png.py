"""Pictures as small PNG files: a figure of lines and text needs few colours, and results are committed."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from workloads.files import replacing

COLOURS = 64  # a quarter of the bytes of a full-colour file; lines and text look the same


def save_png(figure: Figure, file: Path, dpi: int) -> None:
    """Draw the figure and write it with a palette of COLOURS, in one step."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    few = Image.open(drawn).convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with replacing(file) as temporary:
        few.save(temporary, "PNG", optimize=True)
