"""What is read of files as people have them, and what is refused: `python -m tests.conformance.inputs` writes the page.

The files are those of the tests (tests/loadgen/test_loadgen_trace_formats.py, tests/autoscaling/test_manifests.py).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from loadgen.schedule import TraceError
from loadgen.traces import read_recorded
from testbed.autoscaling.build import build_policy
from testbed.errors import ConfigError
from tests.autoscaling import test_manifests as manifests
from tests.loadgen import test_loadgen_trace_formats as traces

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "inputs.md"
SHOWN = 90  # characters of a file
MANIFESTS = {
    "HorizontalPodAutoscaler": manifests.hpa(manifests.external(), minReplicas=2),
    "HorizontalPodAutoscaler without metrics": manifests.hpa(),
    "HorizontalPodAutoscaler with one field of behavior": manifests.hpa(
        manifests.resource(), behavior={"scaleDown": {"stabilizationWindowSeconds": 60}}
    ),
    "HorizontalPodAutoscaler of autoscaling/v1": {
        **manifests.hpa(targetCPUUtilizationPercentage=70),
        "apiVersion": "autoscaling/v1",
    },
    "ScaledObject": manifests.keda(),
    "ScaledObject with two triggers": manifests.keda(
        manifests.prometheus(), {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}
    ),
    "Knative Service": manifests.knative(8, min_scale="1", target="10"),
}
REFUSED = (
    manifests.test_what_the_api_server_refuses_is_refused_in_one_line,
    manifests.test_what_keda_or_the_policy_cannot_do_is_said_in_one_line,
    manifests.test_what_knative_or_the_policy_cannot_do_is_said_in_one_line,
)
INTRODUCTION = """# What goes in

Traffic and autoscalers go in as people have them. Each line of these tables is one file of the tests, as today's code
reads it (`python -m tests.conformance.inputs` writes this page). Models on a real Triton have a table of their own:
[what requests carry](../how-to/replay-traffic.md#what-requests-carry).
"""


def page() -> str:
    """The whole page."""
    with tempfile.TemporaryDirectory() as folder:
        return "\n".join([INTRODUCTION, *_traffic(Path(folder)), "", *_autoscalers(Path(folder))]) + "\n"


def _traffic(folder: Path) -> Iterator[str]:
    file = folder / "FILE"
    yield "## Traffic\n`kis traffic FILE`; `kis replay`, `kis simulate` and all others have the same flags.\n"
    yield "| file | flags | format | requests | seconds | what is told |\n| --- | --- | --- | --: | --: | --- |"
    for content, reading, *_ in _cases(traces.test_a_file_is_read_as_it_is):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            found = read_recorded(file, **reading)
        except TraceError as refusal:
            yield f"| {_shown(content)} | {_flags(reading)} | | | | refused: {_cell(refusal, folder)} |"
            continue
        told = "; ".join(_cell(note, folder) for note in found.notes)
        counted = f"{len(found.times_ns)} | {found.duration_s:g}"
        yield f"| {_shown(content)} | {_flags(reading)} | `{found.format}` | {counted} | {told} |"
    yield "\nRefused in one line:\n\n| file | flags | what is said |\n| --- | --- | --- |"
    for content, reading, _ in _cases(traces.test_a_mistake_is_one_line_that_says_where_and_what_to_do):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        said = _refusal(lambda: read_recorded(file, **reading), TraceError)  # noqa: B023
        yield f"| {_shown(content)} | {_flags(reading)} | {_cell(said, folder)} |"


def _autoscalers(folder: Path) -> Iterator[str]:
    file = folder / "mine.yaml"
    yield "## Autoscalers\n`kis simulate --cluster CONFIG --policy mine.yaml`, where the model may have six replicas.\n"
    yield "| object | as read |\n| --- | --- |"
    for name, body in MANIFESTS.items():
        file.write_text(yaml.safe_dump(body))
        yield f"| {name} | {_cell(_settings(build_policy({'manifest': str(file)}, 6, None)), folder)} |"
    yield "\nRefused in one line:\n\n| object | what is said |\n| --- | --- |"
    for test in REFUSED:
        for body, _ in _cases(test):
            file.write_text(yaml.safe_dump(body))
            said = _refusal(lambda: build_policy({"manifest": str(file)}, 6, None), ConfigError)
            yield f"| {body['kind']} | {_cell(said, folder)} |"


def _settings(policy: Any) -> str:
    """What a policy has that is not by default, as code."""
    return f"`{type(policy).__name__.lower()}`: `{json.dumps(_plain(policy), default=str)}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_defaults=True)
    if is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in fields(value) if field.name != "name"}
        defaults = {field.name: field.default for field in fields(value)}
        return {name: _plain(one) for name, one in own.items() if one != defaults[name]}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _cases(test: Callable[..., None]) -> list[tuple[Any, ...]]:
    """What a test is given, of the first of its parameters."""
    return list(test.pytestmark[-1].args[1])  # type: ignore[attr-defined]


def _refusal(read: Callable[[], object], error: type[Exception]) -> str:
    try:
        read()
    except error as refusal:
        return str(refusal)
    raise AssertionError("it is not refused")


def _shown(content: str | bytes) -> str:
    """The beginning of a file, as code."""
    text = (
        repr(content)[2:-1] if isinstance(content, bytes) else content.strip().replace("\n", " ⏎ ").replace("\t", " → ")
    )
    text = "".join(letter for letter in text if letter.isprintable())
    text = text[:SHOWN] + ("..." if len(text) > SHOWN else "")
    return f"`{text.replace('|', chr(0xA6)).replace('`', chr(0x27))}`"


def _flags(reading: dict[str, Any]) -> str:
    flags = []
    for name, value in reading.items():
        many = value.items() if isinstance(value, dict) else [(None, value)]
        flags += [f"--{name} {f'{key}={one}' if key else one}" for key, one in many]
    return f"`{' '.join(flags)}`" if flags else ""


def _cell(text: object, folder: Path) -> str:
    """In a table: without the folder, bars and line ends."""
    plain = str(text).replace(f"{folder}/", "").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return "".join(letter for letter in plain if letter.isprintable())


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
