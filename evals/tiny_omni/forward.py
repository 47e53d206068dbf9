"""The model's forward pass on batches of lessons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from .blocks import mask_for
from .clips import Clip
from .features import hear, patches, see, spectrogram
from .lessons import Batch, Teacher


def answer_logits(model: Any, extractor: WhisperFeatureExtractor, clips: Sequence[Clip], batch: Batch) -> torch.Tensor:
    """Logits [predictions, vocabulary] of what follows the batch's sources."""
    embeds = _embeds(model, extractor, clips, batch.ids)
    out = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch.positions,
        attention_mask={"full_attention": mask_for(model, batch.mask)},
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(out[batch.rows, batch.sources])


def prefix_embeds(
    model: Any, extractor: WhisperFeatureExtractor, teacher: Teacher, clip: Clip
) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip as it begins a conversation: embeddings [1, tokens, hidden] and positions [3, 1, tokens]."""
    ids, positions = teacher.prefix(len(clip.events), clip.use_audio_in_video)
    embeds = _embeds(model, extractor, [clip], torch.from_numpy(ids)[None])
    return embeds, torch.from_numpy(positions)[:, None]


def _embeds(model: Any, extractor: WhisperFeatureExtractor, clips: Sequence[Clip], ids: torch.Tensor) -> torch.Tensor:
    """Embeddings of tokens, with what the towers make of the clips in place of their placeholders."""
    config, thinker = model.config, model.model
    embeds = thinker.get_input_embeddings()(ids)
    seen = see(thinker.visual, patches(np.concatenate([clip.frames for clip in clips])))
    embeds = embeds.masked_scatter((ids == config.video_token_id)[..., None], seen.to(embeds.dtype))
    if clips[0].waveform is None:
        return embeds
    waveforms = torch.from_numpy(np.stack([clip.waveform for clip in clips if clip.waveform is not None]))
    heard = hear(thinker.audio_tower, spectrogram(waveforms, extractor))
    return embeds.masked_scatter((ids == config.audio_token_id)[..., None], heard.to(embeds.dtype))
