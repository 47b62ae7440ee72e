"""README.md and all pages but the tutorials do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, blocks_of
from tests.docs.running import PageRun

RUN = [page for page in PAGES if page.parent != ROOT / "docs" / "tutorial" and blocks_of(page)]


@pytest.mark.server
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    PageRun(page, tmp_path).run()
