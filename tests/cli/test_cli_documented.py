"""What the documentation tells to type can be typed, and the configurations that ship can be read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from testbed.activator.config import ActivatorConfig
from testbed.adaptation.settings import AdaptConfig
from testbed.adapter.config import AdapterConfig
from testbed.bundle.campaigns import CampaignPlan
from testbed.cli.example import read_example
from testbed.cli.main import COMMANDS, application
from testbed.config import CalibrateConfig, ServeConfig
from testbed.config_file import load_config
from testbed.controller.config import BudgetControllerConfig, ControllerConfig
from testbed.kiscaler.train import TrainConfig
from testbed.pipeline.adaptation_config import AdaptRunConfig
from testbed.pipeline.benchmark_config import BenchmarkConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.devices_config import DevicesConfig
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.packing_config import PackConfig
from testbed.pipeline.studies.rate_sweep import RateSweep
from testbed.pipeline.tune_config import TuneConfig
from testbed.simulation.cluster.config import ClusterConfig

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs").rglob("*.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md", *sorted(DOCS)]
CONFIGS = ROOT / "testbed" / "configs"
KINDS: dict[str, type[BaseModel]] = {  # the first that matches
    "clusters/*": ClusterConfig,
    "demo/measure": CalibrateConfig,
    "demo/tune": TuneConfig,
    "demo/compare": EvaluateConfig,
    "adapt-controller": AdaptConfig,
    "adaptation*": AdaptRunConfig,
    "activator": ActivatorConfig,
    "adapter": AdapterConfig,
    "cluster": ClusterRunConfig,
    "cluster-nodes": ClusterRunConfig,
    "controller": ControllerConfig,
    "controller-budget": BudgetControllerConfig,
    "*devices": DevicesConfig,
    "drift": ExperimentConfig,
    "evaluate*": EvaluateConfig,
    "experiment": ExperimentConfig,
    "gpu-day*": CampaignPlan,
    "packing": PackConfig,
    "rate-sweep": RateSweep,
    "serve-*": ServeConfig,
    "train*": TrainConfig,
    "transfer*": ExperimentConfig,
    "tune*": TuneConfig,
    "benchmark": BenchmarkConfig,
    "*": CalibrateConfig,
}


def command_lines() -> Iterator[tuple[str, str]]:
    """Page and command line, of code in sentences and of lines in blocks."""
    for page in PAGES:
        blocks = re.split(r"^```.*$", page.read_text(), flags=re.MULTILINE)
        told = [match for text in blocks[::2] for match in re.findall(r"`(kis [^`]+)`", text)]
        told += [line for block in blocks[1::2] for line in re.findall(r"\bkis [a-z-]+ .*$", block, flags=re.MULTILINE)]
        for one in told:
            yield page.name, " ".join(one.partition("#")[0].split())
    for command in COMMANDS:
        yield f"{command} --help", read_example(command).typed.replace("\\\n", " ")


LINES = sorted(set(command_lines()))


def test_there_are_command_lines_to_look_at() -> None:
    assert len(LINES) > 50


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_line_of_the_documentation_can_be_typed(page: str, line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    if name in ("--help", "COMMAND"):
        return
    assert name in COMMANDS, f"{page}: {line}"
    command = typer.main.get_command(application([name])).commands[name]  # type: ignore[attr-defined]
    known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
    assert [argument for argument in arguments if argument.startswith("--") and argument not in known] == []
    if (
        any(not argument.startswith("-") for argument in arguments) and "..." not in arguments
    ):  # not only the name of a flag
        command.make_context(name, list(arguments))  # an argument too many, or a flag without its value


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_configuration_that_ships_can_be_read_and_names_files_that_are_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(file.relative_to(CONFIGS).with_suffix(""))
    config = load_config(file, next(kind for pattern, kind in KINDS.items() if Path(name).match(pattern)))
    monkeypatch.chdir(ROOT)
    for path in paths_in(config):
        to_be_had = path.name in ("tls.crt", "tls.key") or path.parent.name == "traces" or path.parts[0] == "/etc"
        assert path.exists() or to_be_had or path == Path("adaptation"), path


def paths_in(value: object) -> Iterator[Path]:
    """Of a model's fields, and of policies' settings."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from paths_in(getattr(value, name))
    elif isinstance(value, dict):
        yield from (Path(value[key]) for key in ("file", "tuned") if isinstance(value.get(key), str))
        for one in value.values():
            yield from paths_in(one)
    elif isinstance(value, tuple):
        for one in value:
            yield from paths_in(one)
