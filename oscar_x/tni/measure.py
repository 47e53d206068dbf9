"""measure_tni(): reads data with a model and reports Token Norm Imbalance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..config import DEFAULT_PRESET, PRESETS, OscarConfig
from ..data_hash import add_tensors
from ..generation import complete
from ..key_bias_detect import detect_key_biases
from ..modality import Modality
from ..prompts import Prompt, encode_text
from .assemble import assemble
from .norm_map import NormMapBuilder
from .observe import ObservingCache
from .report import TniReport

if TYPE_CHECKING:
    from ..model import OscarModel

Progress = Callable[[int, int, str], None]


def measure_tni(
    model: OscarModel,
    data: Any,
    *,
    group_size: int | None = None,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> TniReport:
    """Token Norm Imbalance of post-RoPE keys and values, per layer, KV head and modality; docs/tni.md defines it.

    The model reads each sequence once. Statistics are streamed: they take as much memory for a long context as for a
    short one, and the cache they are taken in front of is the compressed one. At 16 bits, figures are those of the
    default preset.

    Args:
        model: a loaded model; it is not changed, nor what its memory() reports on.
        data: a text, token ids [tokens], one conversation (as for OscarModel.chat), what OscarModel.prepare made of
            one (so that the sound of videos can be heard), or a list of these.
        group_size: tokens, and channels, that share a scale; by default what the model's settings say.
        max_tokens: tokens of each sequence that count. Texts are cut there before they are read; conversations are
            read whole.
        progress: called with what is done, what there is in all, and what is going on.

    Raises:
        ValueError: data of another kind, empty, too short for one group or longer than the model reads; a group size or
            number of tokens that is not allowed; NaN or infinity in keys or values.
        MediaError: as OscarModel.chat.
    """
    sequences = _sequences(data)
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ValueError(f"max_tokens={max_tokens!r} is not allowed; use a whole number of at least 1")
    settings = _grouped_by(model.config if model.config.compresses else PRESETS[DEFAULT_PRESET], group_size)
    biases = model.key_biases
    if not model.config.compresses and settings.key_bias == "auto":
        biases = detect_key_biases(model.model, model.adapter)
    cache = ObservingCache(model.model.config, model.config, settings, dict(biases), max_tokens=max_tokens)
    digest, tokens = hashlib.sha256(), dict.fromkeys(Modality, 0)
    for number, sequence in enumerate(sequences):
        prompt = _prompt(model, sequence, f"data[{number}]", max_tokens)
        _hash(digest, prompt)
        _read(model, cache, prompt, number, len(sequences), progress)
        for kind, count in _count(cache, max_tokens).items():
            tokens[kind] += count
    counted = {kind.name.lower(): count for kind, count in tokens.items() if count}
    return assemble(model, cache, settings, digest.hexdigest()[:16], len(sequences), counted)


def _grouped_by(settings: OscarConfig, group_size: int | None) -> OscarConfig:
    """The settings with other groups.

    Raises:
        ValueError: a group size that is not allowed.
    """
    if group_size is None:
        return settings
    block = max(settings.block_size, group_size) if isinstance(group_size, int) else settings.block_size
    return replace(settings, key_group_size=group_size, value_group_size=group_size, block_size=block)


def _read(
    model: OscarModel, cache: ObservingCache, prompt: Mapping[str, Any], number: int, total: int, progress: Any
) -> None:
    """One sequence through the model. A generation of one token reads the prompt as any other."""
    layers = len(cache.layers)
    if progress is not None:
        what = f"sequence {number + 1} of {total}"
        progress(number * layers, total * layers, what)
        cache.progress = lambda layer: progress(number * layers + layer + 1, total * layers, what)
    cache.begin(number)
    if number == 0:
        length = prompt["input_ids"].shape[1]
        cache.norm_map = NormMapBuilder(length if cache.max_tokens is None else min(length, cache.max_tokens))
    arguments = complete(model, prompt, {"past_key_values": cache, "max_new_tokens": 1, "do_sample": False})
    model.generator.generate(**arguments)
    held = prompt["input_ids"][0].tolist()
    mask = prompt.get("attention_mask")
    cache.note_tokens(number, held if mask is None else [t for t, m in zip(held, mask[0].tolist(), strict=True) if m])


def _count(cache: ObservingCache, max_tokens: int | None) -> dict[Modality, int]:
    kinds = cache.modalities.modalities[0]
    kinds = kinds[kinds != Modality.PADDING][:max_tokens]
    return {kind: int((kinds == kind).sum()) for kind in Modality}


def _sequences(data: Any) -> list[Any]:
    """Every text, token ids or conversation in the data."""
    if isinstance(data, (str, Tensor, Prompt)) or _is_conversation(data):
        return [data]
    if not isinstance(data, Sequence) or not data:
        shown = "an empty list" if isinstance(data, Sequence) else type(data).__name__
        raise ValueError(f"data is {shown}; give a text, token ids, a conversation or a list of these")
    for number, item in enumerate(data):
        if not isinstance(item, (str, Tensor, Prompt)) and not _is_conversation(item):
            raise ValueError(
                f"data[{number}] is {type(item).__name__}; give a text, token ids [tokens] or a list of messages"
            )
    return list(data)


def _is_conversation(data: Any) -> bool:
    return (
        isinstance(data, Sequence)
        and not isinstance(data, str)
        and bool(data)
        and all(isinstance(item, Mapping) for item in data)
    )


def _prompt(model: OscarModel, sequence: Any, where: str, max_tokens: int | None) -> Mapping[str, Any]:
    if isinstance(sequence, Tensor):
        if sequence.ndim != 1 or sequence.dtype not in (torch.int64, torch.int32) or not len(sequence):
            raise ValueError(
                f"{where} is {sequence.dtype} {list(sequence.shape)}; token ids are whole numbers [tokens]"
            )
        prompt: Mapping[str, Any] = {"input_ids": sequence[None, :max_tokens].long()}
    elif isinstance(sequence, str):
        prompt = {name: tensor[:, :max_tokens] for name, tensor in encode_text(model.processor, sequence).items()}
    elif isinstance(sequence, Prompt):
        if len(sequence["input_ids"]) != 1:
            raise ValueError(f"{where} is a batch of {len(sequence['input_ids'])}; give its conversations one by one")
        prompt = sequence
    else:
        prompt = model.prepare(sequence)
    tokens = prompt["input_ids"].shape[1]
    longest = getattr(model.generator.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if longest is not None and tokens >= longest:
        raise ValueError(f"{where} has {tokens} tokens, but the model reads {longest}; give max_tokens or less data")
    return prompt


def _hash(digest: Any, prompt: Mapping[str, Any]) -> None:
    stream = [prompt.stream.modalities] if isinstance(prompt, Prompt) else []
    add_tensors(digest, prompt)
    for tensor in stream:
        digest.update(tensor.cpu().numpy().tobytes())
