"""The torch networks by family: `build` of workloads/backends/<family>_network.py. Needs torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

from workloads.catalog import CatalogError, ModelSpec

Build = Callable[[int, str | None], torch.nn.Module]  # of a seed and a weights file


def has_network(family: str) -> bool:
    """False: models of this family only wait."""
    return find_spec(f"workloads.backends.{family}_network") is not None


def build_network(spec: ModelSpec, seed: int, weights_file: Path | None) -> torch.nn.Module:
    """In evaluation mode, with the file's weights or, without one, random ones; CatalogError if nothing is to run."""
    if not has_network(spec.family):
        raise CatalogError(f"model '{spec.name}' runs no network: choose another one, or the python backend")
    build: Build = importlib.import_module(f"workloads.backends.{spec.family}_network").build
    return build(seed, None if weights_file is None else str(weights_file))
