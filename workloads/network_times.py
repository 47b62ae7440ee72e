"""`python -m workloads.network_times resnet50`: how long a network takes without a server, in every precision.

A JSON line for each precision, and on a GPU for eager and graph: relative error of the answers against fp32, and by
batch size the median milliseconds of a batch with its copies (`batch_ms`) and of the network alone (`network_ms`, by
CUDA events, graph only). It needs the `serve` extra.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, get_args

import torch

from workloads.backends.runner import CapturedRunner, Runner
from workloads.catalog import CATALOG, find_model
from workloads.networks import build_network, has_network
from workloads.payloads import payload
from workloads.repository import Precision

WARM_UP = 3


def measure(runner: Runner, examples: Sequence[torch.Tensor], sizes: Sequence[int], repeats: int) -> dict[str, Any]:
    """Medians by batch size."""
    batch_ms, network_ms = {}, {}
    for size in sizes:
        columns = [[tensor[k : k + 1] for k in range(size)] for tensor in examples]
        for _ in range(WARM_UP):
            runner.run(columns)
        spans, on_device = [], []
        for _ in range(repeats):
            begin = time.perf_counter()
            runner.run(columns)
            spans.append(time.perf_counter() - begin)
            times = runner.device_times()
            if times is not None:
                on_device.append(times.network_ns)
        batch_ms[size] = round(1e3 * statistics.median(spans), 3)
        if on_device:
            network_ms[size] = round(statistics.median(on_device) / 1e6, 3)
    return {"batch_ms": batch_ms, "network_ms": network_ms or None}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m workloads.network_times", description=__doc__)
    parser.add_argument("model", choices=sorted(name for name, spec in CATALOG.items() if has_network(spec.family)))
    parser.add_argument("--device", choices=("cpu", "gpu"), default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    if given.device == "gpu" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: use --device cpu")
    if min(given.sizes) < 1 or min(given.threads, given.repeats) < 1:
        parser.error("--sizes, --threads and --repeats must be 1 or more")
    torch.set_num_threads(given.threads)
    device = torch.device("cuda:0" if given.device == "gpu" else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    rows = [payload(find_model(given.model).inputs, seed) for seed in range(max(given.sizes))]
    examples = [torch.stack([torch.from_numpy(row[key]) for row in rows]) for key in rows[0]]
    truth: torch.Tensor | None = None
    for precision in get_args(Precision):
        for execution in ("eager", "graph") if device.type == "cuda" else ("eager",):
            network = build_network(find_model(given.model), 0, None)
            if execution == "graph":
                runner: Runner = CapturedRunner(network, device, precision, [examples])
            else:
                runner = Runner(network, device, precision)
            answer = runner.run([[tensor] for tensor in examples]).double()
            truth = answer if truth is None else truth
            record = {"model": given.model, "device": name, "precision": precision, "execution": execution}
            record["relative_error"] = float(f"{float((answer - truth).norm() / truth.norm()):.2g}")
            print(json.dumps(record | measure(runner, examples, given.sizes, given.repeats)), flush=True)


if __name__ == "__main__":
    main()
