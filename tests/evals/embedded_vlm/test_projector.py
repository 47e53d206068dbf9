"""The trained projector and the folded one in the checkpoint are the same function."""

from __future__ import annotations

import torch
from transformers import FastVlmConfig, LlamaConfig, ResNetConfig
from transformers.models.fast_vlm.modeling_fast_vlm import FastVlmMultiModalProjector

from oscar_x.evals.embedded_vlm.projector import Projector


def test_folded_is_the_same_map():
    torch.manual_seed(0)
    scales = torch.logspace(-1, 0.5, 32)
    features = torch.randn(2000, 32).relu() * scales + scales
    trained = Projector(features, 24)
    config = FastVlmConfig(
        vision_config=ResNetConfig(hidden_size=32),
        text_config=LlamaConfig(hidden_size=24, num_attention_heads=2),
    )
    folded = FastVlmMultiModalProjector(config)
    folded.load_state_dict({name: tensor.float() for name, tensor in trained.folded().items()})
    wanted, got = trained(features), folded(features)
    assert torch.linalg.norm(got - wanted) / torch.linalg.norm(wanted) < 0.01  # float16 weights
    whitened = (features - trained.mean) @ trained.whitening
    assert whitened.var(dim=0).max() < 1.1
    assert whitened.var(dim=0).min() > 0.3
