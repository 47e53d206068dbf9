"""What measure_tni() finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

from .attribution import Attribution, attribute
from .distribution import Distribution, merge
from .parts import HeadTni, LayerTni, NormMap, StateTni, TniSettings, mean_error
from .treatments import NONE

REPORT_VERSION = 1


@dataclass(frozen=True)
class TniReport:
    """Token Norm Imbalance of one model on some data.

    Attributes:
        model_type: the family.
        model_signature: of the model's config, as cache files have it.
        data_hash: of the token ids and features that the model was given.
        library_version, date: of the measurement; the date in UTC, ISO 8601.
        sequences: texts and conversations read.
        tokens: how many of each modality entered the statistics.
        settings: how groups were made.
        layers: every layer that hands keys and values to a cache.
        norm_map: for pictures.
        version: of this structure.
    """

    model_type: str
    model_signature: str
    data_hash: str
    library_version: str
    date: str
    sequences: int
    tokens: dict[str, int]
    settings: TniSettings
    layers: tuple[LayerTni, ...]
    norm_map: NormMap
    version: int = REPORT_VERSION

    def heads(self, layer: int | None = None, *, compressed: bool = True) -> Iterator[tuple[LayerTni, HeadTni]]:
        """Every KV head with its layer, of one layer or of all; of compressed layers alone unless asked otherwise."""
        for held in self.layers:
            if layer in (None, held.index) and (held.compressed or not compressed):
                yield from ((held, head) for head in held.heads)

    def states(self, which: str, layer: int | None = None, head: int | None = None) -> list[StateTni]:
        """Keys ("keys") or values ("values") of the compressed layers, of one layer, or of one head."""
        return [getattr(held, which) for _, held in self.heads(layer) if head in (None, held.index)]

    def error(
        self,
        treatments: str = NONE,
        which: str = "keys",
        layer: int | None = None,
        head: int | None = None,
        *,
        measure: str = "energy",
    ) -> float:
        """Error along tokens with a combination of treatments, over all groups; measures are ErrorTni's.

        Raises:
            ValueError: no compressed layer or head of that number.
            KeyError: an unknown combination.
        """
        groups = [group for state in self.states(which, layer, head) for group in state.groups.values()]
        return mean_error(groups, lambda group: group.along_tokens[treatments], measure)

    def attribution(
        self,
        which: str = "keys",
        layer: int | None = None,
        head: int | None = None,
        *,
        measure: str = "energy",
    ) -> dict[str, Attribution]:
        """What each cause adds to the error along tokens, by treatment that removes it (treatments.CAUSES)."""
        return attribute(lambda combination: self.error(combination, which, layer, head, measure=measure))

    def norms(self, which: str = "keys", layer: int | None = None) -> dict[str, Distribution]:
        """Token norms over their head's median, by modality, over the heads of a layer or of all."""
        found: dict[str, list[Distribution]] = {}
        for state in self.states(which, layer):
            for modality, norms in state.norms.items():
                if state.median > 0:
                    found.setdefault(modality, []).append(norms.over(state.median))
        return {modality: merge(parts) for modality, parts in found.items()}

    def findings(self) -> list[str]:
        """The most notable results as sentences with numbers, each begun by "Keys: " or "Values: "."""
        from .findings import findings

        return findings(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; TniReport.from_dict reads them back."""
        from .files import to_plain

        return to_plain(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> TniReport:
        """The report that to_dict() wrote.

        Raises:
            TniFileError: another version, or not a report.
        """
        from .files import from_plain

        return from_plain(plain)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the report as JSON, whole or not at all.

        Raises:
            OSError: the file cannot be written; one that was there stays as it was.
        """
        from .files import save

        save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> TniReport:
        """Read a report that save() wrote.

        Raises:
            FileNotFoundError: no such file.
            TniFileError: not a report, damaged, or of another version.
        """
        from .files import load

        return load(path)
