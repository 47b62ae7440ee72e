"""The tutorials do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT
from tests.docs.running import PageRun

TUTORIALS = [page for page in PAGES if page.parent == ROOT / "docs" / "tutorial"]


@pytest.mark.timeout(1200)  # a minute on an idle machine
@pytest.mark.server
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path) -> None:
    assert PageRun(page, tmp_path).run() > 0
