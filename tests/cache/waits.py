"""Counts where the host waits for its device in decoding steps on a device that only shapes know; run by test_waits.py.

The device is torch's slot for backends of others, its tensors are fake. Triton's operators run as their fake kernels.
Prints a line a case: its name, and what waited in that step.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation import EosTokenCriteria

from oscar_x import OscarConfig, graphed_decode
from oscar_x.attention import register
from oscar_x.cache import OscarCache, tables
from oscar_x.decoding_method import GeneratedText
from oscar_x.graphed_decode import GraphedDecode
from oscar_x.kernels import triton_support

DEVICE = "elsewhere"
SHAPED_BY_DATA = ("nonzero", "masked_select", "unique", "_unique2", "equal", "is_nonzero", "bincount")
SETTINGS = OscarConfig(residual_length=16, block_size=32, backend="triton")


class Waits(TorchDispatchMode):
    """Notes every operator that makes the host wait, and answers questions about data with yes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = function.overloadpacket.__name__, kwargs or {}
        if name == "_local_scalar_dense":
            self.found.append(name)
            return True
        if name in SHAPED_BY_DATA or self._copies_and_waits(name, args, kwargs):
            self.found.append(name)
        return function(*args, **kwargs)

    def _copies_and_waits(self, name: str, args: Any, kwargs: Any) -> bool:
        if name == "copy_":
            target, source, free = args[0].device, args[1], (*args, False)[2] or kwargs.get("non_blocking", False)
        elif name == "_to_copy":
            target, source = torch.device(kwargs.get("device") or args[0].device), args[0]
            free = kwargs.get("non_blocking", False)
        else:
            return False
        if target.type == source.device.type:
            return False
        return target.type == "cpu" or not free or not getattr(source, "pinned", False)


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    copy = tensor.clone()
    copy.pinned = True
    return copy


def tiny_model() -> Any:
    spec = spec_from_file_location("tiny", Path(__file__).parents[1] / "support" / "tiny.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    register()
    model = module.tiny_model("llama")
    for part in model.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: tensor.to(DEVICE) for name, tensor in held.items() if tensor is not None})
    model.set_attn_implementation("oscar")
    return model


def tokens(batch: int, count: int) -> torch.Tensor:
    return torch.zeros(batch, count, dtype=torch.int64, device=DEVICE)


def report(name: str, waits: Waits) -> None:
    print(f"{name}: {' '.join(waits.found)}", flush=True)
    waits.found.clear()


def decode(model: Any, cache: OscarCache, waits: Waits, name: str, mask: torch.Tensor | None = None) -> None:
    batch = len(cache.layers[0].rows)
    packed = cache.layers[0].packed_tokens
    waits.found.clear()
    model(input_ids=tokens(batch, 1), past_key_values=cache, attention_mask=mask)
    report(f"{name}, {'packing' if cache.layers[0].packed_tokens > packed else 'steady'}", waits)


def ordinary(model: Any, waits: Waits) -> None:
    cache = OscarCache(model.config, SETTINGS)
    model(input_ids=tokens(2, 4 + 16 + 32 + 30), past_key_values=cache)  # a block packed, two tokens from another
    for _ in range(4):
        decode(model, cache, waits, "ordinary")
    for row, fewer in zip(cache.layers[0].rows, (0, 3), strict=True):
        row.exact -= fewer  # as if a row had begun with padding
    for layer in cache.layers[1:]:
        layer.rows[1].exact -= 3
    decode(model, cache, waits, "ragged")
    decode(model, cache, waits, "ragged")
    decode(model, cache, waits, "mask", torch.ones(2, cache.get_seq_length() + 1, dtype=torch.int64, device=DEVICE))


def static(model: Any, waits: Waits) -> None:
    cache = OscarCache(model.config, SETTINGS)
    model(input_ids=tokens(2, 4 + 16 + 32 + 30), past_key_values=cache)
    decoding = GraphedDecode(model, cache, capture=False)
    for _ in range(4):
        packed = cache.layers[0].packed_tokens
        waits.found.clear()
        decoding.step(tokens(2, 1))
        report(f"static, {'packing' if cache.layers[0].packed_tokens > packed else 'steady'}", waits)


def chosen(waits: Waits) -> None:
    """A row's next token, chosen as by generate(graphed=True) with usual settings."""
    ends, settings = torch.full((1,), 2, device=DEVICE), GenerationConfig(do_sample=True)
    settings._pad_token_tensor = torch.full((), 0, device=DEVICE)
    processors = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(5), TopPLogitsWarper(0.9)])
    criteria = StoppingCriteriaList([MaxLengthCriteria(99), EosTokenCriteria(ends)])
    text = GeneratedText(tokens(2, 10), processors, criteria, settings, None)
    waits.found.clear()
    text.add(torch.zeros(2, 30, device=DEVICE))
    report("chosen", waits)


def blocking(model: Any, waits: Waits) -> None:
    """The same with numbers from pageable memory: that the counting finds it."""
    cache = OscarCache(model.config, SETTINGS)
    model(input_ids=tokens(2, 60), past_key_values=cache)
    tables.pinned = lambda tensor, device: tensor
    decode(model, cache, waits, "pageable")


def main() -> None:
    _setup_privateuseone_for_python_backend(DEVICE)
    triton_support.refusal_of_device = lambda device: None
    tables.pinned = pinned
    graphed_decode._addresses = lambda layers, numbers: ()
    with FakeTensorMode(), Waits() as waits, torch.no_grad():
        model = tiny_model()
        print(f"layers: {model.config.num_hidden_layers}")
        ordinary(model, waits)
        static(model, waits)
        chosen(waits)
        blocking(model, waits)


if __name__ == "__main__":
    main()
