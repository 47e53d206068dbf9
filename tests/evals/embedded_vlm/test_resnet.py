"""The vision tower against an independent evaluation of the ONNX graph that its weights come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oscar_x.evals.embedded_vlm.drawing import draw
from oscar_x.evals.embedded_vlm.resnet import IMAGE_SIZE, PIXEL_MEAN, load_resnet, onnx_path
from oscar_x.evals.embedded_vlm.scenes import scenes

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
FEATURES = "Relu_48:0"  # [1, 1024, 7, 7], before the average pool
SHIFT = 2  # pixels by which the ONNX network's grid lies further down and right


@pytest.fixture(scope="module")
def network(opennsfw):
    loaded = onnx.load(onnx_path())
    loaded.graph.output.append(onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, None))
    return loaded


@pytest.fixture(scope="module")
def tower(opennsfw):
    return load_resnet()


def pixels(image) -> np.ndarray:
    """float32 [height, width, 3] RGB without the mean."""
    return np.asarray(image, dtype=np.float32) - np.float32(PIXEL_MEAN)


def published(network, image: np.ndarray) -> np.ndarray:
    """The ONNX network's features of an image [224, 224, 3], which it takes as BGR."""
    from onnx.reference import ReferenceEvaluator

    inputs = {"input:0": np.ascontiguousarray(image[None, ..., ::-1])}
    return ReferenceEvaluator(network).run([FEATURES], inputs)[0]


@torch.no_grad()
def ours(tower, image: np.ndarray) -> np.ndarray:
    return tower(torch.from_numpy(image.transpose(2, 0, 1)[None].copy())).last_hidden_state.numpy()


def shifted(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((SHIFT, 0), (SHIFT, 0), (0, 0)))


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape == (1, 1024, 7, 7)
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def test_scenes_have_the_published_features(network, tower):
    image = pixels(draw(next(scenes("held-out", 3))))
    assert error(ours(tower, image), published(network, shifted(image))) < 1e-5


def test_weights_are_the_published_ones_on_any_image(network, tower):
    image = np.random.default_rng(0).normal(0, 50, size=(224, 224, 3)).astype(np.float32)
    both_ends = onnx.ModelProto()
    both_ends.CopyFrom(network)
    (pool,) = [node for node in both_ends.graph.node if node.op_type == "MaxPool"]
    (pads,) = [attribute for attribute in pool.attribute if attribute.name == "pads"]
    assert list(pads.ints) == [0, 0, 1, 1]
    pads.ints[:] = [1, 1, 1, 1]
    assert error(ours(tower, image), published(both_ends, image)) < 1e-5


def test_without_a_mat_the_features_differ(network, tower):
    """The limit that resnet.py states: kept here, so that it is noticed should it go away."""
    image = np.random.default_rng(0).normal(0, 50, size=(IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    found = error(ours(tower, image), published(network, shifted(image)))
    print(f"relative difference without a mat: {found:.3f}")
    assert found > 0.01
