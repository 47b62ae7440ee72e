"""The parts of the local cluster that need no cluster, and what it says where it cannot run."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from testbed.errors import ClusterError
from testbed.localcluster import binaries, host, images
from testbed.localcluster.gpus import missing
from testbed.localcluster.lifecycle import Shape


def test_a_node_without_its_gpus_is_given_them_and_one_that_has_them_is_left_alone() -> None:
    def node(gpus: dict[str, str]) -> dict[str, object]:
        return {"status": {"capacity": {"cpu": "2"} | gpus, "allocatable": {"cpu": "2"} | gpus}}

    both = [
        {"op": "add", "path": f"/status/{kind}/nvidia.com~1gpu", "value": "4"} for kind in ("capacity", "allocatable")
    ]
    assert missing(node({}), 4) == both
    assert missing(node({"nvidia.com/gpu": "0"}), 4) == both
    assert missing(node({"nvidia.com/gpu": "4"}), 4) == []
    assert missing({"status": {}}, 4) == [], "a node that has just been made says nothing of itself yet"


def test_an_image_is_one_layer_whose_digests_agree(tmp_path: Path) -> None:
    images.hostroot_image(tmp_path / "image.tar", "x86_64")
    with tarfile.open(tmp_path / "image.tar") as archive:
        parts = {one.name: file.read() for one in archive if (file := archive.extractfile(one)) is not None}
    (manifest,) = json.loads(parts["manifest.json"])
    (layer,) = (parts[name] for name in manifest["Layers"])
    config = json.loads(parts[manifest["Config"]])
    assert manifest["RepoTags"] == ["kis.local/hostroot:1"]
    assert config["architecture"] == "amd64"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as root:
        assert root.getmember("bin").linkname == "usr/bin"
        assert root.getmember("tmp").mode == 0o1777


def test_other_versions_have_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = binaries.folder()
    assert before.parent == tmp_path / "kis"
    monkeypatch.setattr(binaries, "PROGRAMS", binaries.PROGRAMS[1:])
    assert binaries.folder() != before


def test_a_build_that_fails_leaves_no_binary_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    go = tmp_path / "bin" / "go"
    go.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho half > "$2"\necho "no disk" >&2\nexit 1\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binaries.folder().mkdir(parents=True)
    (binaries.folder() / "etcd.unfinished-999999999").touch()  # of a build that was killed
    with pytest.raises(ClusterError, match=r"^cannot build pause: no disk \(go build in .*go/pause\)$"):
        binaries.build(lambda _: None)
    assert list(binaries.folder().iterdir()) == []


def test_without_root_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="a local cluster needs root"):
        host.check(needs_go=False)


def test_missing_packages_are_named_with_the_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda command: None if command == "ctr" else f"/usr/bin/{command}")
    with pytest.raises(ClusterError, match=r"apt-get install --no-install-recommends containerd\b"):
        host.check_packages()


def test_a_shape_that_cannot_be_is_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "testbed.localcluster", "up", "--nodes", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cluster: a cluster cannot have 5 nodes: choose 0 to 4, add fake nodes\n"
    with pytest.raises(ClusterError, match="-1 GPUs"):
        Shape(gpus=-1)
