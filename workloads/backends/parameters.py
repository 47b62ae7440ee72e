"""What Triton hands to a model's initialize(), read once."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceParameters:
    """One model instance: its name, its place, and the string parameters of config.pbtxt."""

    instance: str
    device: str  # torch's name: "cpu", "cuda:0"
    max_batch_size: int
    values: dict[str, str]

    @classmethod
    def read(cls, args: dict[str, str]) -> InstanceParameters:
        """From the `args` of `TritonPythonModel.initialize`."""
        config = json.loads(args["model_config"])
        on_gpu = args["model_instance_kind"] == "GPU"
        return cls(
            instance=args["model_instance_name"],
            device=f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu",
            max_batch_size=int(config["max_batch_size"]),
            values={key: entry["string_value"] for key, entry in config["parameters"].items()},
        )
