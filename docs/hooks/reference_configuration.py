"""The page of configuration files, from the models that validate them: a section a command, a table a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from source import cell, code, comments_of, first_sentence

from loadgen.patterns import known_patterns
from loadgen.traces import FORMATS
from testbed.activator.config import ActivatorConfig
from testbed.adaptation.settings import AdaptConfig
from testbed.adapter.config import AdapterConfig
from testbed.autoscaling.metrics import METRICS
from testbed.autoscaling.policy import known_policies
from testbed.bundle.campaigns import CampaignPlan
from testbed.config import CalibrateConfig, MeasureConfig, ReplayConfig, ServeConfig, SimulateConfig, TraceConfig
from testbed.controller.config import BudgetControllerConfig, ControllerConfig
from testbed.grid_study import STUDIES
from testbed.kiscaler.learner import METHODS
from testbed.kiscaler.train_config import TrainConfig
from testbed.pipeline import studies  # noqa: F401 - they register themselves
from testbed.pipeline.adaptation_config import AdaptRunConfig
from testbed.pipeline.benchmark_config import BenchmarkConfig
from testbed.pipeline.capacity_config import PlanConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.devices_config import DevicesConfig
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.packing_config import PackConfig
from testbed.pipeline.service_tuning_config import TuneServiceConfig
from testbed.pipeline.tune_config import TuneConfig
from testbed.simulation.cluster.sharing import MODES

# By the command that reads it. The order is that of `kis --help`; what reads several kinds of file has several entries.
MODELS: dict[str, type[BaseModel]] = {
    "kis serve": ServeConfig,
    "kis replay": ReplayConfig,
    "kis measure": MeasureConfig,
    "kis calibrate": CalibrateConfig,
    "kis devices": DevicesConfig,
    "kis traffic": TraceConfig,
    "kis simulate": SimulateConfig,
    "kis simulate --cluster": ClusterRunConfig,
    "kis plan": PlanConfig,
    "kis pack": PackConfig,
    "kis tune-service": TuneServiceConfig,
    **{f"kis study ({name})": study for name, study in sorted(STUDIES.known().items())},
    "kis tune": TuneConfig,
    "kis benchmark": BenchmarkConfig,
    "kis train": TrainConfig,
    "kis evaluate": EvaluateConfig,
    "kis adapt": AdaptRunConfig,
    "kis controller": ControllerConfig,
    "kis controller (several deployments)": BudgetControllerConfig,
    "kis controller --adapt": AdaptConfig,
    "kis adapter": AdapterConfig,
    "kis activator": ActivatorConfig,
    "kis experiment": ExperimentConfig,
    "campaigns of a bundle": CampaignPlan,
}
HEAD = """# Configuration files

A command reads one YAML file. The files that ship are in `testbed/configs`. An unknown key is refused, and the message
names the nearest known one. A path in a YAML file is relative to that file. `extends: FILE` in any mapping takes over
the keys of another file. Each key is also a flag of the command; a key inside a mapping has a dot:
`--client.max-in-flight 100`.

A default that reads *required* must be given. A type that is a link is a mapping with keys of its own, further down.
"""
WORDS = {
    int: "integer",
    float: "number",
    Fraction: "number or fraction",
    str: "text",
    bool: "true, false",
    Path: "path",
    dict: "mapping",
}
VALUES = """## Names in configurations

