from __future__ import annotations

import numpy as np
import pytest

from workloads.catalog import CATALOG, TensorSpec
from workloads.payloads import VOCABULARY, PayloadError, payload


def spec(datatype: str, name: str = "x", shape: tuple[int, ...] = (64,)) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def test_catalog_models_get_inputs_of_their_shapes():
    for model in CATALOG.values():
        data = payload(model.inputs, seed=1)
        assert {name: tensor.shape for name, tensor in data.items()} == {s.name: s.shape for s in model.inputs}


def test_bert_gets_token_ids_of_its_vocabulary_and_a_full_mask():
    data = payload(CATALOG["bert"].inputs, seed=1)
    ids, mask = data["input_ids"], data["attention_mask"]
    assert ids.dtype == mask.dtype == np.int64
    assert ids.min() >= 0
    assert 1000 < ids.max() < VOCABULARY
    assert (mask == 1).all()


def test_images_are_standard_normal_floats():
    image = payload(CATALOG["resnet50"].inputs, seed=1)["image"]
    assert image.dtype == np.float32
    assert abs(image.mean()) < 0.02
    assert image.std() == pytest.approx(1, abs=0.02)


def test_the_seed_decides():
    first, again, other = (payload((spec("FP32"),), seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [("FP16", "f2"), ("FP64", "f8"), ("INT8", "i1"), ("UINT8", "u1"), ("UINT64", "u8"), ("BOOL", "?"), ("BYTES", "O")],
)
def test_every_datatype_of_the_protocol_has_an_input(datatype, kind):
    assert payload((spec(datatype),), 0)["x"].dtype == np.dtype(kind)


def test_small_integers_called_ids_do_not_overflow():
    ids = payload((spec("INT8", "input_ids"),), 0)["input_ids"]
    assert (ids >= 0).all()


def test_a_free_dimension_is_one():
    assert payload((spec("FP32", shape=(-1, 3, -1)),), 0)["x"].shape == (1, 3, 1)


def test_an_unknown_datatype_is_refused_by_name():
    with pytest.raises(PayloadError, match="input 'x' has datatype 'FP7': known are"):
        payload((spec("FP7"),), 0)


def test_values_are_those_that_were_given(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2, 3, 4]")
    (tmp_path / "picture.jpg").write_bytes(b"jpeg")
    assert payload((spec("INT64", shape=(4,)),), 0, {"x": f"@{tmp_path / 'x.json'}"})["x"].tolist() == [1, 2, 3, 4]
    assert payload((spec("BYTES", shape=(1,)),), 0, {"x": f"@{tmp_path / 'picture.jpg'}"})["x"].tolist() == [b"jpeg"]
    drawn = payload((spec("INT64", shape=(1000,)),), 0, {"x": "0..1"})["x"]
    assert set(drawn.tolist()) == {0, 1}
    texts = payload((spec("BYTES", shape=(100,)),), 0, {"x": "8..9"})["x"]
    assert set(texts.tolist()) == {b"8", b"9"}
    for datatype, wrong in (("UINT8", "256"), ("UINT8", "-1"), ("BOOL", "maybe"), ("INT32", "5..1"), ("FP32", "a")):
        with pytest.raises(PayloadError, match=f"--input x={wrong}"):
            payload((spec(datatype, shape=(1,)),), 0, {"x": wrong})
