"""Profiles: what calibration chose for a model, where that came from, and what it measured. docs/calibration.md."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from .cache.plan import plan_layers
from .cache.serialize import model_signature
from .cache_settings import CacheSettings
from .errors import OscarError, first_line
from .weights import in_words, same_weights, weight_difference

logger = logging.getLogger(__name__)

FORMAT = "oscar_x profile"
PROFILE_VERSION = 2
UNSAMPLED_VERSION = 1  # without samples of weights


class ProfileError(OscarError, ValueError):
    """The file is no profile that this version reads, or one for another model."""


@dataclass(frozen=True)
class Measured:
    """What settings cost on the calibration data.

    Attributes:
        bits_per_element: of keys and values of the compressed layers, exact tokens at the start counted.
        kl: mean KL(full cache || compressed cache) of the next token, in nats.
    """

    bits_per_element: float
    kl: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ProfileError(f"{name} is {value!r}, not a number")


@dataclass(frozen=True)
class Profile:
    """Settings by layer, with their provenance.

    Attributes:
        settings: what a cache is made with.
        signature: of the model's config (OscarCache.save writes the same); weights are not part of it.
        weights: samples of its weights (oscar_x.weights); empty where they are not known, and then not compared.
        model_type: as transformers names it, for people.
        data_hash: of the token ids that calibration read.
        library_version: of oscar_x.
        date: of calibration, ISO 8601.
        target: what was asked for, {"bits_budget": ...} or {"kl_target": ...}.
        before, after: measured with the settings calibrated from and with these, on sequences of the calibration data
            that were not chosen from where there are at least three.
    """

    settings: CacheSettings
    signature: str
    model_type: str
    data_hash: str
    library_version: str
    date: str
    target: Mapping[str, float]
    before: Measured
    after: Measured
    weights: str = ""

    def check(self, config: PreTrainedConfig) -> None:
        """Refuse another model's profile.

        Raises:
            ProfileError: names both models.
        """
        found = model_signature(config)
        if found != self.signature:
            theirs = config.get_text_config(decoder=True).model_type
            raise ProfileError(
                f"the profile was made for another model ({self.model_type}, signature {self.signature}; this one is "
                f"{theirs}, {found}); calibrate this one, or leave profile out"
            )
        try:
            plan_layers(config, self.settings)
        except ValueError as error:
            raise ProfileError(f"the profile does not fit its model: {error}") from error

    def compare_weights(self, found: str) -> None:
        """Warn of a profile of another fine-tuning or quantization of the model.

        It is no error: settings of one fine-tuning make sound caches for another, only not the best.

        Args:
            found: samples of the loaded model's weights.
        """
        if not same_weights(self.weights, found):
            logger.warning(
                "the profile was made for other weights of this architecture (%s): its settings are used, but need not "
                "be the best for these, and what it measured does not hold for them; calibrate this model for its own",
                in_words(weight_difference(self.weights, found)),
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {
            "version": PROFILE_VERSION,
            "settings": self.settings.to_dict(),
            "target": dict(self.target),
            "before": asdict(self.before),
            "after": asdict(self.after),
        }

    @classmethod
    def from_dict(cls, plain: Any) -> Profile:
        """What to_dict() gave.

        Raises:
            ProfileError: something else, or of another version.
        """
        if not isinstance(plain, dict) or "version" not in plain:
            raise ProfileError("not a profile")
        if plain["version"] not in (UNSAMPLED_VERSION, PROFILE_VERSION):
            raise ProfileError(
                f"profile version {plain['version']!r}; this version reads {UNSAMPLED_VERSION} and {PROFILE_VERSION}"
            )
        held = {name: value for name, value in plain.items() if name != "version"}
        if plain["version"] == UNSAMPLED_VERSION:
            held.setdefault("weights", "")
        wrong = set(held) ^ {field.name for field in fields(cls)}
        if wrong:
            raise ProfileError(f"the profile has other fields than expected ({', '.join(sorted(wrong))})")
        for name in ("signature", "model_type", "data_hash", "library_version", "date", "weights"):
            if not isinstance(held[name], str):
                raise ProfileError(f"{name} is {held[name]!r}, not a text")
        _check_samples(held["weights"])
        if not isinstance(held["target"], dict):
            raise ProfileError(f"target is {held['target']!r}, not an object")
        try:
            return cls(
                **held
                | {
                    "settings": CacheSettings.from_dict(held["settings"]),
                    "before": Measured(**held["before"]),
                    "after": Measured(**held["after"]),
                }
            )
        except ProfileError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ProfileError(f"the profile is damaged: {first_line(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile as JSON, whole or not at all.

        Raises:
            OSError: it cannot be written; a file that was there stays as it was.
        """
        target = Path(path)
        part = target.with_name(target.name + ".part")
        text = json.dumps({"format": FORMAT, **self.to_dict()}, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            part.write_text(text + "\n", encoding="utf-8")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Read what save() wrote.

        Raises:
            FileNotFoundError: no such file.
            ProfileError: no profile, damaged, or of another version.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no profile at {path}")
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
                raise ProfileError("not a profile")
            return cls.from_dict(plain)
        except ProfileError as error:
            raise ProfileError(f"{path}: {error}") from error
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProfileError(f"{path} is damaged or no profile: {first_line(error)}") from error


def _check_samples(weights: str) -> None:
    try:
        weight_difference(weights, weights)
    except ValueError as error:
        raise ProfileError(str(error)) from error


def read_profile(profile: Profile | str | os.PathLike[str] | None) -> Profile | None:
    """The profile itself, or the one in the file.

    Raises:
        TypeError: neither.
        FileNotFoundError, ProfileError: see Profile.load.
    """
    if profile is None or isinstance(profile, Profile):
        return profile
    if isinstance(profile, str | os.PathLike):
        return Profile.load(profile)
    raise TypeError(f"profile is {type(profile).__name__}; give a Profile or the path of a profile file")
