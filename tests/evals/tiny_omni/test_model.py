"""The shipped model."""

from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import transformers

import oscar_x
from oscar_x import Modality
from oscar_x.evals.tiny_omni import clips
from oscar_x.evals.tiny_omni.exam import examine
from oscar_x.evals.tiny_omni.lessons import Teacher

FOLDER = Path(str(resources.files("oscar_x.assets").joinpath("tiny-omni")))


def test_transformers_loads_it_without_us() -> None:
    model, info = transformers.Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        FOLDER, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.text_config.head_dim == 128
    assert isinstance(transformers.AutoProcessor.from_pretrained(FOLDER), transformers.Qwen2_5OmniProcessor)


def test_it_fits_into_forty_megabytes() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.safetensors")) <= 40e6


def test_the_name_is_the_folder(full: Any) -> None:
    by_path = oscar_x.load(FOLDER, kv_bits=16, device="cpu", dtype="float32")
    assert by_path.model.config.to_dict() == full.model.config.to_dict()


def test_it_answers_held_out_questions(full: Any) -> None:
    """Full precision, on the path it was trained on; docs/tiny_omni.md has the counts of thousands."""
    teacher = Teacher(full.processor.tokenizer, full.model)
    right = examine(full.model, full.processor, teacher, islice(clips("held-out", length=5, seed=7), 8))
    hits = [hit for kind in right.values() for hit in kind]
    assert len(hits) > 150
    assert np.mean(hits) > 0.9


def test_it_answers_about_long_clips(full: Any) -> None:
    """78 events are 156 seconds and 4,219 tokens."""
    teacher = Teacher(full.processor.tokenizer, full.model)
    right = examine(full.model, full.processor, teacher, islice(clips("held-out", length=78, seed=7), 2))
    hits = [hit for kind in right.values() for hit in kind]
    assert len(hits) > 30
    assert np.mean(hits) > 0.85


def test_it_answers_from_packed_blocks(packed: Any) -> None:
    """Two phases: the clip is packed, then the questions are asked."""
    hits = []
    for shown in islice(clips("held-out", length=6, seed=7), 2):
        session = packed.new_session(shown.content(), use_audio_in_video=True)
        session.ask("How many dots are there?", keep=False, max_new_tokens=1)  # reads the clip
        session.cache.flush()
        for question in shown.questions[::4]:
            branch = session.fork()
            before = branch.cache.packed_reads
            hits.append(branch.ask(question.text, max_new_tokens=1) == question.answer)
            assert branch.cache.packed_reads > before
    assert len(hits) >= 8
    assert np.mean(hits) > 0.7


def test_a_session_over_a_clip_with_sound(packed: Any) -> None:
    shown = next(clips("held-out", length=4, seed=7))
    session = packed.new_session(shown.content(), use_audio_in_video=True)
    stream = session.cache.modalities
    assert int((stream.modalities == Modality.VIDEO).sum()) == 16
    assert int((stream.modalities == Modality.AUDIO).sum()) == 200
    right = [session.ask(q.text, keep=False, max_new_tokens=4) == q.answer for q in shown.questions[:8]]
    assert sum(right) >= 6
