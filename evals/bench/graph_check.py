"""Whether steps of fixed shapes, captured on a GPU, give what ordinary steps give."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from ...attention import register
from ...cache import ATTENTION_NAME, OscarCache
from ...config import PRESETS
from ...graphed_decode import GraphedDecode

STEPS = 200  # with residual windows of 64 to 191 tokens, a block is packed on the way
BOUND = 1e-3  # relative error of logits, fp32


def small_model(device: torch.device) -> PreTrainedModel:
    """Two layers of random weights, grouped heads of 128 channels."""
    register()
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=512,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=128,
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=ATTENTION_NAME)
    return model.eval()


@torch.no_grad()
def check_graph(
    device: torch.device, preset: str = "balanced", prompt: int = 700, steps: int = STEPS
) -> dict[str, Any]:
    """Decodes the same tokens twice from the same cache of two rows.

    Returns:
        "relative_error" of the logits over all steps, the times a graph was "captures"d, blocks packed on the way, and
        whether it "holds".
    """
    model = small_model(device)
    tokens = torch.randint(0, 512, (2, prompt + steps), device=device)
    cache = OscarCache(model.config, PRESETS[preset])
    model(tokens[:, :prompt], past_key_values=cache)
    twin, before = cache.fork(), cache.layers[0].packed_tokens
    decoding = GraphedDecode(model, twin, tokens=steps)
    errors = []
    for at in range(prompt, prompt + steps):
        expected = model(tokens[:, at : at + 1], past_key_values=cache).logits[:, -1]
        found = decoding.step(tokens[:, at : at + 1])
        errors.append((found - expected).norm() / expected.norm())
    error = float(torch.stack(errors).max())
    packed = twin.layers[0].packed_tokens - before
    return {
        "op": "graph_check",
        "preset": preset,
        "relative_error": error,
        "bound": BOUND,
        "captures": decoding.captures,
        "packed_on_the_way": packed,
        "holds": error <= BOUND and packed > 0 and (decoding.captures == 1 or device.type != "cuda"),
    }
