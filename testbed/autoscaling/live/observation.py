"""An Observation of a real deployment: its pods from the API, its metrics from the scrapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Scrape, Window, last_window, window_of


@dataclass(frozen=True)
class LiveObservation:
    """See autoscaling.observation.Observation. Times are seconds on the controller's clock (clock.steady_clock)."""

    now_s: float
    spec_replicas: int
    pods: Sequence[PodState]
    scrapes: Sequence[Scrape]

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        """See Observation. The metrics are as old as they are: metrics_delay_s is the least age wanted."""
        places = last_window([scrape.time_s for scrape in self.scrapes], self.now_s, seconds, metrics_delay_s)
        return None if places is None else window_of(self.scrapes[places[0] : places[1] + 1])
