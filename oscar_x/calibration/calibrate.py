"""calibrate(): reads data with a model and chooses the settings of every layer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from ..cache.cache import ATTENTION_NAME
from ..cache.serialize import model_signature
from ..config import CALIBRATION
from ..profile import Profile
from ..weights import weight_samples
from .candidates import Candidates
from .data import passages_of
from .divergence import measure
from .options import all_options
from .passage import hash_passages
from .recording import Recording, compressible_layers, record
from .search import SOUGHT, Search

if TYPE_CHECKING:
    from ..model import OscarModel

Progress = Callable[[int, int, str], None]
# every second sequence only measures: on those that were chosen from, what was chosen looks better than it is, and
# choosing from twice as many gains little (docs/calibration.md)
MEASURES = 2


def calibrate(
    model: OscarModel,
    data: Any,
    *,
    bits_budget: float | None = None,
    kl_target: float | Literal["same"] | None = None,
    sequences: int = CALIBRATION.sequences,
    prefix: int = CALIBRATION.prefix,
    continuation: int = CALIBRATION.continuation,
    candidates: Candidates | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Profile:
    """Chooses bits, groups and scales of every layer's keys and values; docs/calibration.md says how.

    The same model, data and arguments give the same profile, but for its date. The model is not changed.

    Args:
        model: a loaded model that compresses; what its settings say is calibrated from, and kept where nothing is
            chosen.
        data: a text, token ids [tokens], a conversation, or a list of these. A conversation is a mapping of "messages"
            (media and earlier turns as chat() takes them), "question" and "answer", or "turns" of these; or a list of
            messages that ends in a question, or in one and its answer. Its messages are compressed; questions and
            answers read them, the model's own answers where there are none.
        bits_budget: bits an element of the compressed layers, tokens kept exact counted, at a context of ``prefix``
            tokens, or of the shortest conversation. By default what the model's settings take.
        kl_target: instead, the mean KL in nats that must not be exceeded, at as few bits as possible, or "same": that
            of the model's settings. Sought is 0.8 of it, since KL on other data is higher (docs/calibration.md).
        sequences: cut from each text, spread evenly over it.
        prefix, continuation: tokens of a text's sequence that are compressed, and that read them.
        candidates: what to choose from.
        seed: of the tokens drawn to learn what moves the logits.
        progress: called with what is done, what there is in all, and what is going on.

    Raises:
        ValueError: a budget or target that is not allowed or cannot be met; data of another kind, or too short; a model
            that does not compress, or was loaded with an attention of the caller's.
        MediaError: as OscarModel.chat.
    """
    _check_target(bits_budget, kl_target)
    read = Calibration(
        model,
        data,
        sequences=sequences,
        prefix=prefix,
        continuation=continuation,
        candidates=candidates,
        seed=seed,
        progress=progress,
    )
    return read.profile(bits_budget=bits_budget, kl_target=kl_target)


class Calibration:
    """What calibrate() reads and estimates, which takes most of its time, for any number of profiles.

    Attributes:
        before: what the model's settings measure.
    """

    def __init__(
        self,
        model: OscarModel,
        data: Any,
        *,
        sequences: int = CALIBRATION.sequences,
        prefix: int = CALIBRATION.prefix,
        continuation: int = CALIBRATION.continuation,
        candidates: Candidates | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Arguments and errors are those of calibrate()."""
        _check_model(model)
        self.model, self.passages = model, passages_of(model, data, sequences, prefix, continuation)
        report = progress or (lambda done, total, what: None)
        recordings = []
        for number, passage in enumerate(self.passages):
            report(number, len(self.passages), f"reading sequence {number + 1} of {len(self.passages)}")
            recordings.append(record(model, passage, CALIBRATION.draws, seed))
        chosen_from, measured = _shares(recordings)
        tokens = min(recording.prefix for recording in recordings)
        self.before = measure(model, measured, model.settings, model.key_biases, tokens)
        options = all_options(
            chosen_from,
            measured,
            model.config,
            candidates or Candidates(),
            model.key_biases,
            tokens,
            lambda done, total: report(done, total, f"layer {done + 1} of {total}"),
        )
        report(len(options), len(options), "choosing")
        self._search = Search(model, measured, options, tokens)

    def profile(self, *, bits_budget: float | None = None, kl_target: float | Literal["same"] | None = None) -> Profile:
        """As calibrate()."""
        _check_target(bits_budget, kl_target)
        if kl_target is not None:
            target = {"kl_target": float(self.before.kl if kl_target == "same" else kl_target)}
            settings, after = self._search.reach(target["kl_target"] * SOUGHT)
        else:
            target = {"bits_budget": float(self.before.bits_per_element if bits_budget is None else bits_budget)}
            settings, after = self._search.under(target["bits_budget"])
        config = self.model.model.config
        return Profile(
            settings=settings,
            signature=model_signature(config),
            model_type=config.get_text_config(decoder=True).model_type,
            data_hash=hash_passages(self.passages),
            library_version=version("oscar-x"),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            target=target,
            before=self.before,
            after=after,
            weights=weight_samples(self.model.model, self.model.adapter),
        )


def _shares(recordings: list[Recording]) -> tuple[list[Recording], list[Recording]]:
    """Those to choose from and those to measure on; a single one is for both."""
    measured = recordings[MEASURES - 1 :: MEASURES]
    if not measured:
        return recordings, recordings
    return [recording for at, recording in enumerate(recordings) if at % MEASURES != MEASURES - 1], measured


def _check_target(bits_budget: Any, kl_target: Any) -> None:
    if bits_budget is not None and kl_target is not None:
        raise ValueError(f"bits_budget={bits_budget} and kl_target={kl_target} exclude each other; give one")
    for name, value in (("bits_budget", bits_budget), ("kl_target", kl_target)):
        wrong = isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf")
        if value is not None and wrong and (name, value) != ("kl_target", "same"):
            raise ValueError(f"{name}={value!r} is not allowed; use a number above 0")


def _check_model(model: OscarModel) -> None:
    attention = model.generator.config.get_text_config(decoder=True)._attn_implementation
    if not model.config.compresses or attention != ATTENTION_NAME:
        raise ValueError(
            f"the model has kv_bits {model.config.key_bits} and attention {attention!r}; calibration needs one that is "
            "loaded with kv_bits below 16 and without attn_implementation"
        )
    if not compressible_layers(model):
        raise ValueError("no layer of the model can be compressed, so there is nothing to calibrate")
