"""One layer's packed cache of random states, built without a dense one, and the decoding step that reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ...compressor import block_layout
from ...config import OscarConfig
from ...kernels.composite import Layout
from ...kernels.compress import compress_blocks
from ...kernels.decode_attention import joint_attention
from ...kernels.key_bias import KeyBias
from .shapes import Shape

DISTINCT_BLOCKS = 32  # compressed once and repeated: kernels read every record, whatever it holds


@dataclass(frozen=True)
class PackedCase:
    """A layer's cache and a query.

    Attributes:
        query: [batch, num_key_value_heads, query heads of a KV head, head_dim].
        records, table, lengths, layout: packed blocks, as kernels take them.
        keys, values: exact tokens, sinks and residual window, [batch, num_key_value_heads, tokens, head_dim].
        key_bias, positions: a bias that was taken out of the packed keys, and the position of each block's first token.
    """

    query: torch.Tensor
    records: torch.Tensor
    table: torch.Tensor
    lengths: torch.Tensor
    layout: Layout
    keys: torch.Tensor
    values: torch.Tensor
    key_bias: KeyBias | None = None
    positions: torch.Tensor | None = None

    @property
    def read_bytes(self) -> int:
        """Bytes that a step must read: every record, exact tokens, query; and the fp32 output that it writes."""
        read = (self.records, self.table, self.lengths, self.keys, self.values, self.query)
        return sum(tensor.nbytes for tensor in read) + 4 * self.query.numel()

    def attend(self, backend: str) -> torch.Tensor:
        """The step: [batch, num_key_value_heads, query heads of a KV head, head_dim], fp32."""
        packed = self.query, self.records, self.table, self.lengths, self.layout
        scaling, bias = self.layout.head_dim**-0.5, (self.key_bias, self.positions)
        if not self.table.shape[1]:
            raise ValueError("a context that fills no block has nothing packed to read")
        return joint_attention(*packed, scaling, self.keys, self.values, None, None, *bias, backend=backend)[0]


def packed_blocks(settings: OscarConfig, context: int) -> int:
    """Whole blocks of a sequence after a prompt of this many tokens."""
    return max(0, context - settings.sink_tokens - settings.residual_length) // settings.block_size


def least_context(settings: OscarConfig) -> int:
    """Tokens from which on a prompt has a packed block."""
    return settings.sink_tokens + settings.residual_length + settings.block_size


def packed_bytes(shape: Shape, settings: OscarConfig, context: int, batch: int, dtype: torch.dtype) -> int:
    """Bytes of a case, known before it is built."""
    layout, blocks = block_layout(settings, shape.key_value_heads, shape.head_dim), packed_blocks(settings, context)
    exact = context - blocks * settings.block_size
    return batch * (blocks * (layout.record_bytes + 16) + shape.full_bytes(exact, dtype.itemsize))


def packed_case(
    shape: Shape,
    settings: OscarConfig,
    context: int,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    with_bias: bool = False,
) -> PackedCase:
    """A layer's cache after a prompt of `context` random tokens.

    Args:
        with_bias: as if a bias of the key projection had been taken out of the keys, which attention then adds again.

    Raises:
        ValueError: a context that fills no block.
    """
    blocks = packed_blocks(settings, context)
    if not blocks:
        raise ValueError(f"context={context} fills no block; use at least {least_context(settings)}")
    layout = block_layout(settings, shape.key_value_heads, shape.head_dim)
    total = batch * blocks
    sizes = min(DISTINCT_BLOCKS, total), shape.key_value_heads, settings.block_size, shape.head_dim
    drawn = [torch.randn(sizes, dtype=dtype, device=device) for _ in range(2)]
    compressed = compress_blocks(drawn[0], drawn[1], layout)
    records = compressed.repeat(-(-total // len(compressed)), 1)[:total].contiguous()
    exact = context - blocks * settings.block_size
    keys, values = (
        torch.randn(batch, shape.key_value_heads, exact, shape.head_dim, dtype=dtype, device=device) for _ in range(2)
    )
    group = shape.query_heads // shape.key_value_heads
    bias = random_bias(shape, device) if with_bias else None
    starts = settings.sink_tokens + settings.block_size * torch.arange(blocks, device=device)
    return PackedCase(
        query=torch.randn(batch, shape.key_value_heads, group, shape.head_dim, dtype=dtype, device=device),
        records=records,
        table=torch.arange(total, device=device).view(batch, blocks),
        lengths=torch.full((batch, blocks), settings.block_size, device=device),
        layout=layout,
        keys=keys,
        values=values,
        key_bias=bias,
        positions=None if bias is None else starts.expand(batch, blocks).contiguous(),
    )


def random_bias(shape: Shape, device: torch.device) -> KeyBias:
    """A bias under a rotary embedding over all channels, of base 1e6 as Qwen2.5's."""
    bias = torch.randn(shape.key_value_heads, shape.head_dim, device=device)
    exponents = torch.arange(0, shape.head_dim, 2, device=device) / shape.head_dim
    return KeyBias(bias, 1e6**-exponents)


def spot_check(
    shape: Shape,
    settings: OscarConfig,
    context: int,
    dtype: torch.dtype,
    device: torch.device,
    backend: str,
    with_bias: bool = False,
) -> float:
    """Relative error of a backend against plain torch in fp32 on the CPU, on the same records."""
    case = packed_case(shape, settings, context, 2, dtype, device, with_bias)
    tensors = ("query", "records", "table", "lengths", "keys", "values")
    plain = replace(case, **{name: getattr(case, name).cpu() for name in tensors})
    if case.key_bias is not None and case.positions is not None:
        plain = replace(plain, key_bias=case.key_bias.to(torch.device("cpu")), positions=case.positions.cpu())
    expected = replace(plain, query=plain.query.float()).attend("reference")
    found = case.attend(backend).cpu()
    if not found.isfinite().all():
        return float("nan")
    return float((found - expected).norm() / expected.norm())
