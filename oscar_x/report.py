"""What becomes of each layer's cache, for people and for ``oscar-x info``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .adapters.base import Adapter
from .cache.plan import LayerPlan, plan_layers
from .cache_settings import Settings
from .key_bias_detect import key_bias_ratios


@dataclass(frozen=True)
class LayerReport(LayerPlan):
    """One layer's plan, and what its weights say.

    Attributes:
        key_bias_ratio: largest key-bias norm over the expected norm of the rest of the key; None without a bias.
        key_bias_removed: the bias is taken out before compression and put back exactly.
    """

    key_bias_ratio: float | None = None
    key_bias_removed: bool = False

    def __str__(self) -> str:
        state = "compressed" if self.compressed else "exact"
        line = f"layer {self.index:>3}  {self.layer_type}  {self.num_key_value_heads} x {self.head_dim}  {state}"
        line += f"  {self.bits_per_element:.2f} bits  {self.reason}"
        if self.key_bias_ratio is not None:
            handled = ", taken out" if self.key_bias_removed else ""
            line += f"  key bias {self.key_bias_ratio:.2f}{handled}"
        return line.rstrip()


def layer_reports(model: Any, adapter: Adapter, config: Settings, removed: Collection[int]) -> list[LayerReport]:
    """The plan of every layer of a loaded model, with its key bias; ``removed`` are the layers it is taken out of."""
    ratios = key_bias_ratios(model, adapter)
    return [
        LayerReport(
            **plan.to_dict(),
            key_bias_ratio=ratios.get(plan.index),
            key_bias_removed=plan.compressed and plan.index in removed,
        )
        for plan in plan_layers(model.config, config)
    ]
