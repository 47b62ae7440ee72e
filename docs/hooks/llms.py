"""llms.txt and llms-full.txt at the site's root (llmstxt.org), and each page's Markdown beside it."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

_pages: dict[str, tuple[Page, str]] = {}  # by name, in the order of the navigation
_navigation: list[Navigation] = []


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    """A build begins."""
    _pages.clear()
    _navigation[:] = [nav]


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """What the page says, after the hooks before this one."""
    _pages[page.file.src_uri] = (page, str(page.markdown))


def on_post_build(config: MkDocsConfig) -> None:
    """Write the files."""
    site = Path(config.site_dir)
    head = f"# {config.site_name}\n\n> {config.site_description}\n"
    lines, whole, section = [head], [head], ""
    for page in _navigation[0].pages:
        _, markdown = _pages[page.file.src_uri]
        above = page.ancestors[-1].title if page.ancestors else "Overview"
        if above != section:
            lines.append(f"\n## {above}\n")
            section = above
        (site / page.file.src_uri).parent.mkdir(parents=True, exist_ok=True)
        (site / page.file.src_uri).write_text(markdown)
        lines.append(f"- [{page.title}]({page.file.src_uri}): {description(markdown)}")
        whole.append(f"\n<!-- {page.file.src_uri} -->\n\n{markdown.strip()}\n")
    (site / "llms.txt").write_text("\n".join(lines) + "\n")
    (site / "llms-full.txt").write_text("".join(whole))


def description(markdown: str) -> str:
    """The first sentence of a page, without links."""
    body = re.sub(r"<!--.*?-->|^```.*?^```$|^\|.*?$|^#.*?$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    paragraph = next((part for part in re.split(r"\n\s*\n", body) if part.strip()), "")
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    return re.split(r"(?<=[a-z0-9)`]\.) (?=[A-Z`])", text)[0]
