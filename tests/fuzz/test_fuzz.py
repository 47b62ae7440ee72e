"""Whatever is in a file, a page or an argument: it is read, or refused in one line.

A minute of `python -m tests.fuzz`, with the same inputs each time; every input that ever failed; and bombs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from loadgen.artifact import ArtifactError, read_json, write_table
from loadgen.schedule import TraceError
from loadgen.traces import read_recorded, source
from testbed.autoscaling import policy_network
from testbed.autoscaling.policies.learned import read_policy
from testbed.config_file import parse_yaml
from testbed.errors import ConfigError
from tests.fuzz import engine, judge, specials, tables
from tests.fuzz.readers import EXAMPLES, readers
from workloads.errors import KisError
from workloads.files import parse_json

READERS = readers()
IN_CI = 40  # inputs of each reader
NAMES = pytest.mark.parametrize("name", sorted(READERS))


def failed(name: str, inputs: list[bytes], folder: Path) -> list[str]:
    outcomes = [(data[:80], engine.judge(READERS[name], data, folder)) for data in inputs]
    return [f"{data!r}: {outcome.said}" for data, outcome in outcomes if outcome.what == "failed"]


@NAMES
def test_a_right_input_is_read(name: str, tmp_path: Path) -> None:
    """Else nothing of what follows is behind its first lines."""
    assert "read" in {engine.judge(READERS[name], seed, tmp_path).what for seed in READERS[name].seeds()}


@NAMES
def test_an_input_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    seeds = READERS[name].seeds()
    assert not failed(name, [engine.input_of(READERS[name], seeds, 0, number) for number in range(IN_CI)], tmp_path)


# All configurations are read by one loader: of two of them, what is strange of YAML is tried.
STRANGE = [
    name for name in sorted(READERS) if not name.startswith("configs/") or name.endswith(("/flags", "/ServeConfig"))
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_input_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    assert not failed(name, list(specials.specials(READERS[name])), tmp_path)


@pytest.mark.parametrize(("name", "file"), engine.corpus(), ids=lambda value: getattr(value, "name", value))
def test_what_once_failed_does_no_more(name: str, file: Path, tmp_path: Path) -> None:
    assert not failed(name, [file.read_bytes()], tmp_path)


# --- the judge, of readers that are wrong


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda file: 1 // 0, "ZeroDivisionError"),
        (lambda file: {"a": [1.0, float("nan")]}, "not finite: .a[] is nan"),
        (lambda file: np.array([np.inf]), "not finite"),
        (lambda file: np.ones(10 << 20).sum(), "MiB"),
        (lambda file: [None for _ in iter(int, 1)], "no end within"),
    ],
)
def test_a_wrong_reader_is_told(read, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "CPU_S", 1.0)
    monkeypatch.setattr(judge, "MEMORY_BYTES", 40 << 20)
    outcome = judge.judged(read, tmp_path)
    assert outcome.what == "failed"
    assert said in outcome.said


def test_a_refusal_is_one_line_whatever_is_in_it() -> None:
    error = KisError("a\nb\r\x1b[31m\u202e\ud800" + "c" * 10_000 + ": give d")
    assert str(error).startswith("a b \\x1b[31m\\u202e\\ud800ccc")
    assert str(error).endswith("c: give d")
    assert len(str(error)) < 1100


# --- bombs


def test_a_line_without_an_end_is_refused_before_it_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "LONGEST", 1 << 22)
    file = tmp_path / "trace.gz"
    file.write_bytes(specials.gzip_bomb(b"1.5\n2.5\n", b"1", 1 << 26))
    assert file.stat().st_size < 1 << 17
    outcome = judge.judged(read_recorded, file)
    assert (outcome.what, outcome.memory_bytes < 40 << 20) == ("refused", True)
    assert "has a line of more than 4 MiB" in outcome.said


@pytest.mark.parametrize("text", [specials.LAUGHS, specials.MERGES, "a: &a [*a]", "a: &a {b: *a}"])
def test_aliases_do_not_multiply(text: str, tmp_path: Path) -> None:
    def read(file: Path) -> None:
        try:
            parse_yaml(file.read_text())
        except Exception as error:
            raise ConfigError(str(error)) from None

    file = tmp_path / "laughs.yaml"
    file.write_text(text)
    outcome = judge.judged(read, file)
    assert outcome.what == "refused"
    assert "has more than 200,000 values, or more than 100 inside each other" in outcome.said
    assert outcome.memory_bytes < 100 << 20


def test_an_ordinary_alias_is_read() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }


def test_a_table_of_too_many_rows_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from loadgen import artifact

    file = tmp_path / "a.parquet"
    write_table(file, pa.table({"x": pa.array(np.zeros(1000, np.int64))}), "a", 1, {})
    monkeypatch.setattr(artifact, "MOST_ROWS", 999)
    with pytest.raises(ArtifactError, match="has 1,000 rows, more than 999"):
        artifact.read_table(file, "a", 1)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/random"])
def test_a_device_is_no_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from workloads import files

    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    with pytest.raises(ArtifactError, match="larger than 1 MiB"):
        read_json(Path(name), "give a file")


# --- networks


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    for file in (EXAMPLES / "kiscaler").iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "policy.onnx"


def changed(file: Path, change) -> Path:
    """policy.json is made to fit, as whoever made the network would."""
    import hashlib

    import onnx

    model = onnx.load(str(file), load_external_data=False)
    change(model)
    file.write_bytes(model.SerializeToString())
    told = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(told | {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}))
    return file


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "/etc/passwd", "/dev/zero"])
def test_a_network_reads_no_other_file(place: str, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = policy.parent / "here"
    folder.mkdir()
    for beside in (policy.parent, folder):  # onnxruntime itself would take either
        (beside / "secret.bin").write_bytes(bytes(1 << 16))
    monkeypatch.chdir(folder)
    changed(policy, lambda model: tables.outside(model.graph.initializer[0], place))
    with pytest.raises(ConfigError, match="it has initialisers in other files"):
        read_policy(policy)


def bomb(size: int):
    import onnx

    def change(model) -> None:
        """What all initialisers are added up to is of that size, and nothing of it reaches the answer."""
        model.graph.initializer.append(onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [1], [size]))
        nodes = [
            onnx.helper.make_node("ConstantOfShape", ["size"], ["large"]),
            onnx.helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
            onnx.helper.make_node("Add", ["before", "sum"], [model.graph.output[0].name]),
        ]
        model.graph.node[-1].output[0] = "before"
        model.graph.node.extend(nodes)

    return change


@pytest.mark.parametrize("size", [10**8, 10**9, 10**12])
def test_a_network_takes_no_more_than_its_share_of_memory(size: int, policy: Path) -> None:
    outcome = judge.judged(read_policy, changed(policy, bomb(size)))
    assert outcome.what == "refused"
    assert "onnxruntime cannot run it" in outcome.said
    assert outcome.memory_bytes < 2 * policy_network.ARENA_BYTES


def test_a_network_without_graphs_in_its_nodes_ends(policy: Path) -> None:
    import onnx

    def change(model) -> None:
        body = onnx.helper.make_graph([], "body", [], [])
        model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["x"], body=body))

    with pytest.raises(ConfigError, match="a graph within a node"):
        read_policy(changed(policy, change))


def test_the_shipped_network_is_read(policy: Path) -> None:
    assert read_policy(policy).max_step > 0


# --- numbers


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e400", '{"a": -1e400}', "1" * 21, "[" * 5000, '"\\ud800"', "\ufeff1"]
)
def test_what_python_alone_takes_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_json_is_read() -> None:
    assert parse_json('[-0, 1.5e300, 18446744073709551615, "\\ud83d\\ude00", "é"]') == [
        0,
        1.5e300,
        2**64 - 1,
        "😀",
        "é",
    ]
    assert parse_json(b"\xef\xbb\xbf1") == 1


def test_a_trace_of_a_thousand_years_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("0\n0.5\n7e9\n")
    assert judge.judged(READERS["traces/timestamps"].read, file).memory_bytes < 50 << 20
    file.write_text("timestamp,count\n0,99999999999\n60,1\n")
    with pytest.raises(TraceError, match="more than 100,000,000"):
        read_recorded(file)
