"""Settings for a budget, or for a KL that must not be exceeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..cache_settings import CacheSettings
from ..profile import Measured
from .choose import Option, choose, pareto
from .divergence import measure
from .recording import Recording

if TYPE_CHECKING:
    from ..model import OscarModel

# halvings of the range in which the budget for a KL target is sought; a measurement each
HALVINGS = 8
# of a KL target, what is sought on the sequences measured on: on other data KL was up to 1.4 times as high
# (docs/calibration.md)
SOUGHT = 0.8


class Search:
    """Settings for budgets, and what they measure."""

    def __init__(
        self, model: OscarModel, recordings: list[Recording], options: Mapping[int, Sequence[Option]], tokens: int
    ) -> None:
        self.model = model
        self.recordings = recordings
        self.tokens = tokens
        self.layers = list(options)
        self.fronts = [pareto(options[layer]) for layer in self.layers]

    def under(self, budget: float) -> tuple[CacheSettings, Measured]:
        """The best settings by estimate under a number of bits an element."""
        chosen = choose(self.fronts, budget)
        own = {layer: option.settings for layer, option in zip(self.layers, chosen, strict=True)}
        settings = CacheSettings(self.model.config, own)
        return settings, measure(self.model, self.recordings, settings, self.model.key_biases, self.tokens)

    def reach(self, target: float) -> tuple[CacheSettings, Measured]:
        """The fewest bits whose measured KL is within the target, by bisection.

        Raises:
            ValueError: no budget is enough.
        """
        low, high = (sum(front[at].bits for front in self.fronts) for at in (0, -1))
        best = self.under(high)
        if best[1].kl > target:
            raise ValueError(
                f"kl_target={target / SOUGHT:.4g} cannot be met: at {high:.2f} bits an element the KL is "
                f"{best[1].kl:.4f} and {SOUGHT} of the target is sought; "
                "allow more bits among the candidates"
            )
        for _ in range(HALVINGS):
            # KL falls about fourfold a bit, so most of the range is far below any useful target
            middle = (low + high) / 2
            found = self.under(middle)
            if found[1].kl <= target:
                best, high = found, middle
            else:
                low = middle
        return best
