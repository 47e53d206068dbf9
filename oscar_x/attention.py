"""The attention function "oscar" and its mask, registered with transformers' public interfaces.

Registering changes no model: load() switches it on for the models that it loads. Tensors that are not handles
(vision towers, sliding layers, an ordinary cache) go through to transformers' own sdpa attention.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from .attend import attend
from .cache.cache import ATTENTION_NAME as NAME
from .cache.handle import KVHandle, WatchedStates
from .cache.static import attend_static


def register() -> None:
    """Make attention implementation "oscar" known to transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, oscar_attention_forward)
    AttentionMaskInterface.register(NAME, oscar_mask)


def oscar_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor | KVHandle | WatchedStates,
    value: torch.Tensor | KVHandle | WatchedStates,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over an OscarCache, or transformers' sdpa where key is a tensor.

    Args:
        query: [batch, num_attention_heads, n, head_dim], post-RoPE.
        key, value: what the cache's update() returned.
        attention_mask: None for plain causal attention, else [batch, 1, n, columns], boolean or additive.

    Returns:
        ([batch, n, num_attention_heads, head_dim], None).

    Raises:
        ValueError: a feature that packed attention does not have (dropout, softcap, sinks), or a sliding window that
            is exceeded without a mask that says so.
    """
    if isinstance(key, WatchedStates):
        _check_features(dropout, kwargs, 0)
        return key.attend(module, query, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling), None
    if not isinstance(key, KVHandle):
        causal = kwargs["is_causal"] if kwargs.get("is_causal") is not None else getattr(module, "is_causal", True)
        mask = _lower_right(query, key) if attention_mask is None and causal else attention_mask
        return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **kwargs)
    # where there is a mask, it is the mask that hides what lies outside of the window
    _check_features(dropout, kwargs, key.layer.get_seq_length() + query.shape[2] if attention_mask is None else 0)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if key.layer.static is not None:
        if attention_mask is not None:
            raise ValueError("a step of fixed shapes takes no attention_mask: every token of a row is seen")
        return attend_static(key, query, scaling).transpose(1, 2), None
    prompt = key.layer.shared.prompt_columns - key.layer.get_seq_length()
    if not 0 < prompt < query.shape[2]:
        return _attend(module, query, key, attention_mask, scaling), None
    outputs, columns = [], key.layer.get_seq_length() + prompt
    for part, stop in ((slice(0, prompt), columns), (slice(prompt, None), None)):
        states = KVHandle(key.layer, key.key_states[:, :, part], key.value_states[:, :, part])
        mask = None if attention_mask is None else attention_mask[:, :, part, :stop]
        outputs.append(_attend(module, query[:, :, part], states, mask, scaling))
    return torch.cat(outputs, dim=1), None


def _attend(
    module: torch.nn.Module, query: torch.Tensor, handle: KVHandle, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """[batch, n, num_attention_heads, head_dim]; the handle's tokens are taken in."""
    layer = handle.layer
    sight = layer.shared.sights.read(layer, mask, query.shape[2])
    if layer.get_seq_length():
        return attend(handle, query, sight, scaling).transpose(1, 2).contiguous()
    output, _ = sdpa_attention_forward(module, query, handle.key_states, handle.value_states, mask, scaling=scaling)
    layer.append(handle.key_states, handle.value_states, sight.spans)
    return output


def oscar_mask(
    *args: Any,
    mask_function: Any = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    **kwargs: Any,
) -> torch.Tensor | None:
    """transformers' sdpa mask, but None for every plain causal pattern, a later chunk of a prompt included, and that of
    a window that is not reached yet."""
    causal = mask_function is causal_mask_function or _within_window(kwargs)
    simple = causal and allow_is_causal_skip and _ends_at_queries(kwargs)
    if simple and (attention_mask is None or bool(attention_mask.all())):
        return None
    return sdpa_mask(
        *args,
        mask_function=mask_function,
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip and not simple,
        **kwargs,
    )


def _within_window(kwargs: dict[str, Any]) -> bool:
    """Whether local attention (transformers gives its size, and skips no causality where a pattern is laid over it) is
    over fewer columns than a query may see, so that it is causal attention."""
    size = kwargs.get("local_size")
    return size is not None and kwargs["kv_length"] + kwargs.get("kv_offset", 0) <= size


def _ends_at_queries(kwargs: dict[str, Any]) -> bool:
    """Whether the last column is the last query's: not so for static caches, whose storage goes on behind it."""
    if "cache_position" in kwargs:  # earlier transformers
        return kwargs["kv_length"] == int(kwargs["cache_position"][-1]) + 1 - kwargs.get("kv_offset", 0)
    offset = kwargs.get("q_offset", 0)
    if isinstance(offset, torch.Tensor):
        return False
    return kwargs.get("kv_length") == offset - kwargs.get("kv_offset", 0) + kwargs.get("q_length", 0)


def _lower_right(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor | None:
    """The mask that None stands for when there are more columns than queries, which sdpa would align otherwise."""
    n, columns = query.shape[2], key.shape[2]
    if n == 1 or n == columns:
        return None
    at = torch.arange(columns, device=query.device)
    return (at[None] <= at[columns - n :, None])[None, None]


def _check_features(dropout: float, kwargs: dict[str, Any], columns: int) -> None:
    asked = {"dropout": dropout or None, **{name: kwargs.get(name) for name in ("softcap", "s_aux")}}
    for name, value in asked.items():
        if value is not None:
            raise ValueError(
                f"{name}={value if isinstance(value, int | float) else '...'} is not supported by packed attention; "
                "keep this layer in transformers' own cache"
            )
    window = kwargs.get("sliding_window")
    if window is not None and columns > window:
        raise ValueError(
            f"sliding_window={window} is not supported by packed attention over {columns} tokens without an "
            "attention_mask that hides what lies outside of it"
        )
