"""Compression settings bound to the shape of one attention layer."""

from __future__ import annotations

from dataclasses import replace

import torch

from .config import OscarConfig
from .kernels.composite import Layout, composite_layout
from .kernels.compress import compress_blocks, decompress_blocks
from .kernels.layout import BlockLayout


def block_layout(config: OscarConfig, num_key_value_heads: int, head_dim: int) -> Layout:
    """The packed record of one block for a layer with this many KV heads and channels.

    Raises:
        ValueError: settings for KV heads that the layer does not have.
    """
    ways = head_ways(config, num_key_value_heads)
    layouts = [(heads, plain_layout(way, len(heads), head_dim)) for heads, way in ways]
    return layouts[0][1] if len(layouts) == 1 else composite_layout(layouts)


def head_ways(config: OscarConfig, num_key_value_heads: int) -> list[tuple[tuple[int, ...], OscarConfig]]:
    """The ways in which the KV heads of a layer are stored, heads that are stored alike together.

    Raises:
        ValueError: settings for KV heads that the layer does not have.
    """
    own = replace(config, head_groups=())
    ways = dict.fromkeys(range(num_key_value_heads), own)
    for group in config.head_groups:
        if group.heads[-1] >= num_key_value_heads:
            raise ValueError(
                f"head_groups has settings for KV head {group.heads[-1]}, but the layer has {num_key_value_heads}, "
                f"0 to {num_key_value_heads - 1}"
            )
        ways.update(dict.fromkeys(group.heads, replace(own, **group.changes)))
    alike: dict[OscarConfig, list[int]] = {}
    for head, way in ways.items():
        alike.setdefault(way, []).append(head)
    return [(tuple(heads), way) for way, heads in alike.items()]


def plain_layout(config: OscarConfig, num_key_value_heads: int, head_dim: int) -> BlockLayout:
    """block_layout() where all KV heads are stored alike, whatever head_groups says."""
    return BlockLayout(
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        block_size=config.block_size,
        key_bits=config.key_bits,
        value_bits=config.value_bits,
        key_group_size=config.key_group_size,
        value_group_size=config.value_group_size,
        value_along_tokens=config.value_grouping == "per_channel",
        scale_bits=config.scale_bits,
        value_scale_rows=config.value_scale_rows,
        token_norm=config.token_norm,
        norm_bits=config.norm_bits,
        rotate_keys=config.rotate_keys,
        rotate_values=config.rotate_values,
    )


class Compressor:
    """rotate -> scale by token norm -> quantize -> pack, and the exact inverse of the last three.

    Args:
        config: compression settings; must compress (16 bits is handled by not calling a compressor).
        num_key_value_heads, head_dim: shape of the layer.

    Raises:
        ValueError: config does not compress.
    """

    def __init__(self, config: OscarConfig, num_key_value_heads: int, head_dim: int) -> None:
        if not config.compresses:
            raise ValueError("key_bits=16 and value_bits=16 hold states as they are; there is nothing to compress")
        self.config = config
        self.layout = block_layout(config, num_key_value_heads, head_dim)

    def compress(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        out: torch.Tensor | None = None,
        ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[blocks, num_key_value_heads, block_size, head_dim] twice -> records uint8 [blocks, record_bytes].

        Args:
            out, ids: where to write; see kernels.compress.compress_blocks.

        Raises:
            TypeError, ValueError: wrong dtype or shape, NaN or infinity.
        """
        return compress_blocks(key_states, value_states, self.layout, out, ids, backend=self.config.backend)

    def decompress(self, records: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Records -> un-rotated fp32 keys and values [blocks, num_key_value_heads, block_size, head_dim]."""
        return decompress_blocks(records, self.layout)
