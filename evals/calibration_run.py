"""Makes a model's calibration table: profiles on some data, judged on other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..calibration import Calibration
from ..calibration.passage import Passage, text_passage
from ..profile import Profile
from ..prompts import tokenizer_of
from .ablation import Part, ablation
from .calibration_table import BALANCED, CALIBRATED, EQUAL_KL, PAPER, CalibrationTable
from .conversations import conversation_passages, describe
from .corpus import token_sequences
from .fidelity import Progress, check_positions, methods_for, score_passages

if TYPE_CHECKING:
    from ..model import OscarModel

# names of the profiles, as methods call them
EQUAL_BYTES_PROFILE, EQUAL_KL_PROFILE = "calibrated", "equal-kl"


def make_profiles(
    model: OscarModel, data: Any, progress: Progress | None = None, **arguments: Any
) -> dict[str, Profile]:
    """A profile at the bytes of the model's settings, and one at their KL.

    Args:
        model: loaded with the preset to beat.
        data, arguments: of Calibration.
    """
    read = Calibration(model, data, progress=progress, **arguments)
    return {EQUAL_BYTES_PROFILE: read.profile(), EQUAL_KL_PROFILE: read.profile(kl_target="same")}


def run_calibration_table(
    model: OscarModel,
    data: str | Sequence[Any],
    profiles: Mapping[str, Profile],
    *,
    sequences: int = 8,
    prefix: int = 1024,
    continuation: int = 255,
    seed: int = 0,
    model_name: str = "",
    data_name: str = "",
    progress: Progress | None = None,
) -> CalibrationTable:
    """Presets, calibrated settings and the ablation on the same sequences.

    Args:
        model: a loaded model.
        data: a text, or conversations; other than the profiles were made on.
        profiles: "calibrated" and "equal-kl", as make_profiles returns them.
        sequences, prefix, continuation: of a text, as for run_fidelity.
        seed: of the bootstrap intervals.
        model_name, data_name, progress: as for run_fidelity.

    Raises:
        ProfileError: a profile for another model.
        ValueError, MediaError, RuntimeError: as run_fidelity and run_on_conversations.
    """
    methods, _ = methods_for(model, [PAPER, BALANCED, CALIBRATED, EQUAL_KL], profiles)
    if isinstance(data, str):
        passages, settings = _of_text(model, data, sequences, prefix, continuation)
        settings["text"] = data_name
    else:
        passages = conversation_passages(model, data)
        settings = describe(passages, data_name)
    media = any(len(passage.stream.counts()[0]) > 1 for passage in passages)
    chosen = profiles[EQUAL_BYTES_PROFILE].settings
    parts, without = ablation(CALIBRATED, chosen, media, model.key_biases or None)
    report = score_passages(model.generator, passages, [*methods, *without], settings, seed, model_name, progress)
    made = {name: _provenance(profile) for name, profile in profiles.items()}
    return CalibrationTable(report, [*parts, Part("calibration", CALIBRATED, BALANCED)], made)


def _of_text(
    model: OscarModel, text: str, sequences: int, prefix: int, continuation: int
) -> tuple[list[Passage], dict[str, Any]]:
    check_positions(model.generator, prefix + continuation)
    tokens = token_sequences(text, tokenizer_of(model.processor), sequences, prefix + continuation + 1)
    return [text_passage(own, prefix) for own in tokens], {"prefix": prefix, "continuation": continuation}


def _provenance(profile: Profile) -> dict[str, Any]:
    plain = profile.to_dict()
    return {name: plain[name] for name in ("data_hash", "library_version", "date", "target", "before", "after")}
