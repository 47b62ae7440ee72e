"""`kis doctor`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape
from rich.table import Column, Table

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console
from testbed.installed import how_to_install, is_installed, kis_version
from testbed.machine import Machine, troubles
from testbed.simulation import is_compiled
from workloads.errors import KisError

EXTRAS = {"serve": ("torch", "transformers"), "train": ("stable_baselines3", "torch"), "ray": ("ray",)}
_ANSWER_S = 5.0


class Finding(NamedTuple):
    """fine: None where nobody needs it for a start."""

    what: str
    fine: bool | None
    text: str


def doctor(
    kubeconfig: options.Kubeconfig = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="To look at the machine.")] = 3.0,
) -> None:
    """Exit status 2 where anything is marked `no`: it is there, and does not work."""
    with ConsoleReporter() as reporter:
        reporter.phase(f"look at the machine for {seconds:g} s")
        from testbed.measurement.machine import look

        machine = look(seconds)
    findings = [_versions(), *_processors(machine), _gpu(), _server(), *_extras(), _loops(), _cluster(kubeconfig)]
    table = Table("", "", Column("", overflow="fold"), box=None, pad_edge=False, show_header=False)
    for finding in findings:
        mark = {True: "[green]ok[/green]", False: "[red]no[/red]", None: "-"}[finding.fine]
        table.add_row(finding.what, mark, escape(finding.text))
    console.print(table, highlight=False)
    if any(finding.fine is False for finding in findings):
        raise typer.Exit(2)


def _versions() -> Finding:
    text = f"kis {kis_version()}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("versions", sys.version_info >= (3, 11), text)


def _processors(machine: Machine) -> list[Finding]:
    """What makes real runs INVALID, if anything does."""
    found = troubles(machine)
    figures = Finding("machine", None if found else True, machine.line)
    return [figures, *(Finding("", None, trouble) for trouble in found)]


def _gpu() -> Finding:
    from testbed.measurement.gpu_metrics import GpuSource

    source = GpuSource()
    if source.absent_because is not None:
        return Finding("GPU", None, f"none ({source.absent_because}): models run on the CPU, or emulated")
    return Finding("GPU", True, ", ".join(source.names.values()))


def _server() -> Finding:
    from testbed.serving.tritonserver import INSTALL, find_tritonserver, has_tritonserver

    if not has_tritonserver():
        return Finding("tritonserver", None, f"not here: {INSTALL}; `kis replay --server` measures one elsewhere")
    return _tried("tritonserver", lambda: f"embedded, {find_tritonserver().binary}")


def _extras() -> list[Finding]:
    """What the light core does without."""
    rows = []
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if not is_installed(package)]
        lacks = f"without {', '.join(missing)}: {how_to_install(extra)}"
        versions = ", ".join(f"{package} {_version(package)}" for package in packages if package not in missing)
        rows.append(Finding(f"extra {extra}", None if missing else True, lacks if missing else versions))
    return rows


def _version(package: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return ""


def _loops() -> Finding:
    if is_compiled():
        return Finding("simulator", True, "its loops are compiled")
    return Finding("simulator", None, "its loops are compiled at the first simulation: about half a minute, once")


def _cluster(kubeconfig: Path | None) -> Finding:
    if kubeconfig is None and not {"KUBECONFIG", "KUBERNETES_SERVICE_HOST"} & os.environ.keys():
        return Finding("Kubernetes", None, "KUBECONFIG is not set: give --kubeconfig to try a cluster")

    def answer() -> str:
        from kubernetes.client import VersionApi

        from testbed.serving.kubernetes_api import AsClusterError, api_client

        with AsClusterError("Kubernetes API"):
            return f"{VersionApi(api_client(kubeconfig)).get_code(_request_timeout=_ANSWER_S).git_version} answers"

    return _tried("Kubernetes", answer)


def _tried(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, ask())
    except KisError as error:
        return Finding(what, False, str(error))
