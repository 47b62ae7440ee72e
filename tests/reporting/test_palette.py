"""Colours that everyone tells apart: on light and dark paper, and as red-blind and green-blind eyes see them."""

from __future__ import annotations

import base64
from itertools import combinations

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.drawing import (
    DARK,
    GRID,
    INK,
    INVALID,
    LOOK,
    MUTED,
    OTHERS,
    PAPER,
    REAL,
    SIMULATED,
    SIMULATED_TEXT,
    svg_address,
)

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
# Björn Ottosson's Oklab: linear RGB to cones, and their cube roots to lightness and two axes of colour.
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
APART = 0.06  # in Oklab, where .02 is just seen side by side
THEMES = {"light": {colour: colour for colour in DARK}, "dark": DARK}
TOGETHER = {  # colours that one figure shows
    "real and simulated": (REAL, SIMULATED, INVALID, INK, MUTED),
    "policies": (SIMULATED, INK, *OTHERS),
}


def linear(colour: str) -> np.ndarray:
    channels = np.frombuffer(bytes.fromhex(colour[1:]), dtype=np.uint8) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(colour: str, eyes: str) -> np.ndarray:
    seen = np.clip(np.array(EYES[eyes]) @ linear(colour), 0, 1)
    return np.array(TO_LAB) @ np.cbrt(np.array(TO_CONES) @ seen)


def contrast(one: str, other: str) -> float:
    """WCAG 2."""
    dark, light = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("shown", TOGETHER)
def test_colours_of_one_figure_are_told_apart(shown: str, eyes: str, theme: str) -> None:
    seen = {colour: oklab(THEMES[theme][colour], eyes) for colour in TOGETHER[shown]}
    near = [pair for pair in combinations(seen, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < APART]
    assert near == []


@pytest.mark.parametrize("theme", THEMES)
def test_letters_and_marks_stand_out_from_the_paper(theme: str) -> None:
    drawn = THEMES[theme]
    for letters in (INK, MUTED, REAL, SIMULATED_TEXT, INVALID):
        assert contrast(drawn[letters], drawn[PAPER]) >= 4.5
    for marks in (SIMULATED, *OTHERS):
        assert contrast(drawn[marks], drawn[PAPER]) >= 3


def test_a_figure_knows_its_colours_on_a_dark_page() -> None:
    with rc_context(LOOK):
        figure = Figure()
        axes = figure.subplots()
        for colour in (REAL, SIMULATED, *OTHERS):
            axes.plot([1, 2], [1, 2], color=colour)
        axes.set_title("a title")
    svg = base64.b64decode(svg_address(figure).partition(",")[2]).decode()
    rules, drawn = svg[svg.index("<style") : svg.index("</style>")], svg[svg.index("</style>") :]
    assert "prefers-color-scheme:dark" in rules
    for colour in (REAL, SIMULATED, *OTHERS, INK, GRID, PAPER):
        assert f"--{colour[1:]}:{DARK[colour]};" in rules
        assert f"var(--{colour[1:]})" in drawn
        assert colour not in drawn
