"""Attention over packed blocks and exact tokens: every backend over every accepted parameter, on the same records.

Each is compared with softmax attention in fp64 over the states that the codes stand for, and with every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, resolve_config
from oscar_x.kernels.decode_attention.cpu_features import available_sets, reads
from oscar_x.kernels.decode_attention.triton_sizes import refusal
from oscar_x.kernels.layout import BlockLayout
from oscar_x.kernels.triton_support import has_triton

BITS = (1, 2, 3, 4, 8)
GROUP_SIZES = (8, 16, 32, 64, 128, 256)
SCALE_BITS = (16, 8, 6, 4, 3, 2)
HEAD_DIMS = (64, 80, 96, 128, 256)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SMALL = {"block_size": 32, "value_scale_rows": 16}
VARIANTS: tuple[dict[str, Any], ...] = (
    {"value_grouping": "per_channel"},
    {"value_grouping": "per_channel", "value_bits": 3, "scale_bits": 16},
    {"token_norm": "none"},
    {"token_norm": "per_head"},
    {"token_norm": "shared", "norm_bits": 8},
    {"token_norm": "shared", "norm_bits": 16},
    {"norm_bits": 16},
    {"rotate_keys": False},
    {"rotate_values": False},
    {"rotate_keys": False, "rotate_values": False},
    {"block_size": 16, "value_scale_rows": 16},
    {"key_bits": 1, "value_bits": 1, "block_size": 16, "value_scale_rows": 16},
    {"block_size": 32},
    {"block_size": 48, "key_group_size": 8, "value_scale_rows": 16},
    {"block_size": 256},
    {"value_scale_rows": 8},
)


def short(value: Any) -> str:
    return str(value).removeprefix("torch.")


def over(cases: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    """Each case (the fields of attention_case.Case) with each backend that takes its layout, one after the other."""
    names = "reference", "auto", *available_sets(), *(["triton"] if has_triton() else [])
    parameters = []
    for name, case in cases.items():
        layout = block_layout(case.get("config", PRESETS["balanced"]), 1, case.get("head_dim", 64))
        assert isinstance(layout, BlockLayout)
        parameters += [
            pytest.param(case, backend, id=f"{name}-{backend}") for backend in names if takes(backend, layout)
        ]
    return pytest.mark.parametrize(("case", "backend"), parameters)


def takes(backend: str, layout: BlockLayout) -> bool:
    if backend == "triton":
        return refusal(layout) is None
    return backend in ("reference", "auto") or reads(backend, layout)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps this small wait for a second thread longer than it takes off the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def compare(support) -> Callable[[dict[str, Any], str], None]:
    attention = support("attention_case")
    return lambda case, backend: attention.compare(attention.Case(**case), backend)


@over(
    {
        f"{keys}-{values}-{name}": {"config": resolve_config(key_bits=keys, value_bits=values, **sizes), "heads": heads}
        for keys in BITS
        for values in BITS
        for name, heads, sizes in (("blocks of 128", 2, {}), ("blocks of 32", 1, SMALL))
    }
)
def test_bits(compare, case: dict, backend: str) -> None:
    compare(case, backend)


def groups(size: int, scale_bits: int = 4, **others: Any) -> dict[str, Any]:
    sizes = {"key_group_size": size, "value_group_size": size, "scale_bits": scale_bits}
    return {"config": resolve_config(**sizes, **others)}


@over(
    {f"{size}-{bits}": groups(size, bits) for size in GROUP_SIZES for bits in SCALE_BITS}
    | {f"{n}-{bits}-blocks of 32": groups(n, bits, **SMALL) | {"heads": 1} for n in (8, 16, 32) for bits in SCALE_BITS}
    | {f"{n}-one group": groups(n, block_size=n) | {"head_dim": 128, "lengths": ((-3,),)} for n in (64, 128, 256)}
)
def test_groups_and_scales(compare, case: dict, backend: str) -> None:
    compare(case, backend)


@over(
    {
        f"{n}-{short(dtype)}-{name}": {"config": config, "head_dim": n, "dtype": dtype, "heads": heads}
        for n in HEAD_DIMS
        for dtype in DTYPES
        for name, heads, config in (
            *((preset, 1 if dtype == torch.float16 else 2, config) for preset, config in PRESETS.items()),
            ("blocks of 32", 1, resolve_config(**SMALL)),
        )
    }
    | {f"40-{preset}": {"config": config, "head_dim": 40} for preset, config in PRESETS.items()}
)
def test_head_dims_and_dtypes(compare, case: dict, backend: str) -> None:
    compare(case, backend)


# query heads a KV head, and query tokens
@over(
    {
        f"{heads}x{tokens}-{short(dtype)}": {"rows": heads * tokens, "dtype": dtype, "lengths": ((-3, 17),), "heads": 1}
        for heads, tokens in (*((heads, 1) for heads in range(1, 17)), (1, 17), (1, 31), (2, 16), (3, 11), (8, 5))
        for dtype in (torch.float32, torch.bfloat16)
    }
    | {
        f"{heads}x{tokens}-{short(dtype)}-{n}": {
            "rows": heads * tokens,
            "dtype": dtype,
            "lengths": ((-1,),),
            "heads": 1,
            "head_dim": n,
        }
        for heads, tokens, dtype, n in (
            (1, 1, torch.float16, 128),
            (1, 64, torch.float32, 64),
            (7, 10, torch.float16, 256),
            (5, 60, torch.float16, 64),
            (16, 64, torch.bfloat16, 64),
        )
    }
    | {"1000": {"rows": 1000, "lengths": ((None, 0), (5, -1)), "heads": 1}}
)
def test_query_rows(compare, case: dict, backend: str) -> None:
    compare(case, backend)


@over(
    {
        f"{changes}-{short(dtype)}-{name}": {
            "config": resolve_config(**{**sizes, **changes}),
            "dtype": dtype,
            "rows": 3,
            "heads": 2 if changes.get("token_norm") == "shared" else 1,
        }
        for changes in VARIANTS
        for dtype in DTYPES[::2]
        for name, sizes in (("alone", {}), ("blocks of 32", SMALL))
        if not (sizes and {"block_size", "value_scale_rows"} & changes.keys())
    }
)
def test_variants(compare, case: dict, backend: str) -> None:
    compare(case, backend)


@over(
    {
        f"{name}-{short(dtype)}-{'alone' if exact is None else f'{exact[0]} exact'}": {
            "config": resolve_config(**SMALL),
            "lengths": lengths,
            "dtype": dtype,
            "exact": exact,
            "heads": 1,
        }
        for name, lengths in {
            "0": ((0, 0),),
            "1": ((1, 0),),
            "block - 1": ((-1, 0),),
            "block": ((None, 0),),
            "block + 1": ((None, 1),),
        }.items()
        for dtype in DTYPES
        for exact in (None, (6,))
    }
)
def test_tokens_about_a_block(compare, case: dict, backend: str) -> None:
    compare(case, backend)


@over(
    {
        f"{name}-{preset}-{'alone' if exact is None else exact}": {
            "config": PRESETS[preset],
            "lengths": lengths,
            "exact": exact,
            "dtype": dtype,
            "rows": 3,
        }
        for preset, dtype in (("balanced", torch.bfloat16), ("paper", torch.float32))
        for name, lengths in {
            "an empty row": ((None, 0, 5), (0, 0, 0), (-1, None, 1)),
            "holes": ((0, 1, None), (-1, 0, 5), (0, 0, -3)),
        }.items()
        for exact in (None, (9, 0, 4), (0, 0, 0))
    }
)
def test_ragged_rows(compare, case: dict, backend: str) -> None:
    compare(case, backend)


def exact(*counts: int, **others: Any) -> dict[str, Any]:
    """A case with exact tokens, as sinks and the residual window are, and three blocks a row."""
    return {"exact": counts, "lengths": ((None, 1, -1), (None, 0, 5), (-3, None, 0))[: len(counts)], **others}


@over(
    {f"{n}-{short(dtype)}": exact(n, dtype=dtype, heads=1) for n in (1, 5, 127, 128, 129, 132, 300) for dtype in DTYPES}
    | {
        f"{n} {n // 2} 0-{short(dtype)}-{head_dim}": exact(
            n, n // 2, 0, config=resolve_config(**SMALL), dtype=dtype, head_dim=head_dim, rows=5, heads=1
        )
        for n in (1, 32, 33, 530)
        for dtype in DTYPES
        for head_dim in (64, 80)
    }
    | {f"30 1 17-{short(dtype)}": exact(30, 1, 17, dtype=dtype) for dtype in DTYPES}
    | {
        f"40-{n}-{rows} rows": exact(40, head_dim=n, rows=rows, dtype=torch.bfloat16, heads=1)
        for n in (64, 80, 128, 256)
        for rows in (1, 3, 16, 32)
    }
    | {f"40-{preset}": exact(40, config=config) for preset, config in PRESETS.items()}
    | {
        f"40-{preset}-no rotation": exact(40, config=resolve_config(preset, rotate_keys=False, rotate_values=False))
        for preset in PRESETS
    }
)
def test_exact_tokens(compare, case: dict, backend: str) -> None:
    compare(case, backend)


@over(
    {
        f"{preset}-{mask}-{'alone' if exact is None else exact}-{short(dtype)}": {
            "config": PRESETS[preset],
            "rows": 3,
            "mask": mask,
            "exact": exact,
            "dtype": dtype,
        }
        for preset, dtype in (("balanced", torch.float32), ("balanced", torch.bfloat16), ("max", torch.float16))
        for mask in ("one", "rows")
        for exact in (None, (20, 7))
    }
    | {
        f"{blocks} blocks-{rows} rows": {
            "config": resolve_config(**SMALL),
            "lengths": ((None,) * blocks, (-3,) * blocks),
            "exact": (37, 37),
            "mask": "one",
            "rows": rows,
            "heads": 1,
        }
        for blocks in (1, 5)
        for rows in (2, 300)
    }
)
def test_masks(compare, case: dict, backend: str) -> None:
    compare(case, backend)
