"""What a report's page shows in its figures."""

from __future__ import annotations

import base64
import re


def figures_of(page: str) -> list[str]:
    """The SVG of each figure, in order."""
    addresses = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [base64.b64decode(address).decode() for address in addresses]


def texts_of(svg: str) -> list[str]:
    """Everything that is written in a figure."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)
