"""A forward pass that failed halfway is taken back, from layers with a window too."""

from __future__ import annotations

import pytest
import torch

from oscar_x.cache.rollback import checkpoint
from oscar_x.modality import stream_of_tokens


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("count", [3, 200])
@torch.no_grad()
def test_nothing_of_it_stays(oscar_model, fresh, ids, family, count):
    model, prompt, later = oscar_model(family), ids(2, 150), ids(2, count, seed=1)
    cache = fresh(model)
    cache.expect_prompt(150, stream_of_tokens(prompt, None, {}))
    model(prompt, past_key_values=cache)
    twin, restore, stream = cache.fork(), checkpoint(cache), cache.modalities

    def fail(*args):
        raise RuntimeError("out of memory")

    hook = model.model.layers[-1].register_forward_pre_hook(fail)
    cache.expect_prompt(150 + count, stream_of_tokens(later, None, {}))
    with pytest.raises(RuntimeError, match="out of memory"):
        model(later, past_key_values=cache)
    hook.remove()
    assert len({layer.get_seq_length() for layer in cache.layers}) == 2
    restore()
    assert {layer.get_seq_length() for layer in cache.layers} == {150}
    assert torch.equal(cache.modalities.modalities, stream.modalities)
    found, expected = (model(later, past_key_values=held).logits for held in (cache, twin))
    assert float((found - expected).norm() / expected.norm()) < 1e-5


@torch.no_grad()
def test_an_empty_cache_is_empty_again(oscar_model, fresh, ids):
    model = oscar_model("gemma3")
    cache = fresh(model)
    restore = checkpoint(cache)
    model(ids(1, 150), past_key_values=cache)
    restore()
    assert {layer.get_seq_length() for layer in cache.layers} == {0}
    expected = model(ids(1, 60), past_key_values=fresh(model)).logits
    assert torch.equal(model(ids(1, 60), past_key_values=cache).logits, expected)
