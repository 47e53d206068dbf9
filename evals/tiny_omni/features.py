"""Clips to what the towers take, as the processor makes it but without its detours, and the towers in few calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import WhisperFeatureExtractor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import apply_rotary_pos_emb_vision

PATCH, MERGE, PAIR = 14, 2, 2  # pixels, patches a side, frames of a token


def patches(frames: np.ndarray) -> torch.Tensor:
    """uint8 [frames, 28, 28, 3] to pixel_values_videos, float32 [2 * frames, 1176]."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    split = ((pixels - mean) / std).view(-1, PAIR, 3, MERGE, PATCH, MERGE, PATCH)
    return split.permute(0, 3, 5, 2, 1, 4, 6).reshape(-1, 3 * PAIR * PATCH * PATCH)


def spectrogram(waveforms: torch.Tensor, extractor: WhisperFeatureExtractor) -> torch.Tensor:
    """Sounds of equal length, float32 [sounds, samples], to input_features [sounds, mel bins, samples / 160].

    The extractor pads a sound with silence to its whole window; what that changes is added here: the end is not
    mirrored, and the quietest value follows from the loudest of the sound.
    """
    half = extractor.n_fft // 2
    samples = pad(waveforms, (0, half))
    samples = torch.cat([samples[:, 1 : half + 1].flip(-1), samples], dim=1)
    window = torch.hann_window(extractor.n_fft)
    waves = torch.stft(samples, extractor.n_fft, extractor.hop_length, window=window, center=False, return_complex=True)
    power = waves[..., : waveforms.shape[-1] // extractor.hop_length].abs().square()
    filters = torch.from_numpy(extractor.mel_filters).float().T
    logs = torch.clamp(filters @ power, min=1e-10).log10()
    return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8) + 4) / 4


def see(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The vision tower on pairs of frames of 2 x 2 patches: [4 * pairs, 1176] to [pairs, hidden].

    What ``visual(pixels, grid_thw)`` computes, with the pairs as a batch: it attends to each by itself, one after the
    other.
    """
    hidden = visual.patch_embed(pixels)
    pairs, heads = len(hidden) // MERGE**2, visual.config.num_heads
    cos, sin = visual.rotary_pos_emb(hidden, torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]))
    for block in visual.blocks:
        states = block.norm1(hidden)
        query, key, value = (
            part(states).view(pairs, MERGE**2, heads, -1) for part in (block.attn.q, block.attn.k, block.attn.v)
        )
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        seen = scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        hidden = hidden + block.attn.proj(seen.transpose(1, 2).reshape(len(hidden), -1))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden)


def hear(tower: Any, features: torch.Tensor) -> torch.Tensor:
    """The sound tower on sounds of equal length: [sounds, mel bins, frames] to [sounds, frames / 4, hidden]."""
    sounds, _, frames = features.shape
    lengths = torch.full((sounds,), frames)
    flat = features.transpose(0, 1).reshape(features.shape[1], -1)
    return tower(flat, feature_lens=lengths).last_hidden_state.view(sounds, -1, tower.config.output_dim)
