"""llama.cpp's quantized caches on the CPU, where the package llama-cpp-python is installed."""

from __future__ import annotations

import statistics
import time
from importlib import import_module
from importlib.util import find_spec

import torch

from .end_to_end import OP, TokensRow

# numbers of ggml's types; a quantized cache of values needs flash attention
CACHE_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}
WARM_UPS = 3


def has_llama_cpp() -> bool:
    """Whether llama-cpp-python is installed."""
    return find_spec("llama_cpp") is not None


def time_llama_cpp(path: str, name: str, tokens: list[int], steps: int) -> list[TokensRow]:
    """Decoding steps of a GGUF model with each type of cache, as many threads as torch has.

    Args:
        path: the .gguf file; its weights stay quantized, which torch's are not: compare a row with its own f16 row.
        name: of the model.
        tokens: the context; token ids of the model's vocabulary.

    Raises:
        ImportError: llama-cpp-python is not installed.
        ValueError: a file that llama.cpp does not read.
    """
    library = import_module("llama_cpp")
    rows: list[TokensRow] = []
    for kind, number in CACHE_TYPES.items():
        model = library.Llama(
            model_path=path,
            n_ctx=len(tokens) + WARM_UPS + steps + 1,
            n_threads=torch.get_num_threads(),
            n_gpu_layers=0,
            flash_attn=True,
            type_k=number,
            type_v=number,
            verbose=False,
        )
        model.eval(tokens)
        times = []
        for _ in range(WARM_UPS + steps):
            start = time.perf_counter()
            model.eval([tokens[-1]])
            times.append(1e3 * (time.perf_counter() - start))
        model.close()
        ms = statistics.median(times[WARM_UPS:])
        rows.append(
            TokensRow(
                op=OP,
                backend=f"llama.cpp {kind}",
                device="cpu",
                dtype=kind,
                shape=name,
                context=len(tokens),
                batch=1,
                weights="trained",
                ms=ms,
                slowest_ms=max(times[WARM_UPS:]),
                tokens_per_s=1e3 / ms,
                cache_bytes=None,
                ratio_to_full=rows[0].ms / ms if rows else 1.0,
            )
        )
    return rows
