"""A cache as one safetensors file. docs/format.md describes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from ..cache_settings import CacheSettings
from ..errors import OscarError, first_line
from ..key_bias import KeyBias
from ..weights import in_words, same_weights, weight_difference
from .columns import batch_size, restore_stream, stream_tensors
from .layer import OscarLayer
from .restore import check_row, restore_layer, whole

if TYPE_CHECKING:
    from .cache import OscarCache

FORMAT = "oscar_x cache"
FORMAT_VERSION = 1
LAYERED_VERSION = 2  # layers with settings of their own, which readers of version 1 would pass over
HEADS_VERSION = 3  # layers whose KV heads have settings of their own
# what decides whether another model's keys and values mean the same
SIGNATURE_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "layer_types",
    "sliding_window",
)


class CacheFileError(OscarError, ValueError):
    """The file is not a cache that this model and this version can go on from."""


def model_signature(config: PreTrainedConfig) -> str:
    """A hash of the config fields that shape keys and values; weights are not part of it."""
    decoder = config.get_text_config(decoder=True)
    fields = {name: getattr(decoder, name, None) for name in SIGNATURE_FIELDS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:16]


def save(cache: OscarCache, path: str | os.PathLike[str], notes: Mapping[str, str]) -> None:
    """See OscarCache.save."""
    tensors = stream_tensors(cache.modalities) if cache.shared.stream is not None else {}
    layers = []
    for index, layer in enumerate(cache.layers):
        described, held = _packed(layer) if isinstance(layer, OscarLayer) else _native(index, layer)
        layers.append(described)
        tensors.update({f"layers.{index}.{name}": tensor.cpu().contiguous() for name, tensor in held.items()})
    header = {
        "version": _version(cache.layer_settings),
        "signature": model_signature(cache.model_config),
        "model": _name(cache.model_config),
        "weights": cache.weights,
        "settings": cache.settings.to_dict(),
        **_layer_settings(cache),
        "layers": layers,
        "notes": dict(notes),
    }
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        save_file(tensors, part, metadata={"format": FORMAT, "header": json.dumps(header)})
        os.replace(part, target)
    except SafetensorError as error:
        raise OSError(f"cannot write {target}: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _version(settings: CacheSettings) -> int:
    """The least version that can say them, so that as many readers as possible read the file."""
    if settings.differ_by_head:
        return HEADS_VERSION
    return LAYERED_VERSION if settings.layers else FORMAT_VERSION


def _layer_settings(cache: OscarCache) -> dict[str, Any]:
    own = cache.layer_settings.to_dict()["layers"]
    return {"layer_settings": own} if own else {}


def _settings(header: dict[str, Any]) -> CacheSettings:
    own = {} if header["version"] == FORMAT_VERSION else header.get("layer_settings", {})
    if header["version"] == LAYERED_VERSION and not own:
        raise KeyError("layer_settings")
    return CacheSettings.from_dict({"base": header["settings"], "layers": own})


def _packed(layer: OscarLayer) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not layer.is_initialized:
        return {"kind": "empty"}, {}
    used = sorted({block for row in layer.rows for block in row.blocks})
    place = {block: at for at, block in enumerate(used)}
    rows = [{**asdict(row), "blocks": [place[block] for block in row.blocks]} for row in layer.rows]
    width = max(row.exact for row in layer.rows)
    held = {
        "records": layer.pool.records[used],
        "keys": layer.exact.keys[:, :, :width],
        "values": layer.exact.values[:, :, :width],
    }
    return {"kind": "packed", "rows": rows, "key_bias": layer.key_bias is not None}, held


def _native(index: int, layer: CacheLayerMixin) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not isinstance(layer, DynamicLayer):
        raise ValueError(f"layer {index} is a {type(layer).__name__}; only attention layers can be saved")
    if not layer.is_initialized or layer.keys.numel() == 0:
        return {"kind": "empty"}, {}
    described = {"kind": "native"}
    if isinstance(layer, DynamicSlidingWindowLayer):
        described["cumulative_length"] = layer.cumulative_length
    return described, {"keys": layer.keys, "values": layer.values}


def load(
    cls: type[OscarCache],
    path: str | os.PathLike[str],
    config: PreTrainedConfig,
    key_biases: Mapping[int, KeyBias] | None,
    weights: str,
    device: torch.device,
) -> OscarCache:
    """See OscarCache.load."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no cache file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata(), config)
            _check_weights(header, weights, config)
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
        cache = cls(config, _settings(header), key_biases=key_biases, weights=_weights(header))
        _fill(cache, header["layers"], tensors)
        cache.shared.tell(restore_stream(tensors, batch_size(cache.layers), cache.get_seq_length()))
        cache.notes = {str(name): str(note) for name, note in header.get("notes", {}).items()}
    except CacheFileError as error:
        raise CacheFileError(f"{path}: {error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CacheFileError(f"{path} is damaged or no cache file: {first_line(error)}") from error
    except (MemoryError, RuntimeError) as error:  # settings in the file may ask for buffers of any size
        raise CacheFileError(f"{path} cannot be restored: {first_line(error)}") from error
    return cache


def _header(metadata: dict[str, str] | None, config: PreTrainedConfig) -> dict[str, Any]:
    if not metadata or metadata.get("format") != FORMAT:
        raise CacheFileError("not an oscar_x cache file")
    header = json.loads(metadata["header"])
    if header["version"] not in (FORMAT_VERSION, LAYERED_VERSION, HEADS_VERSION):
        raise CacheFileError(
            f"format version {header['version']}; this version reads {FORMAT_VERSION} to {HEADS_VERSION}"
        )
    if header["signature"] != model_signature(config):
        raise CacheFileError(
            f"made by another model (signature {header['signature']}, this model {model_signature(config)})"
        )
    return header


def _weights(header: dict[str, Any]) -> str:
    """Samples of the weights that made the file; empty where they are not known."""
    # sessions were the first to keep them, among their notes
    return header.get("weights", header.get("notes", {}).get("weights", ""))


def _check_weights(header: dict[str, Any], found: str, config: PreTrainedConfig) -> None:
    held = _weights(header)
    weight_difference(held, held)  # damaged samples are refused even where there is nothing to compare them with
    if not same_weights(held, found):
        theirs, mine = header.get("model") or "a model without name", _name(config) or "without name"
        raise CacheFileError(
            f"made by {theirs}, and this model, {mine}, has other weights: {in_words(weight_difference(held, found))}"
        )


def _name(config: PreTrainedConfig) -> str:
    """What the model was loaded as: a hub id, or a folder without what is above it; empty for one made in memory."""
    name = str(getattr(config, "_name_or_path", "") or "")
    return Path(name).name if Path(name).is_absolute() or Path(name).exists() else name


def _fill(cache: OscarCache, layers: list[dict[str, Any]], tensors: dict[str, torch.Tensor]) -> None:
    if len(layers) != len(cache.layers):
        raise CacheFileError(f"{len(layers)} layers; the model has {len(cache.layers)}")
    for index, (described, layer) in enumerate(zip(layers, cache.layers, strict=True)):
        if described["kind"] == "empty":
            continue
        held = {name: tensors[f"layers.{index}.{name}"] for name in ("keys", "values")}
        packed = isinstance(layer, OscarLayer)
        if packed != (described["kind"] == "packed"):
            raise CacheFileError(f"layer {index} is {described['kind']} in the file and not so in the model")
        if packed:
            if described["key_bias"] != (layer.key_bias is not None):
                raise CacheFileError(f"layer {index}: the file and key_biases disagree on a key-projection bias")
            records = tensors[f"layers.{index}.records"]
            rows = [check_row(row, layer.oscar, len(records), held["keys"]) for row in described["rows"]]
            restore_layer(layer, rows, records, **held)
        else:
            layer.lazy_initialization(held["keys"], held["values"])
            layer.keys, layer.values = held["keys"], held["values"]
            if isinstance(layer, DynamicSlidingWindowLayer):
                layer.cumulative_length = whole(described["cumulative_length"])
    if len({layer.get_seq_length() for layer in cache.layers}) > 1:
        raise CacheFileError("its layers hold sequences of different lengths")
