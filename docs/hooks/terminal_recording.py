"""A moving picture of a command: what it printed and when (an asciicast, version 2), and an SVG that plays it.

    python docs/hooks/terminal_recording.py record docs/assets/demo.cast make demo
    python docs/hooks/terminal_recording.py draw docs/assets/demo.cast docs/assets/demo.svg

The SVG needs no script: GitHub and the documentation show it as an image. It plays faster than the recording, and its
title says how much. Readers who ask for less motion see the end of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

COLUMNS, ROWS = 80, 22
PLAYED_S = 24.0  # of the whole, and then the end stands still
STILL_S = 6.0
LINE_PX, CHARACTER_PX, MARGIN_PX, TITLE_PX = 18, 8.05, 14, 30


class Line(NamedTuple):
    """A line of the terminal. at_s: when it was complete."""

    at_s: float
    text: str


def record(file: Path, command: list[str]) -> None:
    """Run the command, show what it prints, and keep that with its times."""
    begun_s = time.monotonic()
    events = [[0.0, "o", f"$ {' '.join(command)}\n"]]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.stdout is not None
    for text in run.stdout:
        print(text, end="")
        events.append([round(time.monotonic() - begun_s, 3), "o", text])
    if run.wait() != 0:
        raise SystemExit(f"{' '.join(command)} failed: nothing is kept")
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": " ".join(command)}
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (header, *events)))


def lines_of(cast: str) -> list[Line]:
    """Those of an asciicast whose events are whole lines, folded."""
    events = [json.loads(row) for row in cast.splitlines()[1:]]
    return [Line(at_s, row) for at_s, _, text in events for row in rows_of(text.rstrip("\n"))]


def rows_of(text: str) -> list[str]:
    """As a terminal folds it; what follows a time stays beside it."""
    beside = " " * len(match.group()) if (match := re.match(r"\s*\d+:\d\d  ", text)) else ""
    return textwrap.wrap(text, COLUMNS, subsequent_indent=beside, break_on_hyphens=False) or [""]


def draw(lines: list[Line]) -> str:
    """The SVG. Line i appears at its time, and the text moves up when the rows are full."""
    end_s = lines[-1].at_s
    speed = max(1.0, end_s / PLAYED_S)
    period_s = end_s / speed + STILL_S
    appears = [100 * line.at_s / speed / period_s for line in lines]
    rows, moves = [], []
    for number, (line, percent) in enumerate(zip(lines, appears, strict=True)):
        y = TITLE_PX + MARGIN_PX + LINE_PX * (number + 1)
        kind = ' class="typed"' if line.text.startswith("$") else ""
        rows.append(
            f'<g class="line" style="animation-name:l{number}"><text x="{MARGIN_PX}" y="{y}"{kind}>'
            f"{escape(line.text)}</text></g>"
        )
        moves.append(
            f"@keyframes l{number}{{0%,{max(0, percent - 0.01):.2f}%{{opacity:0}}{percent:.2f}%,100%{{opacity:1}}}}"
        )
    scrolled = [(percent, -LINE_PX * max(0, number + 1 - ROWS)) for number, percent in enumerate(appears)]
    steps = "".join(
        f"{now:.2f}%{{transform:translateY({up}px)}}{max(now, then - 0.01):.2f}%{{transform:translateY({up}px)}}"
        for (now, up), (then, _) in pairwise([*scrolled, (100.0, 0)])
    )
    last = scrolled[-1][1]
    width, height = COLUMNS * CHARACTER_PX + 2 * MARGIN_PX, TITLE_PX + ROWS * LINE_PX + 2 * MARGIN_PX
    title = f"{lines[0].text.removeprefix('$ ')}: {end_s:.0f} s" + (f", {speed:.0f} times as fast" if speed > 1 else "")
    size = f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}"'
    below = height - TITLE_PX
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<title>{escape(title)}</title>
<style>
text{{font:13px ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;fill:#d7dde5;white-space:pre}}
.typed{{fill:#7fd1b9;font-weight:bold}}.title{{fill:#8b95a1}}
.line,.all{{animation-duration:{period_s:.1f}s;animation-iteration-count:infinite;animation-timing-function:linear}}
.all{{animation-name:all;transform:translateY({last}px)}}
@keyframes all{{{steps}100%{{transform:translateY({last}px)}}}}
{"".join(moves)}
@media (prefers-reduced-motion:reduce){{.line,.all{{animation:none}}}}
</style>
<rect width="100%" height="100%" rx="8" fill="#10151c"/>
<text x="{MARGIN_PX}" y="20" class="title">{escape(title)}</text>
<svg y="{TITLE_PX}" width="{width:.0f}" height="{below}" viewBox="0 {TITLE_PX} {width:.0f} {below}">
<g class="all">
{chr(10).join(rows)}
</g>
</svg>
</svg>
"""


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", file, *command] if command:
            record(Path(file), command)
        case ["draw", cast, svg]:
            Path(svg).write_text(draw(lines_of(Path(cast).read_text())))
        case _:
            raise SystemExit(__doc__)
