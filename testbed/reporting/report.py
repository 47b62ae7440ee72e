"""What a report is: a folder's marker, what is gathered from it, and two templates. `Report.write` does the rest."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from testbed.reporting import drawing, labels
from testbed.reporting.added import figures_added_to
from testbed.reporting.drawing import PIXELS_PER_INCH, save_png, svg_address
from workloads.files import write_json, write_text_atomically


class Shown(NamedTuple):
    """A figure in a page. width, height: in pixels, as it was drawn."""

    address: str
    width: int
    height: int

    @classmethod
    def of(cls, figure: Figure) -> Shown:
        """As SVG."""
        width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
        return cls(svg_address(figure), width, height)


@dataclass(frozen=True)
class Content:
    """All that a report says.

    values: of both templates. figures: of the page, by the name that its template asks for. pictures: of report.md, by
    their file in the folder. files: JSON to write beside the report, or a text as it is; None: there is no such file.
    """

    values: Mapping[str, Any]
    figures: Mapping[str, Callable[[], Figure]]
    pictures: Mapping[str, Callable[[], Figure]]
    files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """One kind of report. name: of its templates, NAME.html.j2 and NAME.md.j2.

    marker: a file that only a folder of this kind has, as a glob pattern. gather: ArtifactError or ReportError if a
    folder cannot be read. command: what leaves such a folder. For an index over several folders, question: that such a
    folder answers; found: the answer in a sentence, from the small files that stand beside a written report.
    """

    name: str
    marker: str
    command: str
    gather: Callable[[Path], Content]
    question: str = ""
    found: Callable[[Path], str] = lambda folder: ""

    def fits(self, folder: Path) -> bool:
        """Whether the folder has the marker."""
        return any(folder.glob(self.marker))

    def write(self, folder: Path, on_progress: Callable[[float], None] = lambda _: None) -> Path:
        """Write report.html, report.md, its pictures and the JSON files; returns the path of report.html.

        Figures that were added to this kind of report stand at the end of both pages. on_progress: share of figures.
        """
        content = self.gather(folder)
        added = [one for one in figures_added_to(self.name) if one.applies(folder)]
        for file, value in content.files.items():
            if value is None:
                (folder / file).unlink(missing_ok=True)
            elif isinstance(value, str):
                write_text_atomically(folder / file, value)
            else:
                write_json(folder / file, value)
        for old in folder.glob("figures/*.png"):
            old.unlink()  # some may be of runs that are gone
        more: dict[str, Callable[[], Figure]] = {one.name: partial(one.draw, folder) for one in added}
        pictures = {**content.pictures, **{one.picture: more[one.name] for one in added}}
        total = len(pictures) + len(content.figures) + len(more)
        for done, (file, draw) in enumerate(pictures.items()):
            on_progress(done / total)
            (folder / file).parent.mkdir(exist_ok=True)
            save_png(draw(), folder / file)
        text = environment(html=False).get_template(f"{self.name}.md.j2").render(content.values)
        text += "".join(f"\n![{_escape_markdown(one.caption)}]({one.picture})\n" for one in added)
        write_text_atomically(folder / "report.md", text)
        shown = {}
        for done, (name, draw) in enumerate({**content.figures, **more}.items(), start=len(pictures)):
            on_progress(done / total)
            shown[name] = Shown.of(draw())
        template = environment(html=True).get_template(f"{self.name}.html.j2")
        page = template.render(content.values, figures=shown, added=added)
        write_text_atomically(folder / "report.html", page)
        return folder / "report.html"


def rounded(value: Any) -> Any:
    """Six decimals, for JSON files that are equal on every machine."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def environment(html: bool) -> Environment:
    """Of the templates beside this file; html: values are escaped for a page, else Markdown has its filter `md`."""
    loader = PackageLoader("testbed.reporting")
    made = Environment(
        loader=loader,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    script = loader.get_source(made, "report.js")[0]
    made.filters.update(
        number=labels.number,
        money=labels.money,
        ms=labels.milliseconds,
        plain=labels.plain,
        significant=labels.significant,
        verdict_text=labels.verdict_text,
        parameters=labels.parameters_text,
        explained=labels.explained,
        counted=labels.counted,
        settings=labels.settings,
        range_of=labels.range_of,
        left_out=labels.left_out_text,
        capacity=labels.capacity_text,
        md=_escape_markdown,
    )
    made.globals.update(
        style=drawing,
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        device_text=labels.device_text,
        terms_in=labels.terms_in,
        not_measured=labels.NOT_MEASURED,
        gpu_explained=labels.GPU_EXPLAINED,
        parts_explained=labels.PARTS_EXPLAINED,
    )
    return made


def _escape_markdown(value: Any) -> str:
    """A name as literal text, in a table cell too."""
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\`*_{}[]|#!~$":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
