"""What every page shares: templates with their filters, and figures as JSON."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from testbed.reporting import labels


def script_json(figure: go.Figure) -> Markup:
    """JSON that may stand inside a <script>: no tag can begin in it."""
    value = json.loads(figure.to_json())
    text = json.dumps({"data": value["data"], "layout": value["layout"]}, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def environment(html: bool) -> Environment:
    """Of the templates beside this file; html: values are escaped for a page, else Markdown has its filter `md`."""
    made = Environment(
        loader=PackageLoader("testbed.reporting"),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters.update(
        number=labels.number,
        ms=labels.milliseconds,
        left_out=labels.left_out_text,
        capacity=labels.capacity_text,
        md=_escape_markdown,
    )
    made.globals.update(
        device_text=labels.device_text,
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
