"""The projector in the form in which it is trained, and as the checkpoint holds it.

Features of the vision tower differ in scale by a factor of fifty between channels and are far from independent; on
whitened ones AdamW learns much faster. Whitening is linear, so it is folded into the first layer when training is over.
"""

from __future__ import annotations

import torch
from torch import nn

# share of the mean eigenvalue added to all, so that directions of noise are not blown up
RIDGE = 1e-2


class Projector(nn.Module):
    """Two linear maps with GELU between, FastVLM's, behind a fixed whitening.

    Args:
        features: float [n, channels], from which the whitening is computed.
        hidden_size: of the language model.
    """

    mean: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, features: torch.Tensor, hidden_size: int) -> None:
        super().__init__()
        channels = features.shape[-1]
        mean = features.mean(dim=0)
        covariance = (features - mean).T @ (features - mean) / len(features)
        values, vectors = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", vectors / (values.clamp(min=0) + RIDGE * values.mean()).sqrt())
        self.linear_1 = nn.Linear(channels, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[..., channels] to [..., hidden_size]."""
        whitened = (features - self.mean) @ self.whitening
        return self.linear_2(nn.functional.gelu(self.linear_1(whitened)))

    @torch.no_grad()
    def folded(self) -> dict[str, torch.Tensor]:
        """The state dict of transformers' FastVlmMultiModalProjector, float16."""
        weight = self.linear_1.weight @ self.whitening.T
        state = {
            "linear_1.weight": weight,
            "linear_1.bias": self.linear_1.bias - weight @ self.mean,
            "linear_2.weight": self.linear_2.weight,
            "linear_2.bias": self.linear_2.bias,
        }
        return {name: tensor.half().contiguous() for name, tensor in state.items()}
