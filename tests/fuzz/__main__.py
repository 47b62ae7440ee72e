"""python -m tests.fuzz [--seconds 3600] [--inputs 100000] [--only traces] [--seed 1] [--keep FOLDER]

Every reader in turn, each in a process of its own: one that a library takes down with it is told, and the others go on.
--inputs: for each kind, shared by its readers. --keep: where inputs that fail are written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz import engine, judge
from tests.fuzz.readers import readers

ADDRESS_SPACE = 12 << 30
WALL_S = 600.0  # without a new input: it hangs in a library, where no signal reaches it


def _child(name: str, seed: int, inputs: int, seconds: float, first: int, number: Any, answer: Connection) -> None:
    judge.at_most(ADDRESS_SPACE)

    def told(next_number: int) -> None:
        number.value = next_number

    answer.send(engine.run(readers()[name], seed, inputs, seconds, first, told))


def _run(name: str, seed: int, inputs: int, seconds: float) -> engine.Tally:
    """One reader. An input that ends the process is a failure, and the next process goes on behind it."""
    whole, first, until_s = engine.Tally(), 0, time.monotonic() + seconds
    while first < inputs and time.monotonic() < until_s:
        receiving, sending = multiprocessing.Pipe(duplex=False)
        number = multiprocessing.Value("q", first, lock=False)
        left = (inputs - first, until_s - time.monotonic(), first, number, sending)
        process = multiprocessing.Process(target=_child, args=(name, seed, *left))
        process.start()
        sending.close()
        seen, seen_s = -1, time.monotonic()
        while process.is_alive() and not receiving.poll(0.5):
            if number.value != seen:
                seen, seen_s = number.value, time.monotonic()
                _progress(name, seen, inputs)
            if time.monotonic() - seen_s > WALL_S:
                process.kill()
        try:
            _add(whole, receiving.recv())
            process.join()
            return whole
        except EOFError:
            process.join()
            reader = readers()[name]
            data = engine.input_of(reader, reader.seeds(), seed, number.value)
            what = f"ended the process (exit status {process.exitcode})"
            whole.inputs += number.value + 1 - first  # of the others, nobody knows what became of them
            whole.counts["failed"] += 1
            whole.failures.setdefault(f"{what} at {number.value}", (number.value, data))
            first = number.value + 1
    return whole


def _add(whole: engine.Tally, part: engine.Tally) -> None:
    whole.inputs += part.inputs
    whole.counts += part.counts
    whole.worst_s, whole.worst_bytes = max(whole.worst_s, part.worst_s), max(whole.worst_bytes, part.worst_bytes)
    whole.failures |= part.failures


def _progress(name: str, number: int, inputs: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{name}: {number:,} of {inputs:,}\x1b[K", end="", file=sys.stderr, flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all readers together")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each kind, shared by its readers")
    parser.add_argument("--only", default="", help="readers whose kind/name begins so")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for inputs that fail")
    given = parser.parse_args()
    multiprocessing.set_start_method("fork")
    names = [name for name in readers() if name.startswith(given.only)]
    of_kind = defaultdict(list)
    for name in names:
        of_kind[name.partition("/")[0]].append(name)
    tallies: dict[str, engine.Tally] = {}
    until_s = time.monotonic() + given.seconds
    for place, name in enumerate(names):
        share = -(-given.inputs // len(of_kind[name.partition("/")[0]]))
        tally = tallies[name] = _run(name, given.seed, share, (until_s - time.monotonic()) / (len(names) - place))
        _tell(name, tally, given.keep)
    print("\n| kind | inputs | refused | read | failures | worst s | worst MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, its in of_kind.items():
        whole = engine.Tally()
        for name in its:
            _add(whole, tallies[name])
        counts = whole.counts
        numbers = f"{whole.inputs:,} | {counts['refused']:,} | {counts['read']:,} | {counts['failed']:,}"
        print(f"| {kind} | {numbers} | {whole.worst_s:.2f} | {whole.worst_bytes >> 20} |")
    return 1 if any(tally.counts["failed"] for tally in tallies.values()) else 0


def _tell(name: str, tally: engine.Tally, keep: Path | None) -> None:
    counts = ", ".join(f"{tally.counts[what]:,} {what}" for what in ("refused", "read", "failed"))
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    worst = f"{tally.worst_s:.2f} s, {tally.worst_bytes >> 20} MiB"
    print(f"{clear}{name}: {tally.inputs:,} inputs, {counts}, {worst}", flush=True)
    for said, (number, data) in tally.failures.items():
        print(f"    {number}: {said}\n        {data[:100]!r}", flush=True)
        if keep is not None:
            (keep / name).mkdir(parents=True, exist_ok=True)
            (keep / name / str(number)).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
