"""Models of a user's kind, each typed in as a user would: `python -m tests.conformance.own_models FOLDER`.

A real tritonserver has them all (tests/loadgen/own_models.py), and each is calibrated by `kis calibrate --quick`.
FOLDER gets a calibration of each supported one, and models.json and models.md: what was typed, what came out, and
the P95 latency of the held-out runs, simulated against real. What is in FOLDER already is not measured again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.loadgen.own_models import OwnServer, own_server

TIMED = {"wait_ms": "8", "row_ms": "1"}  # a batch of b takes 8 + b ms
TIMEOUT_S = 600.0
NAMED = ("http://SERVER:8000", "http://SERVER:8002/metrics")


class Typed(NamedTuple):
    """A model, what it is in a few words, and the flags that it needs."""

    model: str
    kind: str
    flags: str = ""


SUPPORTED = (
    Typed("plain", "dynamic batching, FP32"),
    Typed("alone", "no dynamic batching"),
    Typed("preferred", "a preferred batch size of 4, a queue delay of 20 ms"),
    Typed("groups", "two instance groups, of 2 and 1 instances"),
    Typed("versions", "two versions, the newest takes twice as long"),
    Typed("types", "12 inputs, one of each datatype"),
    Typed("brain", "BF16"),
    Typed("numbers", "BYTES, three texts", "--input IN0=7"),
    Typed("words", "BYTES, two free dimensions", "--shape INPUT:1,1"),
    Typed("whole", "max_batch_size 0, two free dimensions", "--shape input_ids:1,128"),
    Typed("edges", "an empty tensor", "--shape edges:0,2"),
    Typed("libtorch", "input__0 to input__2, of which one is an index", "--input input__1=0..1"),
    Typed("optional", "an optional input, which is left out"),
    Typed("shaped", "reshape"),
    Typed("timed", "a queue timeout of 20 ms"),
    Typed("limited", "max_queue_size 2"),
)
REFUSED = (
    Typed("both", "ensemble"),
    Typed("cached", "response cache"),
    Typed("rated", "rate limiter"),
    Typed("ranked", "priorities"),
    Typed("sequence", "sequence batching"),
    Typed("decoupled", "decoupled"),
    Typed("broken", "fails every request"),
)


def measure(server: OwnServer, typed: Typed, folder: Path) -> str:
    """Calibrate it as a user would; its output. The folder has the runs, unless it was refused."""
    metrics = f"http://127.0.0.1:{server.ports.metrics}/metrics"
    command = [sys.executable, "-m", "testbed.cli", "calibrate", "--quick", "--server", f"http://{server.http}"]
    command += ["--metrics", metrics, "--model", typed.model, *shlex.split(typed.flags), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return (done.stdout + done.stderr).replace(f"http://{server.http}", NAMED[0]).replace(metrics, NAMED[1])


def row(typed: Typed, folder: Path, said: str) -> dict[str, Any]:
    """What is told of one model: its held-out runs, or the line that refused it."""
    command = f"kis calibrate --quick --server {NAMED[0]} --model {typed.model} {typed.flags}".rstrip()
    told: dict[str, Any] = {"model": typed.model, "kind": typed.kind, "typed": command}
    compared = folder / "comparison.json"
    if not compared.exists():
        return told | {"said": next((line for line in said.splitlines()[::-1] if line.startswith("kis:")), said)}
    runs = [run for run in json.loads(compared.read_text())["runs"] if run["held_out"]]
    kept = ("run_id", "valid", "reasons", "requests", "ok_real", "ok_sim", "p95_real_ms", "p95_sim_ms", "p95_error_pct")
    return told | {"runs": [{key: run.get(key) for key in kept} for run in runs]}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each held-out run, and one for each refusal."""
    lines = ["| model | what it is | flags | requests | P95 real, ms | simulated | error, % |"]
    lines.append("| --- | --- | --- | --: | --: | --: | --: |")
    for told in rows:
        flags = told["typed"].partition(f"--model {told['model']}")[2].strip()
        for run in told.get("runs", []):
            verdict = f"{run['p95_error_pct']:+.1f}" if run["valid"] else f"INVALID: {'; '.join(run['reasons'])}"
            lines.append(
                f"| {told['model']} | {told['kind']} | {f'`{flags}`' if flags else ''} | {run['requests']} "
                f"| {run['p95_real_ms']:.1f} | {run['p95_sim_ms']:.1f} | {verdict} |"
            )
    lines += ["", "| model | what it is | what `kis calibrate` says |", "| --- | --- | --- |"]
    lines += [f"| {told['model']} | {told['kind']} | `{told['said']}` |" for told in rows if "said" in told]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Measure what is not there yet, a line for each model, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "models.json"
    rows = {told["model"]: told for told in json.loads(written.read_text())} if written.exists() else {}
    with tempfile.TemporaryDirectory() as scratch, own_server(Path(scratch), timed=TIMED) as server:
        for typed in (*SUPPORTED, *REFUSED):
            if typed.model not in rows:
                said = measure(server, typed, folder / typed.model)
                rows[typed.model] = row(typed, folder / typed.model, said)
                written.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
            print(json.dumps(rows[typed.model]), flush=True)
    (folder / "models.md").write_text(table(list(rows.values())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
