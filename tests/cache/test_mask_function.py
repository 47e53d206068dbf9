"""The mask function and what passes through to transformers' own attention."""

from __future__ import annotations

from inspect import signature
from types import SimpleNamespace

import pytest
import torch
from transformers import StaticCache
from transformers.masking_utils import causal_mask_function, sdpa_mask, sliding_window_causal_mask_function

from oscar_x.attention import oscar_attention_forward, oscar_mask, register


def seen(mask, queries, columns, offset):
    """A mask as booleans [batch, queries, columns]; None is plain causal attention."""
    if mask is None:
        at = torch.arange(offset, offset + queries)[:, None]
        return (torch.arange(columns)[None] <= at)[None].expand(2, -1, -1)
    return mask[:, 0]


@pytest.mark.parametrize("window", [None, 5, 8, 9])
@pytest.mark.parametrize(("queries", "columns", "offset"), [(9, 9, 0), (1, 9, 8), (4, 9, 5), (4, 16, 5), (1, 16, 0)])
@pytest.mark.parametrize("padded", [False, True])
def test_oscar_mask_means_what_sdpa_mask_means(window, queries, columns, offset, padded):
    function = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    padding = torch.ones(2, offset + queries, dtype=torch.bool)
    if padded:
        padding[1, :3] = False
    shape = {"batch_size": 2, "kv_length": columns}
    if "cache_position" in signature(sdpa_mask).parameters:  # earlier transformers
        shape["cache_position"] = torch.arange(offset, offset + queries)
    else:
        shape |= {"q_length": queries, "q_offset": offset}
    arguments = {"mask_function": function, "attention_mask": padding, "allow_is_causal_skip": False}
    arguments["local_size"] = window
    expected = sdpa_mask(**shape, **arguments)
    found = oscar_mask(**shape, **{**arguments, "allow_is_causal_skip": True})
    assert torch.equal(seen(found, queries, columns, offset), expected[:, 0])
    whole_and_causal = (window is None or window >= columns) and not padded and columns == offset + queries
    assert (found is None) >= whole_and_causal
    assert window is None or window >= columns or found is not None
    assert oscar_mask(**shape, **arguments) is not None


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_static_cache_under_oscar_attention(support, ids, family):
    """Tensors that are not handles go to transformers' attention, with the masks that go with them."""
    results = []
    for attention in ("sdpa", "oscar"):
        model = support("tiny").tiny_model(family)
        register()
        model.set_attn_implementation(attention)
        cache = StaticCache(config=model.config, max_cache_len=64)
        parts = []
        with torch.no_grad():
            at = 0
            for count in (20, 1, 7, 1):
                mask = torch.ones(2, at + count, dtype=torch.long)
                mask[0, :4] = 0
                output = model(ids(2, count, count), attention_mask=mask, past_key_values=cache).logits
                parts.append(output[:, 4:] if at == 0 else output)  # what a padding query returns is not defined
                at += count
        results.append(torch.cat(parts, 1))
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


def test_attention_across_two_sequences_is_not_made_causal():
    """Cross-attention in a vision or audio tower: no mask means that every query sees every column."""
    module = SimpleNamespace(is_causal=False, num_key_value_groups=1)
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(1, 2, count, 16, generator=generator) for count in (5, 9, 9))
    found, _ = oscar_attention_forward(module, query, keys, values, None)
    expected = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
    torch.testing.assert_close(found, expected.transpose(1, 2))
    module.is_causal = True
    found, _ = oscar_attention_forward(module, query, keys, values, None, is_causal=False)
    torch.testing.assert_close(found, expected.transpose(1, 2))
