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
