"""Flags that several commands share, and short names for keys of their models."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from loadgen.access import Access, given_headers
from loadgen.patterns import known_patterns
from loadgen.request_rows import parse_rows
from loadgen.traces import FORMATS
from testbed.cli.flags import Given, Short, plain
from testbed.config import WHOLE_HPA
from testbed.errors import ConfigError
from testbed.ray_cluster import load_ray
from testbed.study import Workers, all_processors

ConfigFile = Annotated[
    Path | None, typer.Argument(help="Configuration file (YAML); flags override it.", show_default=False)
]
Config = Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")]
Out = Annotated[
    Path | None,
    typer.Option(help=r"Folder for the results. \[default: results/TIME-WHAT, in the current folder]"),
]
Kubeconfig = Annotated[Path | None, typer.Option(help=r"\[default: the pod's own account, or KUBECONFIG]")]
EMULATED = Path(__file__).parents[1] / "configs" / "serve-emulated.yaml"
CLIENT = ("client.timeout_s", "client.max_in_flight")
_PATTERNS = {name: kind for name, kind in known_patterns().items() if kind.configurable}
_PARAMETERS = "; ".join(
    f"{name}: {', '.join(field.name for field in fields(kind))}" for name, kind in _PATTERNS.items()
)
FORMATS_HELP = f"Of the trace: {', '.join(sorted(FORMATS.known()))}, or my_module:MyFormat."
TRAFFIC = (
    Short("--pattern", "traffic.pattern", f"{', '.join(_PATTERNS)}, or my_module:MyPattern."),
    Short("--set", "traffic.parameters", f"Of the pattern, e.g. spike=200. {_PARAMETERS}."),
    "traffic.trace",
    Short("--format", "traffic.format", FORMATS_HELP),
    "traffic.column",
    "traffic.unit",
    "traffic.where",
    "traffic.spread",
    "traffic.max_gap_s",
    Short("--duration", "traffic.duration_s"),
)
_ROWS = "Rows of each request, e.g. 4; or rows and weights of several kinds, e.g. 1:0.7,8:0.3."
BATCH = Short("--batch", "traffic.batch", _ROWS, lambda texts: parse_rows(texts[-1]))
_SHAPE = "Of an input that the model leaves free, e.g. --shape input_ids:128; may be repeated."
Shapes = Annotated[list[str] | None, typer.Option(help=_SHAPE)]


def _shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    from loadgen.discovery import parse_shapes  # Triton's client: what sends needs it, no help does

    return parse_shapes(texts)


def _inputs(texts: list[str]) -> dict[str, str]:
    from loadgen.discovery import parse_values

    return parse_values(texts)


SHAPES = Short("--shape", "shapes", _SHAPE, _shapes)
_INPUT = "Of an input: NAME=VALUE, NAME=LOW..HIGH or NAME=@FILE, e.g. --input input__1=0..1; may be repeated."
INPUTS = Short("--input", "inputs", _INPUT, _inputs)
Inputs = Annotated[list[str] | None, typer.Option("--input", help=_INPUT)]

_HEADER = "Of every request, 'Name: value'; ${VARIABLE} is filled in from the environment; may be repeated."
_HEADER_FILE = "File with headers, a line each; may be repeated."


def _of_access(key: str) -> str:
    text = str(Access.model_fields[key].description)
    return f"{text[0].upper()}{text[1:]}."


ACCESS = (
    *("access.ca", "access.cert", "access.key", "access.insecure"),
    Short("--header", "access.headers", _HEADER, given_headers),
    Short("--header-file", "access.header_files", _HEADER_FILE, list),
)
Ca = Annotated[Path | None, typer.Option(help=_of_access("ca"))]
Cert = Annotated[Path | None, typer.Option(help=_of_access("cert"))]
Key = Annotated[Path | None, typer.Option(help=_of_access("key"))]
Insecure = Annotated[bool, typer.Option("--insecure", help=_of_access("insecure"))]
Header = Annotated[list[str] | None, typer.Option(help=_HEADER)]
HeaderFile = Annotated[list[Path] | None, typer.Option(help=_HEADER_FILE)]


def access_of(
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    insecure: bool,
    header: list[str] | None,
    header_file: list[Path] | None,
) -> Access:
    """Of what was typed, in a command whose flags are no keys of a configuration."""
    headers, files = given_headers(header or ()), tuple(header_file or ())
    return Access(ca=ca, cert=cert, key=key, insecure=insecure, headers=headers, header_files=files)


POLICY_HELP = (
    "A file with a HorizontalPodAutoscaler, a ScaledObject or a Knative Service; or KIND:key=value,..., e.g. "
    "hpa:metric=queue_time_ms,target=5 or fixed:replicas=4; or its keys as YAML, e.g. a whole "
    f"HPA: '{WHOLE_HPA}' (m: thousandths)."
)
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="THEIRS=OURS: which metric theirs is, of --policy FILE.yaml; may be repeated."),
]

WorkerCount = Annotated[int | None, typer.Option("--workers", min=1, help=r"Processes. \[default: one a core]")]
Ray = Annotated[
    str | None, typer.Option("--ray", help="Address of a Ray cluster that does the work; local: one on this machine.")
]


def refuse_missing(folder: Path) -> None:
    """ConfigError, before any other word, if the folder that is to be read is not there."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}: give a results folder")


