"""What each cell of the vision tower's grid shows, in words: where the projector's training starts."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .resnet import GRID
from .scenes import COLORS, FIELD, SHAPES, Scene


def word_embeddings(language: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """float32 [1 + colors + shapes, hidden_size]: "gray" for the background, then colors and shapes."""
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in ("gray", *COLORS, *SHAPES)]
    return language.get_input_embeddings().weight[ids].float()


def cell_words(scene: Scene) -> torch.Tensor:
    """float32 [49, 1 + colors + shapes]: 1 for every word that describes what a cell of the grid shows."""
    cell = FIELD / GRID
    middles = (np.arange(GRID) + 0.5) * cell
    words = torch.zeros(GRID * GRID, 1 + len(COLORS) + len(SHAPES))
    for thing in scene.things:
        far = np.hypot(middles[None, :] - thing.x, middles[:, None] - thing.y).reshape(-1)
        inside = torch.from_numpy(far < max(0.85 * thing.radius, 0.72 * cell))
        words[inside, 1 + COLORS.index(thing.color)] = 1
        words[inside, 1 + len(COLORS) + SHAPES.index(thing.shape)] = 1
    words[:, 0] = (words.sum(dim=-1) == 0).float()
    return words
