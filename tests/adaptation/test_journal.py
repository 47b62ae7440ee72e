"""A journal that is kept for months: the file has every step, the memory the last ones."""

from __future__ import annotations

import json
from pathlib import Path

from testbed.adaptation.journal import KEPT, Journal, JournalEntry, read_journal

MANY = 3 * KEPT


def entry(number: int) -> JournalEntry:
    return JournalEntry(float(number), "WATCHING", f"step {number}", {})


def test_the_file_has_every_step_and_the_memory_the_last_ones(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "adaptation.jsonl")
    for number in range(MANY):
        journal.note(entry(number))
    assert [one["time_s"] for one in read_journal(tmp_path / "adaptation.jsonl")] == list(range(MANY))
    assert [one.time_s for one in journal.entries] == list(range(MANY - KEPT, MANY))


def test_what_could_not_be_written_is_written_later_once_each(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    journal = Journal(tmp_path / "folder" / "adaptation.jsonl")
    journal.note(entry(0))
    journal.note(entry(1))
    (tmp_path / "folder").unlink()
    journal.note(entry(2))
    journal.note(entry(3))
    lines = (tmp_path / "folder" / "adaptation.jsonl").read_text().splitlines()
    assert [json.loads(line)["time_s"] for line in lines] == [0, 1, 2, 3]


def test_a_disk_that_stays_full_does_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    journal = Journal(tmp_path / "folder" / "adaptation.jsonl")
    for number in range(MANY):
        journal.note(entry(number))
    (tmp_path / "folder").unlink()
    journal.note(entry(MANY))
    times = [one["time_s"] for one in read_journal(tmp_path / "folder" / "adaptation.jsonl")]
    assert times == list(range(MANY - KEPT + 1, MANY + 1))


def test_one_without_a_file_is_bounded_too() -> None:
    journal = Journal(None)
    for number in range(MANY):
        journal.note(entry(number))
    assert len(journal.entries) == KEPT
