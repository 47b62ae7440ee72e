"""`python -m testbed.localcluster`: prepare, up, down, status, fake-nodes, certificate."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from testbed.errors import ClusterError
from testbed.localcluster import binaries, host, lifecycle, pki
from testbed.localcluster.api import Api
from testbed.localcluster.control_plane import fake_node
from testbed.localcluster.layout import KUBECONFIG, LOGS

_WRONG = 2
_out = Console(highlight=False, soft_wrap=True)
app = typer.Typer(
    name="python -m testbed.localcluster",
    help="A real Kubernetes on this machine (Linux, root), for tests and demos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def check() -> None:
    """Exit status 0 if a cluster can run here, once prepared; else one line says why not."""
    host.check(needs_go=bool(binaries.missing()))


@app.command()
def prepare(
    install: Annotated[bool, typer.Option("--install", help="Install missing packages with apt-get.")] = False,
) -> None:
    """Build Kubernetes once, into a cache outside the clone (minutes), and see that its packages are here."""
    host.check(needs_go=bool(binaries.missing()))
    say = _reporter()
    if install:
        host.install_packages(say)
    host.check_packages()
    binaries.build(say)


@app.command()
def up(
    nodes: Annotated[int, typer.Option("--nodes", help="Real ones, each with a kubelet and a containerd.")] = 2,
    gpus: Annotated[int, typer.Option("--gpus", help="Of each real node, advertised and not there.")] = 4,
    kwok: Annotated[bool, typer.Option(help="Play fake nodes.")] = True,
) -> None:
    """Start a cluster, in place of any there is."""
    shape = lifecycle.Shape(nodes, gpus, kwok)
    host.check(needs_go=bool(binaries.missing()))
    say = _reporter()
    if lifecycle.daemons():
        say("a cluster is up: it is ended first, with all that runs on it")
    kubeconfig = lifecycle.up(shape, say)
    say("the cluster is up")
    _out.print(f"export KUBECONFIG={kubeconfig} PATH={binaries.folder()}:$PATH")


@app.command()
def down() -> None:
    """Leave nothing of the cluster, from whatever state."""
    host.check(needs_go=False)
    lifecycle.down()
    _out.print("the cluster is down")


@app.command()
def status() -> None:
    """The daemons, and how much memory they use."""
    daemons = lifecycle.daemons()
    if not daemons:
        _out.print("the cluster is not up")
        return
    table = Table("daemon", "memory")
    for daemon, memory in daemons:
        table.add_row(daemon.name, f"{memory / 2**20:.0f} MiB" if memory else "[red]ended[/red]")
    _out.print(table)
    _out.print(f"kubeconfig: {KUBECONFIG}; logs: {LOGS}")


@app.command("fake-nodes")
def fake_nodes(
    count: Annotated[int, typer.Argument(min=1)],
    gpus: Annotated[int, typer.Option("--gpus", help="Of each.")] = 8,
) -> None:
    """Add fake nodes, for placements on more GPUs than any machine here has."""
    if not KUBECONFIG.exists():
        raise ClusterError("the cluster is not up: make cluster-up")
    api = Api(KUBECONFIG)
    for index in range(count):
        api.create("/api/v1/nodes", fake_node(f"fake-{index}", gpus))


@app.command()
def certificate(
    name: Annotated[str, typer.Argument(help="Of the server, as in kis-adapter.default.svc.")],
    folder: Annotated[Path, typer.Argument(help="That gets tls.crt, tls.key and ca.crt.")],
) -> None:
    """Sign a server's certificate with the cluster's authority."""
    if not KUBECONFIG.exists():
        raise ClusterError("the cluster is not up: make cluster-up")
    pki.serving_certificate(name, folder)


def _reporter() -> Callable[[str], None]:
    begin = time.monotonic()
    return lambda text: _out.print(f"[dim]{time.monotonic() - begin:6.1f} s[/dim]  {escape(text)}")


def main() -> None:
    """Run the command; exit status 2 and one line for an error that the user can mend."""
    try:
        app()
    except ClusterError as error:
        Console(stderr=True).print(f"[red]cluster:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(_WRONG)


if __name__ == "__main__":
    main()
