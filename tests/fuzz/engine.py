"""Inputs by number: the same reader, seed and number give the same input; and a run over many of them."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.judge import Outcome, judged, scratch
from tests.fuzz.mutate import mutated
from tests.fuzz.readers import Reader

CORPUS = Path(__file__).parent / "corpus"
KEPT = 40  # failures of a run that are told, one for each place


@dataclass
class Tally:
    """What became of a reader's inputs. failures: by what is wrong, the first input's number and bytes."""

    inputs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    worst_s: float = 0.0
    worst_bytes: int = 0
    failures: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def add(self, number: int, data: bytes, outcome: Outcome) -> None:
        """Count one more."""
        self.inputs += 1
        self.counts[outcome.what] += 1
        self.worst_s = max(self.worst_s, outcome.cpu_s)
        self.worst_bytes = max(self.worst_bytes, outcome.memory_bytes)
        if outcome.what == "failed" and len(self.failures) < KEPT:
            self.failures.setdefault(_place(outcome.said), (number, data))


def _place(said: str) -> str:
    """Two failures at one place are one."""
    kind, _, text = said.partition(":")
    return f"{kind} {said[said.rindex(' (') :]}" if text.endswith(")") else said


def input_of(reader: Reader, seeds: list[bytes], seed: int, number: int) -> bytes:
    """The number-th input; the seeds themselves come first."""
    if number < len(seeds):
        return seeds[number]
    rng = random.Random(f"{seed} {reader.kind} {reader.name} {number}")
    return mutated(rng.choice(seeds), reader.form, rng, tuple(seeds))


def inputs_of(reader: Reader, seed: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """All of them, with their numbers; without an end."""
    seeds = reader.seeds()
    number = first
    while True:
        yield number, input_of(reader, seeds, seed, number)
        number += 1


def run(
    reader: Reader,
    seed: int,
    inputs: int,
    seconds: float,
    first: int = 0,
    told: Callable[[int], None] = lambda number: None,
) -> Tally:
    """So many inputs, or as many as fit into these seconds. told: gets each number before its input is read."""
    tally, until_s = Tally(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        for number, data in inputs_of(reader, seed, first):
            if number >= first + inputs or time.monotonic() > until_s:
                return tally
            told(number)
            tally.add(number, data, judge(reader, data, Path(folder)))
    raise AssertionError


def judge(reader: Reader, data: bytes, folder: Path) -> Outcome:
    """One input, in a folder for it."""
    here = folder / "here"
    here.mkdir(exist_ok=True)
    file = here / reader.file
    file.write_bytes(data)
    try:
        return judged(reader.read, file)
    finally:
        if sum(1 for _ in here.iterdir()) > 1:
            shutil.rmtree(here)


def corpus() -> list[tuple[str, Path]]:
    """Inputs of up to 6 kB that once failed: `kind/name` of its reader, and its file."""
    files = sorted(file for file in CORPUS.rglob("*") if file.is_file())
    return [(f"{file.parent.parent.name.replace('-', ' ')}/{file.parent.name}", file) for file in files]
