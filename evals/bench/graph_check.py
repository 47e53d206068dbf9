"""Whether steps of fixed shapes, captured on a GPU, give what ordinary steps give."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from ...attention import register
from ...cache import ATTENTION_NAME, OscarCache
from ...config import PRESETS
from ...graphed_decode import GraphedDecode
from ...graphed_generation import graphed_arguments

STEPS = 200  # with residual windows of 64 to 191 tokens, a block is packed on the way
BOUND = 1e-3  # relative error of logits, fp32
LAYERS = 24  # so many that the host's share of a step shows


def small_model(device: torch.device, layers: int = 2) -> PreTrainedModel:
    """Layers of random weights, grouped heads of 128 channels."""
    register()
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=512,
        intermediate_size=512,
        num_hidden_layers=layers,
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


def check_generate(
    device: torch.device, preset: str = "balanced", prompt: int = 700, steps: int = STEPS, layers: int = LAYERS
) -> dict[str, Any]:
    """Writes the same tokens twice behind a prompt: by transformers' loop, and by steps of fixed shapes in its place.

    Returns:
        "tokens_per_second" of both ways, prompt and capture included, the tokens that "agree" from the first on, and
        whether it "holds": whether all do.
    """
    model = small_model(device, layers)
    ids = torch.randint(0, 512, (1, prompt), device=device)
    settings = {"max_new_tokens": steps, "min_new_tokens": steps, "do_sample": False, "pad_token_id": 0}
    written, speeds = [], []
    for graphed in (False, True):
        for _ in range(2):  # kernels are compiled in the first
            arguments = {**settings, "past_key_values": OscarCache(model.config, PRESETS[preset])}
            start = time.perf_counter()
            found = model.generate(ids, **graphed_arguments(model, arguments) if graphed else arguments)
            tokens = found[0, prompt:].tolist()  # waits for the device
            seconds = time.perf_counter() - start
        written.append(tokens)
        speeds.append(steps / seconds)
    differ = [at for at, (own, other) in enumerate(zip(*written, strict=True)) if own != other]
    return {
        "op": "generate_check",
        "preset": preset,
        "steps": steps,
        "agree": differ[0] if differ else steps,
        "tokens_per_second": {"transformers' loop": speeds[0], "graphed": speeds[1]},
        "holds": not differ,
    }