Wherever one of these names can stand, you can also name a class of your own: `my_module:MyClass`. Its folder must be on
PYTHONPATH.
"""


def page() -> str:
    """Markdown, generated anew at each build."""
    nested: dict[type, None] = {}
    parts = [HEAD, "## Files by command\n"]
    for command, model in MODELS.items():
        parts += [f"### {command}\n", *table(model, nested)]
    names = [*_names(nested)]
    return "\n".join([*parts, "## Mappings inside them\n", *sections(nested), VALUES, *names])


def sections(nested: dict[type, None]) -> Iterator[str]:
    """A section for each of these models and dataclasses, and for each that they link to."""
    written: set[type] = set()
    while waiting := [kind for kind in nested if kind not in written]:
        for kind in waiting:
            written.add(kind)
            yield from (f"### {kind.__name__}\n", *table(kind, nested))


def table(kind: type, nested: dict[type, None]) -> Iterator[str]:
    """What a model or a dataclass is, and its keys. nested: gets the models that it links to."""
    yield f"{cell(first_sentence(inspect.getdoc(kind) or ''))}\n"
    rows = "\n".join(
        f"| `{name}` | {_type(annotation, nested)} | {default} | {cell(text)} |"
        for name, annotation, default, text in _keys(kind)
    )
    yield f"| key | type | default | meaning |\n| --- | --- | --- | --- |\n{rows}\n"


def _keys(kind: type) -> Iterator[tuple[str, Any, str, str]]:
    """Name, annotation, default and meaning of each key."""
    said = comments_of(kind)
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            text = field.description or said.get(name) or _of_nested(field.annotation)
            default = "*required*" if field.is_required() else _default(field.get_default(call_default_factory=True))
            yield name, field.rebuild_annotation(), default, text
        return
    hints = get_type_hints(kind, include_extras=True)
    for each in fields(kind):
        given = each.default if each.default_factory is MISSING else each.default_factory()
        text = each.metadata.get("description") or said.get(each.name) or _of_nested(hints[each.name])
        yield each.name, hints[each.name], "*required*" if given is MISSING else _default(given), text


def _of_nested(annotation: Any) -> str:
    """Of a key that holds another model: what that model is."""
    docs = [first_sentence(inspect.getdoc(kind) or "") for kind in _mappings(annotation)]
    return docs[0] if docs else ""


def _mappings(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        yield annotation
    for inner in get_args(annotation):
        yield from _mappings(inner)


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, BaseModel) or is_dataclass(value):
        return "its defaults"
    if isinstance(value, tuple | list):
        return "[its defaults]" if any(isinstance(item, BaseModel) for item in value) else code(f"[{_joined(value)}]")
    if isinstance(value, bool):
        return code(str(value).lower())
    return code("{}" if value == {} else f"{value:g}" if isinstance(value, float) else str(value) or '""')


def _joined(values: tuple[Any, ...] | list[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _type(annotation: Any, nested: dict[type, None]) -> str:
    """In words of YAML; mappings with keys of their own become links, and are to be written."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        words = _type(arguments[0], nested)
    elif origin in (Union, UnionType):
        words = " or ".join(dict.fromkeys(_type(kind, nested) for kind in arguments if kind is not type(None)))
    elif origin is Literal:
        words = ", ".join(code(str(choice)) for choice in arguments)
    elif origin in (tuple, list):
        words = f"list of {_type(arguments[0], nested)}"
    elif origin in (dict, Mapping):
        words = "mapping" if arguments[1] is Any else f"mapping to {_type(arguments[1], nested)}"
    elif isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        nested[annotation] = None
        words = f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    else:
        words = WORDS.get(annotation, "any")
    return words


def _names(nested: dict[type, None]) -> Iterator[str]:
    yield "### Traffic patterns\n"
    for name, pattern in known_patterns().items():
        if pattern.configurable:
            yield from _class(name, pattern, nested)
    yield "### Policies\n"
    for name, kind in sorted(known_policies().items()):
        yield from _class(name, kind, nested)
    short = {
        "Trace formats": FORMATS,
        "Metrics of pods": METRICS,
        "Ways to share a GPU": MODES,
        "Learning methods": METHODS,
    }
    for title, registry in short.items():
        rows = (
            f"| `{name}` | {cell(first_sentence(inspect.getdoc(kind) or ''))} |"
            for name, kind in registry.known().items()
        )
        yield f"### {title}\n\n| name | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def _class(name: str, kind: type, nested: dict[type, None]) -> Iterator[str]:
    """A pattern or a policy: the fields of its dataclass are its keys."""
    yield f"#### {name}\n\n{cell(' '.join((inspect.getdoc(kind) or '').split()))}\n"
    rows = [
        f"| `{key}` | {_type(annotation, nested)} | {default} | {cell(text)} |"
        for key, annotation, default, text in _keys(kind)
        if key != "name"
    ]
    yield "| key | type | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n" if rows else ""
