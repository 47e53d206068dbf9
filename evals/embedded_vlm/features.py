"""Images through the vision tower, once for all steps of training."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from transformers import ResNetModel

from .drawing import draw
from .resnet import GRID, PIXEL_MEAN
from .scenes import Scene, Split, scenes

BATCH = 32


@torch.inference_mode()
def encode(
    tower: ResNetModel, split: Split, seed: int, count: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[list[Scene], torch.Tensor]:
    """The first scenes of a split and their features, float16 [count, 49, channels]."""
    drawn = list(itertools.islice(scenes(split, seed), count))
    features = torch.empty(count, GRID * GRID, tower.config.hidden_size, dtype=torch.float16)
    tower = tower.to(memory_format=torch.channels_last)
    for start in range(0, count, BATCH):
        pixels = torch.stack([_pixels(scene) for scene in drawn[start : start + BATCH]])
        maps = tower(pixels.to(tower.dtype, memory_format=torch.channels_last)).last_hidden_state
        features[start : start + BATCH] = maps.flatten(2).transpose(1, 2).half()
        progress(start)
    return drawn, features


def _pixels(scene: Scene) -> torch.Tensor:
    """float32 [3, side, side], as the checkpoint's image processor makes them."""
    pixels = np.array(draw(scene), dtype=np.float32) - np.array(PIXEL_MEAN, dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)
