"""The adaptation of a controller's policy: `kis controller C --adapt FILE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from testbed.adaptation.adapt import AdaptSettings
from testbed.adaptation.adaptive import make_adaptive
from testbed.adaptation.judge import Background
from testbed.autoscaling.policy import Policy
from testbed.config import Strict
from testbed.simulation.cluster.config import ClusterConfig


class AdaptConfig(Strict):
    """What the service was calibrated as, and in which simulated cluster candidates are judged."""

    cluster: ClusterConfig = Field(description="its one model, with its profile and latency target, is what is scaled")
    adaptation: AdaptSettings = AdaptSettings()
    folder: Path = Field(
        Path("adaptation"), description="of adaptation.jsonl and the new profiles; none named: in the current folder"
    )


@contextmanager
def adapted(config: AdaptConfig, source: str) -> Iterator[Callable[[Policy], Policy]]:
    """What makes a policy adaptive, for the length of the block; source: of the metrics, for provenance."""
    bench = Background()
    try:
        yield lambda policy: make_adaptive(policy, config.cluster, config.adaptation, config.folder, bench, source)
    finally:
        bench.close()
