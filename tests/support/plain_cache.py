"""A plain model of one layer's cache: lists of tokens, a row at a time, nothing shared and nothing in place.

A token is fp32 [2, num_key_value_heads, head_dim], its key and its value as attention reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from oscar_x import OscarConfig
from oscar_x.cache import OscarCache
from oscar_x.compressor import Compressor
from oscar_x.kernels.key_bias import KeyBias


@dataclass
class PlainRow:
    """What one sequence holds: sinks, then blocks (already dequantized), then the residual window."""

    settings: OscarConfig
    key_bias: KeyBias | None = None
    columns: int = 0
    places: list[int] = field(default_factory=list)
    sinks: list[Tensor] = field(default_factory=list)
    blocks: list[list[Tensor]] = field(default_factory=list)
    residual: list[Tensor] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    own_sinks: int | None = None

    @property
    def sink_tokens(self) -> int:
        return self.settings.sink_tokens if self.own_sinks is None else self.own_sinks

    def copy(self) -> PlainRow:
        lists = {name: list(getattr(self, name)) for name in ("places", "sinks", "residual", "kinds")}
        return replace(self, blocks=[list(block) for block in self.blocks], **lists)

    @property
    def packed(self) -> list[Tensor]:
        return [token for block in self.blocks for token in block]

    def tokens(self) -> list[Tensor]:
        return [*self.sinks, *self.packed, *self.residual]

    def append(self, tokens: list[Tensor], flags: list[bool], kinds: list[int] | None = None) -> None:
        """New columns; those whose flag is set are the tokens. ``kinds``: the tokens' modalities, text if missing."""
        self.kinds += [0] * len(tokens) if kinds is None else kinds
        self.places += [self.columns + index for index, flag in enumerate(flags) if flag]
        self.columns += len(flags)
        for token in tokens:
            (self.sinks if len(self.sinks) < self.sink_tokens else self.residual).append(token)

    def pack_due(self) -> None:
        if len(self.residual) >= self.settings.residual_length + self.settings.block_size:
            self.pack(self.settings.residual_length)

    def pack(self, keep: int, partial: bool = False, split: bool = False) -> None:
        """Blocks while `keep` tokens stay behind, whole ones or up to where modalities meet; a last short one if asked
        for."""
        edges = self._edges() if split else []
        while len(self.residual) > keep:
            at = len(self.places) - len(self.residual)
            size = min([self.settings.block_size, *(edge - at for edge in edges if edge > at)])
            if size > len(self.residual) - keep:
                if not partial:
                    break
                size = len(self.residual) - keep
            block, self.residual = self.residual[:size], self.residual[size:]
            self.blocks.append(self._quantized(block))

    def _edges(self) -> list[int]:
        """Tokens before which another modality begins among those that wait; short runs belong to their neighbours."""
        if self.settings.split_ratio is None:
            return []
        runs: list[list[int]] = []
        for kind, run in groupby(self.kinds[len(self.places) - len(self.residual) :]):
            length = len(list(run))
            short = [one < self.settings.modality_split_run for one in (runs[-1][1] if runs else 0, length)]
            if runs and (short[1] or short[0] or runs[-1][0] == kind):
                # the longer-lived name: only a first run that was too short takes that of what follows
                runs[-1] = [kind if short[0] else runs[-1][0], runs[-1][1] + length]
            else:
                runs.append([kind, length])
        edges, at = [], len(self.places) - len(self.residual)
        for _, length in runs[:-1]:
            at += length
            edges.append(at)
        return edges

    def _quantized(self, block: list[Tensor]) -> list[Tensor]:
        """One block, compressed by itself and read back; the last token fills a short one up."""
        states = torch.stack(block, 2)
        first = self.sink_tokens + len(self.packed)
        bias = torch.zeros_like(states[0])
        if self.key_bias is not None:
            bias = self.key_bias.rotated(torch.arange(first, first + len(block))).transpose(0, 1)
        short = self.settings.block_size - len(block)
        keys, values = (torch.cat([x, x[:, -1:].expand(-1, short, -1)], 1)[None] for x in (states[0] - bias, states[1]))
        compressor = Compressor(self.settings, keys.shape[1], keys.shape[3])
        keys, values = (x[0, :, : len(block)] for x in compressor.decompress(compressor.compress(keys, values)))
        return list(torch.stack([keys + bias, values]).unbind(2))

    @staticmethod
    def _leading_sinks(tokens: list[Tensor]) -> int:
        """Up to the last of the first 8 tokens that has a key of less than half or more than twice the median norm."""
        norms = torch.stack([token[0].float().norm(dim=-1) for token in tokens])
        middle = max(0, (len(tokens) - 256) // 2)
        ratios = norms[:8] / norms[middle : middle + 256].median(0).values
        return max([index + 1 for index, ratio in enumerate(ratios) if ((ratio < 0.5) | (ratio > 2)).any()], default=0)

    def crop(self, columns: int) -> None:
        self.columns -= columns
        keep = sum(place < self.columns for place in self.places)
        for _ in range(len(self.places) - keep):
            if self.residual:
                self.residual.pop()
            elif self.blocks:
                self.blocks[-1].pop()
                self.blocks = [block for block in self.blocks if block]
            else:
                self.sinks.pop()
        self.places, self.kinds = self.places[:keep], self.kinds[:keep]

    def attend(self, query: Tensor, tokens: list[Tensor], scaling: float) -> Tensor:
        """query [num_attention_heads, head_dim] over these tokens -> the same shape, by the textbook formula."""
        states = torch.stack(tokens, 2).double()
        group = query.shape[0] // states.shape[1]
        keys, values = (part.repeat_interleave(group, 0) for part in states)
        scores = torch.einsum("hd,htd->ht", query.double(), keys) * scaling
        return torch.einsum("ht,htd->hd", scores.softmax(-1), values).float()

    def forward(
        self, queries: Tensor, new: list[Tensor], flags: list[bool], scaling: float, kinds: list[int] | None = None
    ) -> dict[int, Tensor]:
        """A forward pass of len(flags) columns, queries [num_attention_heads, columns, head_dim]; returns the output
        of each column that is a token."""
        self.pack_due()
        at = [index for index, flag in enumerate(flags) if flag]
        prompt = len(new) > max(1, self.settings.residual_length)
        outputs, view = {}, self.copy()
        for rank, column in enumerate(at):
            if prompt:
                seen = [*self.tokens(), *new[: rank + 1]]
            else:
                view.pack_due()
                view.append([new[rank]], [True])
                seen = view.tokens()
            outputs[column] = self.attend(queries[:, column], seen, scaling)
        if prompt and self.settings.online and not self.places:
            self.own_sinks = self._leading_sinks(new)
        self.append(new, flags, kinds)
        if prompt:
            self.pack(self.settings.residual_length, split=True)
        return outputs


def storage_bytes(cache: OscarCache) -> int:
    """Bytes of every storage that can be reached from a cache, each counted once; key biases belong to the model."""
    storages: dict[int, int] = {}
    seen: set[int] = set()

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif id(value) in seen or isinstance(value, KeyBias):
            return
        elif isinstance(value, dict | list | tuple | set):
            seen.add(id(value))
            for item in value.values() if isinstance(value, dict) else value:
                walk(item)
        elif type(value).__module__.startswith(("oscar_x", "transformers.cache_utils")):
            seen.add(id(value))
            walk(vars(value))

    walk(cache)
    return sum(storages.values())
