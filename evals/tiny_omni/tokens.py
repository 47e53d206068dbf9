"""A tokenizer in the form of Qwen2's with a vocabulary of a few hundred tokens, and the processor around it."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5OmniProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

from .pictures import SIZE
from .questions import named
from .sounds import RATE
from .words import COLORS, COUNTS, DIRECTIONS, LETTERS, SHAPES, SOUNDS, THINGS, TONES

SPECIAL = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MEL_BINS = 32
_PIXELS = {"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE}  # of a frame, least and most
LONGEST_SOUND = 200  # seconds; every sound is padded to them
_MEDIA = {
    "image": "<|vision_bos|><|IMAGE|><|vision_eos|>",
    "video": "<|vision_bos|><|VIDEO|><|vision_eos|>",
    "audio": "<|audio_bos|><|AUDIO|><|audio_eos|>",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}"
    + "".join(f"{{% elif part['type'] == '{kind}' %}}{written}" for kind, written in _MEDIA.items())
    + "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _sentences() -> list[str]:
    """Texts with nearly every word of questions and answers, as it stands there; others are spelled in pieces.

    The vocabulary follows from them, and with it the rows of the model's embeddings.
    """
    asked = [f"Which comes first, {named(one)} or {named(other)}?" for one in THINGS for other in THINGS]
    for thing in THINGS:
        asked += [
            f"What color is {named(thing)}?",
            f"What color are {named(thing)}?",
            f"Where does {named(thing)} move?",
        ]
        asked += [f"What comes after {named(thing)}?"]
        asked += [f"What is heard with {named(thing)}?"]
    for color in COLORS:
        asked += [f"Which shape is {color}?", f"Where does the {color} shape move?"]
    asked += [f"What is seen with the {tone} tone?" for tone in TONES] + ["What is seen with the beeps?"]
    asked += ["How many dots are there?", "How many beeps are there?", "Which letter is shown?"]
    answers = [COLORS, SHAPES, DIRECTIONS, SOUNDS, *[THINGS] * 3, *[LETTERS, COUNTS] * 2]
    return asked + [word for words in answers for word in words] + ["user\n", "assistant\n", "system\n"]


@cache
def _pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of byte pairs under which each of those words is one token."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1000, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(_sentences(), trainer)
    vocabulary = trained.get_vocab()
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    return vocabulary, merges


def make_tokenizer() -> Qwen2Tokenizer:
    """The tokenizer; the same at every call."""
    vocabulary, merges = _pairs()
    return Qwen2Tokenizer(
        vocab=dict(vocabulary),
        merges=list(merges),
        unk_token=None,
        pad_token=END_OF_TEXT,
        eos_token=END,
        extra_special_tokens={"turn_token": START, **SPECIAL},
        # Qwen2_5OmniProcessor has a size of its own for videos, which only what stands here overrides
        size=dict(_PIXELS),
        padding_side="left",
    )


def make_processor() -> Qwen2_5OmniProcessor:
    """Every frame to 28 x 28 pixels, which are a token a pair of frames; sounds to 25 tokens a second."""
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(_PIXELS)),
        video_processor=Qwen2VLVideoProcessor(size=dict(_PIXELS), cap_pixels_per_frame=False),
        feature_extractor=WhisperFeatureExtractor(
            feature_size=MEL_BINS, sampling_rate=RATE, chunk_length=LONGEST_SOUND, return_attention_mask=True
        ),
        tokenizer=make_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    )
