"""The blocks of the tutorial that need the cluster, in order; those that start and end it are the fixture's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.localcluster import binaries
from testbed.localcluster.layout import KUBECONFIG
from tests.docs.blocks import ROOT
from tests.docs.running import PageRun

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]  # two minutes on an idle machine


def test_the_tutorial_does_what_it_says(
    local_cluster: object, kubectl: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the namespace `default`, as its reader has it."""
    monkeypatch.setenv("KUBECONFIG", str(KUBECONFIG))  # what `make cluster-up` says to type
    monkeypatch.setenv("PATH", f"{binaries.folder()}{os.pathsep}{os.environ['PATH']}")
    try:
        PageRun(ROOT / "docs" / "tutorial" / "4-your-own-cluster.md", tmp_path, "needs the cluster").run()
    finally:
        kubectl("delete", "-k", str(ROOT / "manifests" / "overlays" / "emulated"), "--ignore-not-found")
    assert (tmp_path / "results" / "pods" / "report.html").is_file()
