"""The share of a post-RoPE key that is the key projection's bias: known from the weights, so it need not be stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class KeyBias:
    """A key-projection bias and the rotary embedding that is applied to it.

    Attributes:
        bias: [num_key_value_heads, head_dim], any floating dtype.
        inv_freq: [rotary_dim / 2], the rotary embedding's inverse frequencies; channels from rotary_dim on do not turn.
        attention_scaling: factor that the rotary embedding puts on cos and sin.
        axes: int64 [rotary_dim / 2], which of several positions turns each frequency (multimodal rotary embeddings);
            None where a token has one position.
    """

    bias: torch.Tensor
    inv_freq: torch.Tensor
    attention_scaling: float = 1.0
    axes: torch.Tensor | None = None

    def rotated(self, positions: torch.Tensor) -> torch.Tensor:
        """The bias as it stands in keys at these positions.

        Args:
            positions: integers [...].

        Returns:
            fp32 [..., num_key_value_heads, head_dim].
        """
        return self._turned(positions[..., None])

    def placed(self, positions: torch.Tensor) -> torch.Tensor:
        """The bias as it stands in keys placed on several axes.

        Args:
            positions: integers [axes, ...].

        Returns:
            fp32 [..., num_key_value_heads, head_dim].
        """
        return self._turned(self._by_frequency(positions))

    def scores(self, query: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Products of queries with the bias as it stands in keys, without making those keys.

        The bias is folded into the queries: what is as long as the tokens are cosines and sines, which heads share.

        Args:
            query: floating point [batch, num_key_value_heads, rows, head_dim].
            positions: integers [batch, tokens], or [axes, batch, tokens] of keys placed on several axes.

        Returns:
            fp32 [batch, num_key_value_heads, rows, tokens].
        """
        turns = positions[..., None] if positions.ndim == 2 else self._by_frequency(positions)
        (q1, q2, q_rest), (b1, b2, b_rest) = self._split(query.float()), self._split(self.bias.float()[:, None])
        folded = torch.cat([q1 * b1 + q2 * b2, q2 * b1 - q1 * b2], dim=-1)
        angles = self._angles(turns)
        waves = torch.cat([angles.cos(), angles.sin_()], dim=-1)
        folded = folded.flatten(1, 2) * self.attention_scaling
        scores = (folded @ waves.transpose(1, 2)).unflatten(1, query.shape[1:3])
        return scores.add_((q_rest * b_rest).sum(-1, keepdim=True))

    def _by_frequency(self, positions: torch.Tensor) -> torch.Tensor:
        """positions [axes, ...] to those that turn each frequency, [..., rotary_dim / 2 or 1]."""
        return positions[0][..., None] if self.axes is None else positions.movedim(0, -1)[..., self.axes]

    def _angles(self, positions: torch.Tensor) -> torch.Tensor:
        """[..., rotary_dim / 2] at positions [..., rotary_dim / 2 or 1]."""
        # fp32 angles, as transformers' rotary embeddings compute them: what was added is what is taken out
        return positions.float() * self.inv_freq.float()

    def _split(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Channels that turn as first and second of a pair, and those that do not turn."""
        half = len(self.inv_freq)
        return channels[..., :half], channels[..., half : 2 * half], channels[..., 2 * half :]

    def _turned(self, positions: torch.Tensor) -> torch.Tensor:
        """positions [..., rotary_dim / 2 or 1]."""
        angles = self._angles(positions)[..., None, :]
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        first, second, rest = self._split(self.bias.float())
        turned = [first * cos - second * sin, second * cos + first * sin]
        return torch.cat([*turned, rest.expand(*turned[0].shape[:-1], -1)], dim=-1)

    def to(self, device: torch.device) -> KeyBias:
        """The same on another device."""
        axes = None if self.axes is None else self.axes.to(device)
        return KeyBias(self.bias.to(device), self.inv_freq.to(device), self.attention_scaling, axes)
