"""A policy's two files belong together at any moment; a policy runs what it was made with, never a stale one."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.autoscaling.features import FEATURES, VERSION
from testbed.autoscaling.policy_file import PolicyFile, read_pair, write_pair
from testbed.errors import ConfigError
from tests.autoscaling.test_learned import KNOWN, Scene, export, follows_load, policy_of


class Killed(BaseException):
    """The process ends here."""


def told_of(network: bytes) -> PolicyFile:
    return PolicyFile(
        features_version=VERSION,
        features=tuple(FEATURES),
        sha256=hashlib.sha256(network).hexdigest(),
        max_step=2,
        step_s=5.0,
        slo_penalties=(3.0, 30.0),
    )


def write(file: Path, network: bytes) -> None:
    write_pair(file, network, told_of(network))


def write_and_die(monkeypatch: pytest.MonkeyPatch, file: Path, network: bytes, number: int) -> None:
    """The process ends just before its rename of that number, from 0 on."""
    renames, really = iter(range(1000)), os.replace

    def rename(source: Any, target: Any) -> None:
        if next(renames) == number:
            raise Killed
        really(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", rename)
        write(file, network)


@pytest.mark.parametrize(("number", "found"), [(0, b"old"), (1, b"old"), (2, b"new")])
def test_a_kill_between_any_two_steps_leaves_one_pair_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, found: bytes
) -> None:
    file = tmp_path / "policy.onnx"
    write(file, b"old")
    with pytest.raises(Killed):
        write_and_die(monkeypatch, file, b"new", number)
    pair = read_pair(file)
    assert pair.network == found
    assert pair.description.sha256 == hashlib.sha256(found).hexdigest()
    assert file.read_bytes() == found, "who reads the file itself finds the same"
    write(file, b"newer")
    assert read_pair(file).network == b"newer"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["policy.json", "policy.onnx"]


def test_an_export_that_ends_between_the_looks_at_the_two_files_is_no_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, looks = tmp_path / "policy.onnx", iter(range(1000))
    write(file, b"old")
    really = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == file and next(looks) == 0:
            write(file, b"new")
        return really(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert read_pair(file).network == b"new"


def falls() -> np.ndarray:
    """One less, whatever there is."""
    weights = np.zeros((len(FEATURES), 5))
    weights[list(FEATURES).index("asked"), 1] = 4.0
    return weights


def test_after_training_anew_into_the_same_file_a_new_policy_is_the_new_one(tmp_path: Path) -> None:
    before = policy_of(export(tmp_path, follows_load()))
    assert before.decide(Scene(rate=140.0), KNOWN).replicas == 3
    after = policy_of(export(tmp_path, falls()))
    assert after.decide(Scene(rate=140.0), KNOWN).replicas == 1
    assert after != before


def test_one_that_runs_stays_as_it_was_made_and_so_do_its_copies(tmp_path: Path) -> None:
    policy = policy_of(export(tmp_path, follows_load()))
    export(tmp_path, falls())
    assert policy.decide(Scene(rate=140.0), KNOWN).replicas == 3
    assert replace(policy, replica_capacity_rps=60.0).decide(Scene(rate=140.0), KNOWN).replicas == 3


def test_in_another_process_it_is_the_same_or_refused(tmp_path: Path) -> None:
    policy = policy_of(export(tmp_path, follows_load()))
    (tmp_path / "pickled").write_bytes(pickle.dumps(policy))
    script = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).period_s)"
    asked = [sys.executable, "-c", script, str(tmp_path / "pickled")]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "5.0\n"
    export(tmp_path, falls())
    refused = subprocess.run(asked, capture_output=True, text=True, check=False).stderr
    assert "policy.onnx is another policy by now" in refused


def test_a_digest_that_is_asked_for_must_be_the_files(tmp_path: Path) -> None:
    file = export(tmp_path, follows_load())
    assert policy_of(file, digest=read_pair(file).digest) == policy_of(file)
    with pytest.raises(ConfigError, match="is another policy by now"):
        policy_of(file, digest="0" * 64)
