"""KIScaler: an autoscaler that learns in the simulated cluster. Its environment is Gymnasium's from here on:
`gymnasium.make("testbed.kiscaler:KIScaler-v2", scenarios=...)`."""

from __future__ import annotations

import contextlib

ENV_ID = "KIScaler-v2"

with contextlib.suppress(ModuleNotFoundError):  # the light core has no Gymnasium, and reads what a training has left
    import gymnasium

    gymnasium.register(ENV_ID, entry_point="testbed.kiscaler.env:ScalingEnv")
