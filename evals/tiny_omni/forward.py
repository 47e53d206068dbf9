"""The model's forward pass on batches of lessons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from .clips import Clip
from .features import hear, patches, see, spectrogram
from .lessons import Batch


def answer_logits(model: Any, extractor: WhisperFeatureExtractor, clips: Sequence[Clip], batch: Batch) -> torch.Tensor:
    """Logits [predictions, vocabulary] of what follows the batch's sources."""
    config, thinker = model.config, model.model
    embeds = thinker.get_input_embeddings()(batch.ids)
    seen = see(thinker.visual, patches(np.concatenate([clip.frames for clip in clips])))
    embeds = embeds.masked_scatter((batch.ids == config.video_token_id)[..., None], seen.to(embeds.dtype))
    if clips[0].waveform is not None:
        waveforms = torch.from_numpy(np.stack([clip.waveform for clip in clips if clip.waveform is not None]))
        heard = hear(thinker.audio_tower, spectrogram(waveforms, extractor))
        embeds = embeds.masked_scatter((batch.ids == config.audio_token_id)[..., None], heard.to(embeds.dtype))
    out = thinker.language_model(
        inputs_embeds=embeds,
        position_ids=batch.positions,
        attention_mask={"full_attention": batch.mask},
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(out[batch.rows, batch.sources])
