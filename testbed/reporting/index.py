"""A page over several results folders: what each found, its pictures, and the way to its report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from testbed.reporting.report import environment
from workloads.files import write_text_atomically


class Entry(NamedTuple):
    """folder: relative to the page's. found: a sentence. link: a file in the folder. pictures: PNG files there.

    named: words in the pictures that the page explains.
    """

    title: str
    folder: str
    found: str
    link: str = "report.html"
    pictures: tuple[str, ...] = ()
    named: str = ""


def write_index(folder: Path, title: str, entries: Sequence[Entry]) -> Path:
    """index.html in the folder. The pictures are in the page: it loads nothing."""
    shown = [
        {
            **entry._asdict(),
            "heading": f"{number}. {entry.title[:1].upper()}{entry.title[1:]}",
            "sentence": f"{entry.found[:1].upper()}{entry.found[1:].removesuffix('.')}.",
            "images": {name: _address(folder / entry.folder / name) for name in entry.pictures},
        }
        for number, entry in enumerate(entries, start=1)
    ]
    page = environment(html=True).get_template("index.html.j2").render(title=title, entries=shown, figures={}, added=[])
    write_text_atomically(folder / "index.html", page)
    return folder / "index.html"


def _address(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
