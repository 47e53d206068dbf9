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
        return self._turned(positions[..., None].float())

    def placed(self, positions: torch.Tensor) -> torch.Tensor:
        """The bias as it stands in keys placed on several axes.

        Args:
            positions: integers [axes, ...].

        Returns:
            fp32 [..., num_key_value_heads, head_dim].
        """
        if self.axes is None:
            return self.rotated(positions[0])
        return self._turned(positions.movedim(0, -1)[..., self.axes].float())

    def _turned(self, positions: torch.Tensor) -> torch.Tensor:
        """positions [..., rotary_dim / 2 or 1]."""
        # fp32 angles, as transformers' rotary embeddings compute them: what was added is what is taken out
        angles = (positions * self.inv_freq.float())[..., None, :]
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        bias, half = self.bias.float(), len(self.inv_freq)
        first, second, rest = bias[:, :half], bias[:, half : 2 * half], bias[:, 2 * half :]
        turned = [first * cos - second * sin, second * cos + first * sin]
        return torch.cat([*turned, rest.expand(*turned[0].shape[:-1], -1)], dim=-1)

    def to(self, device: torch.device) -> KeyBias:
        """The same on another device."""
        axes = None if self.axes is None else self.axes.to(device)
        return KeyBias(self.bias.to(device), self.inv_freq.to(device), self.attention_scaling, axes)
