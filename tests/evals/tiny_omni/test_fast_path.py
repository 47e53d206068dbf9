"""Training reads clips by a path of its own; the model must be given the same as by the processor."""

from itertools import islice
from typing import Any

import pytest
import torch

from oscar_x.evals.tiny_omni import Clip, clips
from oscar_x.evals.tiny_omni.features import hear, patches, see, spectrogram
from oscar_x.evals.tiny_omni.forward import answer_logits
from oscar_x.evals.tiny_omni.lessons import Teacher
from oscar_x.evals.tiny_omni.tokens import make_processor


def clip(length: int, heard: bool) -> Clip:
    return next(clips("held-out", length=length, heard=heard))


def prepared(full: Any, shown: Clip, text: str) -> Any:
    message = {"role": "user", "content": [*shown.content(), {"type": "text", "text": text}]}
    return full.prepare([message], use_audio_in_video=shown.use_audio_in_video)


@pytest.mark.parametrize("heard", [True, False])
def test_features_are_those_of_the_processor(full: Any, heard: bool) -> None:
    shown = clip(3, heard)
    inputs = prepared(full, shown, "What?")
    assert torch.allclose(patches(shown.frames), inputs["pixel_values_videos"], atol=1e-6)
    if heard:
        assert shown.waveform is not None
        fast = spectrogram(torch.from_numpy(shown.waveform)[None], full.processor.feature_extractor)
        frames = int(inputs["feature_attention_mask"].sum())
        assert fast.shape[-1] == frames
        assert torch.allclose(fast, inputs["input_features"][..., :frames], atol=1e-5)


def test_towers_give_the_same_in_a_batch(full: Any) -> None:
    shown, thinker = clip(3, True), full.model.model
    assert shown.waveform is not None
    pixels = patches(shown.frames)
    sound = spectrogram(torch.from_numpy(shown.waveform)[None], full.processor.feature_extractor)
    with torch.inference_mode():
        seen = thinker.visual(pixels, grid_thw=torch.tensor([[12, 2, 2]])).pooler_output
        assert torch.allclose(see(thinker.visual, pixels), seen, atol=1e-5)
        mask = torch.ones(1, sound.shape[-1], dtype=torch.long)
        heard = thinker.get_audio_features(sound, mask).last_hidden_state
        assert torch.allclose(hear(thinker.audio_tower, sound)[0], heard, atol=1e-5)


@pytest.mark.parametrize(("length", "heard"), [(1, True), (3, True), (3, False)])
def test_answers_are_those_of_the_model_given_the_processors_inputs(full: Any, length: int, heard: bool) -> None:
    """Every question, as one of several branches behind the clip, against a prompt of its own."""
    shown = clip(length, heard)
    asked = shown.questions[:: max(1, len(shown.questions) // 4)]
    teacher = Teacher(full.processor.tokenizer, full.model)
    batch = teacher.batch([shown, shown], [asked, asked[:1]])
    with torch.inference_mode():
        logits = answer_logits(full.model, full.processor.feature_extractor, [shown, shown], batch)
    fast = logits[[bool(kind) for kind in batch.kinds]]
    for number, question in enumerate([*asked, asked[0]]):
        inputs = prepared(full, shown, question.text)
        with torch.inference_mode():
            slow = full.model(**inputs).logits[0, -1]
        assert torch.allclose(fast[number], slow, atol=2e-3), question
        assert full.processor.tokenizer.decode(batch.targets[2 * number]) == question.answer


def test_prefixes_are_the_prompts_tokens_and_positions(full: Any) -> None:
    shown = clip(2, True)
    inputs = prepared(full, shown, "What?")
    ids, positions = Teacher(full.processor.tokenizer, full.model).prefix(2, True)
    assert inputs["input_ids"][0, : len(ids)].tolist() == ids.tolist()
    places, _ = full.model.get_rope_index(
        inputs["input_ids"],
        video_grid_thw=inputs["video_grid_thw"],
        attention_mask=inputs["attention_mask"],
        use_audio_in_video=True,
        audio_seqlens=inputs["feature_attention_mask"].sum(-1),
        second_per_grids=inputs["video_second_per_grid"],
    )
    assert torch.equal(places[:, 0, : len(ids)], torch.from_numpy(positions))


def test_every_answer_is_one_token(full: Any) -> None:
    tokenizer = make_processor().tokenizer
    assert tokenizer.get_vocab() == full.processor.tokenizer.get_vocab()
    for shown in islice(clips("held-out", length=9), 5):
        for option in {option for question in shown.questions for option in question.options}:
            assert len(tokenizer(option)["input_ids"]) == 1
