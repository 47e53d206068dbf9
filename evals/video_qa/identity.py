"""What decides a run's numbers, as JSON types: a run is continued only where all of it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..method import Method
from .questions import Source
from .scoring import AnswerForm

if TYPE_CHECKING:
    from ...model import OscarModel
    from ...profile import Profile

VERSION = 1  # of the records; a run of another version is refused
SAMPLES = 64  # values read of each weight


def run_settings(
    model: OscarModel,
    model_name: str,
    source: Source,
    methods: Sequence[Method],
    form: AnswerForm,
    profiles: Mapping[str, Profile],
) -> dict[str, Any]:
    """The settings of a run."""
    return {
        "version": VERSION,
        "model": model_name,
        "weights": fingerprint(model.model),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "source": source.name,
        "questions": source.questions,
        **source.settings,
        "notes": list(source.notes),
        "answer_form": form,
        "methods": [method.name for method in methods],
        "labels": {method.name: method.label for method in methods},
        "profiles": {name: _digest(profile.settings.to_dict()) for name, profile in profiles.items()},
    }


def fingerprint(model: torch.nn.Module) -> str:
    """Tells two checkpoints of one architecture apart without reading them whole: a digest of values of every weight,
    evenly spaced."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        flat = weight.detach().flatten()
        some = flat[:: max(1, flat.numel() // SAMPLES)].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
