"""Tables of file formats from the schemas in the code: `<!-- table: module:NAME -->` in a page stands for one.

`<!-- nested objects -->` stands for the tables of all objects that those link to.
"""

from __future__ import annotations

import importlib
import re

import pyarrow as pa
from pydantic import BaseModel
from reference_configuration import sections, table
from source import cell, comments_of

MARKER = re.compile(r"^<!-- table: ([\w.]+):(\w+) -->$", flags=re.MULTILINE)
NESTED = "<!-- nested objects -->"


def filled(markdown: str) -> str:
    """The page with its tables."""
    nested: dict[type, None] = {}
    whole = MARKER.sub(lambda match: _of(match[1], match[2], nested), markdown)
    return whole.replace(NESTED, "\n".join(sections(nested)))


def _of(module_name: str, name: str, nested: dict[type, None]) -> str:
    module = importlib.import_module(module_name)
    schema = getattr(module, name)
    if isinstance(schema, pa.Schema):
        said = comments_of(module)
        rows = (
            f"| `{field.name}` | {kind} | {cell(said.get(field.name, ''))} |"
            for field in schema
            for kind in [f"{field.type}, or null" if field.nullable else field.type]
        )
        return "| column | type | meaning |\n| --- | --- | --- |\n" + "\n".join(rows)
    assert issubclass(schema, BaseModel), f"{module_name}:{name} is neither a schema nor a model"
    return "\n".join(table(schema, nested))