Results = Annotated[Path, typer.Argument(help="A results folder.")]


def with_emulated(serve: Given) -> Given:
    """What was typed of a service; `--model emulated` alone waits as configs/serve-emulated.yaml says."""
    if serve.get("model") != "emulated" or "emulated" in serve:
        return serve
    return {**yaml.safe_load(EMULATED.read_text()), **serve}


def workers_of(count: int | None, ray: str | None = None) -> Workers:
    """Who computes, from the two flags."""
    if count is not None and ray is not None:
        raise ConfigError("--workers is of this machine, --ray of a cluster: give one of them")
    if ray is not None:
        load_ray()  # before anything is written
    return Workers(count, ray) if count is not None else all_processors()._replace(ray=ray)


def service(within: str = "service") -> list[str | Short]:
    """Of a ServiceConfig under that key."""
    delay, key = "Longest wait for a full batch.", f"{within}.dynamic_batching.max_queue_delay_s"
    keys = [f"{within}.{name}" for name in ("replicas", "instances", "max_batch_size")]
    return [*keys, Short("--queue-delay-ms", key, delay, lambda texts: seconds(texts)[-1])]


def seconds(milliseconds: list[str]) -> list[Any]:
    """Of numbers that were typed in milliseconds; anything else stays, and validation refuses it."""
    values = [plain(millisecond) for millisecond in milliseconds]
    return [value / 1e3 if isinstance(value, (int, float)) else value for value in values]


def policy_of(text: str, metrics: list[str] | None = None) -> dict[str, Any]:
    """KIND:key=value,... or YAML -> a policy's configuration. FILE.onnx:key=value,... is a learned one, FILE.yaml:...
    the one that an object of Kubernetes describes. metrics: THEIRS=OURS, of that object."""
    if metrics:
        return {**_manifest_of(text), "metrics": dict(map(_theirs_and_ours, metrics))}
    if isinstance(whole := plain(text), dict):
        return whole
    kind, _, rest = text.partition(":")
    by_suffix = {".onnx": {"kind": "learned", "file": kind}, ".yaml": {"manifest": kind}, ".yml": {"manifest": kind}}
    settings: dict[str, Any] = by_suffix.get(Path(kind).suffix, {"kind": kind})
    for pair in rest.split(",") if rest else ():
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise ConfigError(f"--policy {text}: give KIND:key=value,..., e.g. --policy fixed:replicas=4")
        settings[name.strip()] = plain(value)
    return settings


def given_policy(text: str | None, metrics: list[str] | None) -> dict[str, Any] | None:
    """Of --policy and --metric, if they are given."""
    if text is None and metrics:
        raise ConfigError("--metric goes with a file as --policy, e.g. --policy my-hpa.yaml")
    return None if text is None else policy_of(text, metrics)


def _manifest_of(text: str) -> dict[str, Any]:
    settings = policy_of(text)
    if "manifest" not in settings:
        raise ConfigError(f"--metric goes with a file as --policy, e.g. --policy my-hpa.yaml, not with {text}")
    return settings


def _theirs_and_ours(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise ConfigError(f"--metric {text}: give THEIRS=OURS, e.g. --metric gpu_util=gpu_utilisation_pct")
    return theirs.strip(), ours.strip()
