"""load(): a transformers model whose attention reads a compressed cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import cached_file

from . import attention
from .adapters.base import Adapter
from .adapters.registry import find_adapter, supported
from .arguments import check_device, check_dtype, check_settings
from .config import DEFAULT_KV_BITS, DEFAULT_PRESET
from .errors import (
    CheckpointError,
    MissingPackageError,
    OscarError,
    UnknownModelError,
    UnsupportedModelError,
    first_line,
)
from .model import OscarModel
from .profile import Profile, read_profile
from .source import ModelSource, resolve_source
from .weights import weight_samples

logger = logging.getLogger(__name__)

# from_pretrained arguments that say where files come from, and so hold for config and tokenizer too
_HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder", "proxies")
_MEDIA_SINCE = "5.15"  # earlier processors do not say what they put in a medium's place
# what processors of transformers import beside what oscar_x needs; the extra "media" brings them
_MEDIA_PACKAGES = ("torchvision", "num2words")


def load(
    name_or_path: str | os.PathLike[str],
    kv_bits: int = DEFAULT_KV_BITS,
    *,
    key_bits: int | None = None,
    value_bits: int | None = None,
    preset: str = DEFAULT_PRESET,
    profile: Profile | str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    backend: str = "auto",
    online: bool = False,
    **from_pretrained_kwargs: Any,
) -> OscarModel:
    """Loads a model and its tokenizer, ready to generate from a cache of ``kv_bits`` bits.

    Args:
        name_or_path: short name ("SmolLM2"), hub id, model folder, folder with a .gguf file, .gguf file, or
            "tiny-omni", a small model that comes with the package.
        kv_bits: 1, 2, 3, 4 or 8 bits for keys and values; 16 leaves the model as transformers loads it.
        key_bits, value_bits: the same for keys or values alone; they win over kv_bits.
        preset: "paper", "balanced" or "max".
        profile: what calibrate() made for this model, or its file. It decides every layer's settings, so kv_bits,
            key_bits, value_bits and preset must be left as they are.
        device: where the model goes; by default an accelerator if there is one, else the CPU.
        dtype: of the weights; by default the checkpoint's own. GGUF files are dequantized, by default to float32
            on the CPU and bfloat16 elsewhere.
        backend: which kernels write and read the cache: "auto" (the fastest for the device), "triton" (CUDA, or
            Triton's interpreter) or "reference" (plain torch).
        online: let the norms of each conversation's first prompt decide which first tokens stay exact and where
            modalities part, without calibration (docs/calibration.md).
        from_pretrained_kwargs: passed on to transformers. An ``attn_implementation`` given here is kept; the cache
            then hands it dequantized states.

    Raises:
        ValueError: an argument that is not allowed; raised before anything is loaded.
        ProfileError: a profile that is damaged or was made for another model, before weights are read. One that was
            made for another fine-tuning is used, with a warning.
        UnknownModelError: nothing found under that name.
        UnsupportedModelError: an architecture without adapter; lists those that have one.
        CheckpointError: files that are incomplete or damaged.
        MissingPackageError: a GGUF file without the gguf package, or a model that reads media with a transformers
            that is too old for it.
    """
    chosen = read_profile(profile)
    oscar = check_settings(kv_bits, key_bits, value_bits, preset, chosen, backend, online)
    target = check_device(device, from_pretrained_kwargs)
    weights_dtype = check_dtype(dtype)
    source = resolve_source(name_or_path, from_pretrained_kwargs.pop("gguf_file", None))
    hub = {name: from_pretrained_kwargs[name] for name in _HUB_ARGUMENTS if name in from_pretrained_kwargs}
    config = read_config(source, **hub)
    if chosen is not None:
        chosen.check(config)
    adapter = _loadable_adapter(config)
    if adapter.media is not None:
        _check_media_version(adapter.name, adapter.media.since)

    what = "tokenizer" if adapter.media is None else "processor"
    processor = _read(source, getattr(transformers, adapter.processor_class).from_pretrained, what, **hub)
    if weights_dtype is None:
        weights_dtype = "auto" if source.gguf_file is None else _gguf_dtype(target)
    model = _load_weights(source, _reader(adapter, config), dtype=weights_dtype, **from_pretrained_kwargs)
    if adapter.speech is not None and adapter.speech.voices is not None:
        model.load_speakers(_read(source, cached_file, "voices", filename=adapter.speech.voices, **hub))
    if target is not None:
        model = model.to(target)
    if oscar.compresses and "attn_implementation" not in from_pretrained_kwargs:
        attention.register()
        model.set_attn_implementation("oscar")
    if chosen is not None:
        chosen.compare_weights(weight_samples(model, adapter))
    loaded = OscarModel(model.eval(), processor, adapter, oscar, profile=chosen)
    logger.info("%s: %s", source, loaded)
    return loaded


def _check_media_version(family: str, since: str | None) -> None:
    what = "models that read media need" if since is None else f"{family} needs"
    needed, installed = since or _MEDIA_SINCE, transformers.__version__
    if Version(installed) < Version(needed):
        raise MissingPackageError(f"{what} transformers {needed} or newer, installed is {installed}")


def read_config(source: ModelSource, **hub_arguments: Any) -> PreTrainedConfig:
    """The model's config, without its weights. Raises as load() does."""
    try:
        values, _ = PreTrainedConfig.get_config_dict(source.location, **source.arguments, **hub_arguments)
    except (OSError, ValueError, KeyError, IndexError, AssertionError) as error:
        if source.local:
            raise CheckpointError(f"the configuration of {source} cannot be read: {first_line(error)}") from error
        raise UnknownModelError(
            f"model {source} was not found: it is no local folder, and the hub cannot be reached or does not have it "
            f"({first_line(error)})"
        ) from error
    model_type = values.get("model_type")
    if not model_type:
        raise CheckpointError(f"the configuration of {source} names no model_type")
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(f"architecture {model_type!r} is not supported; {supported()}")
    return CONFIG_MAPPING[model_type].from_dict(values)


def _loadable_adapter(config: PreTrainedConfig) -> Adapter:
    """The config's adapter, where its class can really load this config.

    An adapter found by the text config inside a composite one serves it only if transformers' class takes the whole.
    """
    adapter = find_adapter(config)
    known = getattr(getattr(transformers, adapter.auto_class), "_model_mapping", None)
    if known is not None and type(config) not in known:
        raise UnsupportedModelError(
            f"architecture {config.model_type!r} is not supported: its decoder is {adapter.name}, but "
            f"{adapter.auto_class} cannot load the whole; {supported()}"
        )
    return adapter


def _reader(adapter: Adapter, config: PreTrainedConfig) -> Callable[..., Any]:
    """The from_pretrained that loads the weights."""
    auto_class = getattr(transformers, adapter.auto_class)
    if adapter.speech is None or adapter.speech.voices is None:
        return auto_class.from_pretrained
    # a class that also reads voices takes the pair of model and loading info for the model, so its parent is asked
    model_class = auto_class._model_mapping[type(config)]
    return super(model_class, model_class).from_pretrained


def _read(source: ModelSource, reader: Callable[..., Any], what: str, **arguments: Any) -> Any:
    """What a reader of transformers makes of the source, with whatever is wrong with the files told in one line."""
    try:
        return reader(source.location, **source.arguments, **arguments)
    except ImportError as error:
        package = next((name for name in _MEDIA_PACKAGES if name in str(error).lower()), None)
        if package is None:
            raise
        raise MissingPackageError(
            f"the {what} of {source} needs the package {package}: pip install 'oscar-x[media]'"
        ) from error
    except (OscarError, TypeError, MemoryError, torch.OutOfMemoryError):
        raise  # not the files' fault
    except Exception as error:
        # readers of the several formats raise anything from OSError to UnpicklingError on a damaged file
        raise CheckpointError(f"the {what} of {source} cannot be loaded: {first_line(error)}") from error


def _load_weights(source: ModelSource, reader: Callable[..., Any], **arguments: Any) -> Any:
    model, info = _read(source, reader, "weights", output_loading_info=True, **arguments)
    # transformers fills missing tensors with random numbers and only warns
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"the weights of {source} are incomplete: {len(missing)} tensors lack, first {missing[0]}"
        )
    return model


def _gguf_dtype(target: torch.device | None) -> torch.dtype:
    return torch.float32 if target is None or target.type == "cpu" else torch.bfloat16
