"""What a layer's settings do to the logits, estimated from that layer alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..cache.layer import OscarLayer
from ..cache.reading import materialize
from ..cache.shared import Shared
from ..config import OscarConfig
from ..key_bias import KeyBias
from ..modality import ModalityStream
from .recording import Attention


def packed_layer(
    keys: Tensor,
    values: Tensor,
    settings: OscarConfig,
    bias: KeyBias | None = None,
    stream: ModalityStream | None = None,
) -> OscarLayer:
    """A layer of these settings that holds a prefix, all of it packed.

    Args:
        keys, values: [1, num_key_value_heads, prefix, head_dim].
        stream: what the prefix's tokens are.
    """
    layer = OscarLayer(replace(settings, residual_length=0), bias, shared=Shared(stream=stream))
    layer.update(keys, values)
    layer.flush()
    return layer


def stored(
    keys: Tensor,
    values: Tensor,
    settings: OscarConfig,
    bias: KeyBias | None = None,
    stream: ModalityStream | None = None,
) -> tuple[Tensor, Tensor]:
    """Keys and values of packed_layer() as it gives them back, fp32."""
    return materialize(packed_layer(keys, values, settings, bias, stream), torch.float32)


def attention_output(seen: Attention, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of the continuation over other states of the prefix, [n, num_attention_heads, head_dim].

    Args:
        keys, values: of the prefix, [num_key_value_heads, prefix, head_dim].
    """
    prefix, n = keys.shape[1], seen.query.shape[1]
    keys, values = torch.cat([keys, seen.keys[:, prefix:]], 1), torch.cat([values, seen.values[:, prefix:]], 1)
    at = torch.arange(prefix + n, device=keys.device)
    visible = at[None] <= at[prefix:, None]
    output = torch.nn.functional.scaled_dot_product_attention(
        seen.query[None], keys[None], values[None], attn_mask=visible, scale=seen.scaling, enable_gqa=True
    )
    return output[0].transpose(0, 1)


def attention_weights(seen: Attention, keys: Tensor) -> Tensor:
    """Softmax weights of the prefix's tokens for the continuation, [num_key_value_heads, heads of a group, n, prefix].

    Args:
        keys: of the prefix, [num_key_value_heads, prefix, head_dim].
    """
    (heads, prefix, _), n = keys.shape, seen.query.shape[1]
    scores = seen.query.unflatten(0, (heads, -1)) @ seen.keys.unsqueeze(1).transpose(-1, -2) * seen.scaling
    at = torch.arange(prefix + n, device=keys.device)
    return scores.masked_fill_(at[None] > at[prefix:, None], float("-inf")).softmax(-1)[..., :prefix]


def value_error(weights: Tensor, error: Tensor) -> Tensor:
    """What an error of the prefix's values does to the output, [n, num_attention_heads, head_dim].

    Args:
        weights: attention_weights.
        error: [num_key_value_heads, prefix, head_dim].
    """
    return (weights @ error.unsqueeze(1)).flatten(0, 1).transpose(0, 1)


def logit_effect(seen: Attention, error: Tensor) -> float:
    """KL that an error of the attention output costs, to second order, a token, in nats.

    KL(p || q) is half the square of the error in the metric of the Fisher matrix. With gradients g of the
    log-probability of tokens drawn from p, that is half the mean of <g, error>^2; errors of different tokens are
    taken to be independent.

    Args:
        error: [n, num_attention_heads, head_dim].
    """
    return float(head_effects(seen, error, 1)[0])


def head_effects(seen: Attention, error: Tensor, num_key_value_heads: int) -> np.ndarray:
    """logit_effect of the error, and of each KV head's share of it alone, float64 [1 + num_key_value_heads]."""
    along = torch.einsum("rthd,thd->rth", seen.gradients, error).unflatten(2, (num_key_value_heads, -1)).sum(3)
    whole_and_parts = torch.cat([along.sum(2, keepdim=True), along], dim=2)
    return (whole_and_parts.square().sum(1).mean(0) / (2 * error.shape[0])).double().cpu().numpy()
