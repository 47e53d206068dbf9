"""``oscar-x info``: what becomes of each layer's cache, and why; without a model, what is supported."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscar_x.cli.options import (
    MODEL_HELP,
    JsonFile,
    KeyBits,
    KvBits,
    Online,
    Preset,
    ProfileFile,
    ValueBits,
    find_model,
)
from oscar_x.cli.output import make_table, open_console, working, write_json
from oscar_x.config import DEFAULT_PRESET, PRESETS, OscarConfig, resolve_config

if TYPE_CHECKING:
    from rich.console import Console

    from oscar_x.adapters.base import Adapter
    from oscar_x.cache_settings import CacheSettings
    from oscar_x.profile import Profile
    from oscar_x.source import ModelSource

# of the model that writes, and of the talker where it speaks, too
_Layers = tuple[list[dict[str, Any]], list[dict[str, Any]] | None]
Model = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help=MODEL_HELP, show_default=False),
]
ConfigOnly = Annotated[
    bool, typer.Option("--config-only", help="Do not load weights, and so do not look for key biases.")
]


def info(
    model: Model = None,
    preset: Preset = DEFAULT_PRESET,
    kv_bits: KvBits = 2,
    key_bits: KeyBits = None,
    value_bits: ValueBits = None,
    profile: ProfileFile = None,
    online: Online = False,
    config_only: ConfigOnly = False,
    json_file: JsonFile = None,
) -> None:
    """Show layer by layer what is compressed, to how many bits, and why not where it is not.

    Weights are read where they lie on this machine; of a hub's model only the configuration is.
    """
    oscar = resolve_config(preset, kv_bits, key_bits=key_bits, value_bits=value_bits)
    if model is None and profile is not None:
        raise typer.BadParameter(f"--profile {profile} is for a model; name the model too")
    console = open_console(json_file)
    if model is None:
        write_json(json_file, _about_oscar_x(console))
        return
    from oscar_x.arguments import check_settings
    from oscar_x.profile import read_profile

    chosen = read_profile(profile)
    settings = check_settings(kv_bits, key_bits, value_bits, preset, chosen, oscar.backend, online)
    about = _about_model(console, find_model(model), preset, settings, chosen, config_only)
    write_json(json_file, about if profile is None else {**about, "profile": profile})


def _about_oscar_x(console: Console) -> dict[str, Any]:
    from oscar_x.adapters.registry import all_adapters
    from oscar_x.kernels.decode_attention import backends

    columns = ("family", "model types", "short names")
    families = make_table("Supported model families", *columns, words=columns)
    for adapter in all_adapters():
        families.add_row(adapter.name, ", ".join(adapter.model_types), ", ".join(adapter.short_names))
    differs = "what differs from the defaults"
    presets = make_table("Presets", "preset", "bits an element at head_dim 128", differs, words=(differs,))
    bits = {name: _bits_at_128(config) for name, config in PRESETS.items()}
    for name, config in PRESETS.items():
        defaults = OscarConfig().to_dict()
        changed = [f"{key}={value}" for key, value in config.to_dict().items() if value != defaults[key]]
        presets.add_row(name, f"{bits[name]:.2f}", ", ".join(changed) or "nothing")
    console.print(families, presets)
    for device, means in backends().items():
        console.print(f"Packed blocks are read on {device} by {means}.", markup=False)
    return {
        "backends": backends(),
        "families": {
            a.name: {"model_types": a.model_types, "short_names": dict(a.short_names)} for a in all_adapters()
        },
        "presets": {n: {"bits_per_element": bits[n], "config": c.to_dict()} for n, c in PRESETS.items()},
    }


def _bits_at_128(oscar: OscarConfig) -> float:
    from transformers import LlamaConfig

    from oscar_x.cache import plan_layers

    return plan_layers(LlamaConfig(num_hidden_layers=1, head_dim=128), oscar)[0].bits_per_element


def _about_model(
    console: Console, name: str, preset: str, settings: CacheSettings, profile: Profile | None, config_only: bool
) -> dict[str, Any]:
    with working(console, f"Reading {name}"):
        from oscar_x.adapters.registry import find_adapter
        from oscar_x.loading import read_config

        source, has_weights = _find(name)
        config = read_config(source)
        if profile is not None:
            profile.check(config)
        adapter = find_adapter(config)
        read_weights = has_weights and not config_only
        if read_weights:
            layers, talker = _layers_of_model(name, preset, settings.base, profile)
        else:
            layers, talker = _layers_of_config(config, adapter, settings)
    whole = f"{source} ({adapter.name})"
    for title, rows in ((whole, layers), ("Its talker", talker)):
        if rows is None:
            continue
        table = make_table(title, "layers", "type", "KV heads", "head_dim", "bits", "key bias", "why")
        for row in _rows(rows):
            table.add_row(*row)
        console.print(table)
    if adapter.notes:
        console.print(adapter.notes, markup=False)
    if not read_weights:
        console.print("Weights were not read, so key-projection biases were not looked for.", style="dim")
    about = {"model": str(source), "family": adapter.name, "weights_read": read_weights}
    spoken = {} if talker is None else {"talker_layers": talker}
    return {**about, "config": settings.base.to_dict(), "layers": layers, **spoken}


def _find(name: str) -> tuple[ModelSource, bool]:
    """The model, and whether its weights lie on this machine; a folder may hold a configuration alone."""
    from oscar_x.errors import UnknownModelError
    from oscar_x.source import ModelSource, resolve_source

    try:
        source = resolve_source(name)
    except UnknownModelError:
        if (Path(name).expanduser() / "config.json").is_file():
            return ModelSource(str(Path(name).expanduser()), local=True), False
        raise
    return source, source.local


def _layers_of_config(config: Any, adapter: Adapter, settings: CacheSettings) -> _Layers:
    from oscar_x.adapters.base import follow
    from oscar_x.cache import plan_layers

    speaks = adapter.speech is not None and config.enable_audio_output
    talker = follow(config, adapter.speech.config) if adapter.speech is not None and speaks else None
    layers = [plan.to_dict() for plan in plan_layers(config, settings)]
    return layers, None if talker is None else [plan.to_dict() for plan in plan_layers(talker, settings.base)]


def _layers_of_model(name: str, preset: str, oscar: OscarConfig, profile: Profile | None) -> _Layers:
    from oscar_x.loading import load

    if profile is None:
        model = load(name, key_bits=oscar.key_bits, value_bits=oscar.value_bits, preset=preset, online=oscar.online)
    else:
        model = load(name, profile=profile, online=oscar.online)
    talker = None if model.talker is None else [layer.to_dict() for layer in model.talker.report()]
    return [layer.to_dict() for layer in model.report()], talker


def _rows(layers: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each run of layers that are alike."""
    described = [(layer["index"], _describe(layer)) for layer in layers]
    rows = []
    for row, run in groupby(described, key=lambda item: item[1]):
        indices = [index for index, _ in run]
        rows.append([str(indices[0]) if len(indices) == 1 else f"{indices[0]}-{indices[-1]}", *row])
    return rows


def _describe(layer: dict[str, Any]) -> list[str]:
    bias = layer.get("key_bias_ratio")
    handled = ", taken out" if layer.get("key_bias_removed") else ""
    return [
        layer["layer_type"],
        str(layer["num_key_value_heads"]),
        str(layer["head_dim"]),
        f"{layer['bits_per_element']:.2f}" if layer["compressed"] else "full",
        "" if bias is None else f"{bias:.2f} x the rest{handled}",
        layer["reason"] or "compressed",
    ]
