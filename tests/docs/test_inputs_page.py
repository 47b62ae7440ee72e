"""The page of what goes in is as today's code reads it."""

from __future__ import annotations

from tests.conformance.inputs import PAGE, page


def test_each_file_is_read_as_the_page_says():
    assert PAGE.read_text() == page(), "write it again: python -m tests.conformance.inputs"
