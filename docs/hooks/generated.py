"""Pages that are not written by hand: commands, configuration, the formats' tables, and the gallery."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import reference_commands
import reference_configuration
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference_formats import filled

GALLERY = "testbed.reporting.gallery"  # python -m GALLERY FOLDER leaves gallery.md and gallery/*.png there


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The generated pages beside the written ones."""
    files.append(File.generated(config, "reference/commands.md", content=reference_commands.page()))
    files.append(File.generated(config, "reference/configuration.md", content=reference_configuration.page()))
    for file in _gallery(Path(config.docs_dir).parent):
        files.append(File.generated(config, file[0], abs_src_path=str(file[1])))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Markers of tables that come from schemas."""
    return filled(markdown)


def _gallery(root: Path) -> list[tuple[str, Path]]:
    """Its pages and pictures, by their names in the site; none where this checkout cannot draw it."""
    if find_spec(GALLERY) is None:
        return []
    folder = root / "build" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(
        [sys.executable, "-m", GALLERY, str(folder)], check=True, cwd=root, env=here, stdout=subprocess.DEVNULL
    )
    return [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*.*")) if file.is_file()]
