"""A decoding step of fixed shapes is one graph to torch.compile, from the embedding to the logits."""

from __future__ import annotations

import pytest
import torch

from oscar_x import OscarConfig
from oscar_x.attention import register
from oscar_x.cache import OscarCache
from oscar_x.graphed_decode import GraphedDecode

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on
SETTINGS = OscarConfig(residual_length=16, block_size=32, value_scale_rows=16, backend="triton")
STEPS = 3


def decode(model, monkeypatch, backend: str | None) -> torch.Tensor:
    """Logits of STEPS steps, compiled by a backend of torch.compile or as they are."""
    cache = OscarCache(model.config, SETTINGS)
    ids = torch.randint(3, 90, (2, 70), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad():
        token = model(input_ids=ids, past_key_values=cache).logits[:, -1].argmax(-1, keepdim=True)
    decoding, found = GraphedDecode(model, cache, capture=False), []
    with monkeypatch.context() as patch:
        if backend is not None:
            torch._dynamo.reset()
            patch.setattr(model, "forward", torch.compile(model.forward, fullgraph=True, backend=backend))
        for _ in range(STEPS):
            found.append(decoding.step(token))
            token = found[-1].argmax(-1, keepdim=True)
    assert cache.packed_reads > 0
    return torch.stack(found)


def test_a_step_is_one_graph(support, monkeypatch) -> None:
    register()
    model = support("tiny").tiny_model("llama").to(DEVICE)
    model.set_attn_implementation("oscar")
    expected = decode(model, monkeypatch, None)
    torch.testing.assert_close(decode(model, monkeypatch, "aot_eager"), expected)
