"""Patterns in mkdocs.yml's nav, and pages that may be missing."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Each pattern becomes the pages that match it and that no other entry names; what is not there is left out."""
    pages = sorted(file.src_uri for file in files.documentation_pages())
    named = set(_names(config.nav))
    config.nav = _expanded(config.nav, pages, named)
    return files


def _names(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [name for part in inner for name in _names(part)]


def _expanded(entries: list[Any], pages: list[str], named: set[str]) -> list[Any]:
    out: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            out += [page for page in pages if fnmatch(page, entry) and (page == entry or page not in named)]
            continue
        ((title, inner),) = entry.items()
        shown = _expanded(inner, pages, named) if isinstance(inner, list) else inner if inner in pages else None
        out += [{title: shown}] if shown else []
    return out
