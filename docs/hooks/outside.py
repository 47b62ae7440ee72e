"""What a page says of the repository's files outside docs/: the site has none of them, so a link becomes their name.

A picture is taken along. A file that is not there is a warning, and so the end of a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
BLOCK = re.compile(r"(^ *```.*?^ *```$)", flags=re.DOTALL | re.MULTILINE)
_log = logging.getLogger("mkdocs.hooks.outside")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/ as code; code itself stays as it is."""
    root = Path(config.docs_dir).parent

    def replaced(match: re.Match[str]) -> str:
        is_picture, text, target = match.groups()
        path = _outside(page.file.src_uri, target)
        if path is None:
            return match[0]
        if not (root / path).exists():
            _log.warning("%s: %s is not in the repository", page.file.src_uri, path)
        if is_picture:
            return f"![{text}]({_taken_along(root / path, path, page, config, files)})"
        return f"`{path}`" if text.strip("`") in (path, posixpath.basename(path)) else f"{text} (`{path}`)"

    return "".join(text if k % 2 else LINK.sub(replaced, text) for k, text in enumerate(BLOCK.split(markdown)))


def _outside(page: str, target: str) -> str | None:
    """The path in the repository of a link out of docs/; None: it stays inside, or leads to another host."""
    if re.match(r"[a-z]+:|#|/", target):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target.partition("#")[0]))
    return None if path == "docs" or path.startswith("docs/") else path


def _taken_along(source: Path, path: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    copy = f"assets/{path}"
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(source)))
    return posixpath.relpath(copy, posixpath.dirname(page.file.src_uri) or ".")
