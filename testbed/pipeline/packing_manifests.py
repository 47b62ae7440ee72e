"""A packing as what a cluster or a Triton takes: a kustomize component, the device plugin's setting, instance groups.

placement/kustomization.yaml   a component that pins each model's Deployment to its GPUs, by a label of the nodes
placement/device-plugin.yaml   configuration of NVIDIA's device plugin: replicas of a GPU
placement/MODEL.pbtxt          what a model's config.pbtxt says instead, on one Triton that has all the GPUs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed.pipeline.packing_config import PackConfig, PackedModel
from testbed.serving.model_control import as_pbtxt
from workloads.files import write_text_atomically

FOLDER = "placement"
LABEL = "kis/gpu"  # of a node with one GPU
SHARING = {"time_slicing": "timeSlicing", "mps": "mps"}  # as the device plugin calls it
HEAD = f"""\
# Of `kis pack`. Label the nodes, of one GPU each: kubectl label node NODE {LABEL}=gpu-1
# Then name this folder under `components` of the overlay that has the Deployments.
"""


def write_placement(config: PackConfig, gpus: Mapping[str, tuple[str, ...]], folder: Path) -> list[Path]:
    """The files, in the folder. gpus: models by GPU."""
    where = {model.name: [gpu for gpu, there in gpus.items() if model.name in there] for model in config.models}
    texts = {"kustomization.yaml": HEAD + _yaml(component(config, where))}
    most = max(map(len, gpus.values()))
    if config.gpu.sharing in SHARING and most > 1:
        texts["device-plugin.yaml"] = _yaml(device_plugin(config.gpu.sharing, most))
    for model in config.models:
        numbers = [[*gpus].index(gpu) for gpu in where[model.name]]
        texts[f"{model.name}.pbtxt"] = as_pbtxt({"instance_group": [_group(model, numbers)]})
    files = []
    for name, text in texts.items():
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / FOLDER / name, text)
        files.append(folder / FOLDER / name)
    return files


def component(config: PackConfig, where: Mapping[str, list[str]]) -> dict[str, Any]:
    """kustomize's Component. where: GPUs by model."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [
            {
                "target": {"kind": "Deployment", "name": (name := model.deployment or f"triton-{model.name}")},
                "patch": _yaml(_deployment(name, model.name, where[model.name])),
            }
            for model in config.models
        ],
    }


def device_plugin(sharing: str, replicas: int) -> dict[str, Any]:
    """Configuration of NVIDIA's device plugin, under which so many pods are given one GPU."""
    return {
        "version": "v1",
        "sharing": {SHARING[sharing]: {"resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}},
    }


def _deployment(name: str, model: str, gpus: list[str]) -> dict[str, Any]:
    """One pod on each of the GPUs. An update takes a pod away first: a new one beside it would find no place."""
    labels = {"kis/model": model}
    on_these = {"matchExpressions": [{"key": LABEL, "operator": "In", "values": gpus}]}
    apart = {"topologyKey": LABEL, "labelSelector": {"matchLabels": labels}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": len(gpus),
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_these]}
                        },
                        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
                    }
                },
            },
        },
    }


def _group(model: PackedModel, gpus: list[int]) -> dict[str, Any]:
    """Triton makes `count` instances on each of the GPUs."""
    return {"count": model.instances, "kind": "KIND_GPU", "gpus": gpus}


def _yaml(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Blocks, sort_keys=False, width=100))


class _Blocks(yaml.SafeDumper):
    """Text of several lines as it is, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """See SafeDumper."""
        return True


_Blocks.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
