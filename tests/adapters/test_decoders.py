"""Families that stand before one decoder or another: every kind that their checkpoints on the hub are built on."""

from __future__ import annotations

import pytest
import torch
import transformers

import oscar_x
from oscar_x.adapters.registry import all_adapters
from oscar_x.config import resolve_config
from oscar_x.model import OscarModel

GREEDY = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
# BakLLaVA's Mistral 0.1 slides a window over every layer, LLaVA-NeXT's Mistral 0.2 over none
DECODERS = [
    ("llava", {"model_type": "mistral", "sliding_window": 48}),
    ("llava", {"model_type": "mistral", "sliding_window": None}),
    ("llava", {"model_type": "qwen2"}),
    ("llava_next", {"model_type": "llama"}),
    ("llava_next", {"model_type": "qwen2"}),
    ("llava_next_video", {"model_type": "mistral", "sliding_window": None}),
    ("internvl", {"model_type": "llama"}),
    ("internvl", {"model_type": "qwen3"}),
    ("internvl", {"model_type": "qwen3_moe", **EXPERTS}),
]


@pytest.fixture(params=DECODERS, ids=lambda made_of: "-".join(str(value) for value in made_of[1].values()))
def made_of(request):
    return request.param


@pytest.fixture
def cases(support, made_of):
    make = support("tiny_media")
    facts = next(a.media for a in all_adapters() if made_of[0] in a.model_types)
    every = support("media_cases").cases(make, make.load_family(made_of[0]).kinds, facts)
    return {name: every[name] for name in ("text", "several images", "ragged batch")}


def test_16_bits_is_transformers(tiny_media, support, made_of, cases):
    folder = tiny_media(made_of[0], **made_of[1])
    loaded = oscar_x.load(folder, kv_bits=16, device="cpu")
    plain = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()
    assert type(plain) is type(loaded.model)
    for name, conversations in cases.items():
        theirs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, conversations)
        found = loaded.generate(loaded.prepare(conversations), **GREEDY)
        assert torch.equal(found, plain.generate(**theirs, **GREEDY)), name


def test_2_bits_packs_what_does_not_slide(tiny_media, made_of, cases):
    loaded = oscar_x.load(tiny_media(made_of[0], **made_of[1]), device="cpu")
    slides = bool(made_of[1].get("sliding_window"))
    cache = loaded.new_cache()
    loaded.generate(loaded.prepare(cases["several images"]), past_key_values=cache, **GREEDY)
    assert [layer.compressed for layer in loaded.report()] == [not slides] * 2
    assert (cache.packed_reads > 0) is not slides


@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision", "internvl"])
def test_large_key_bias_of_the_decoder_is_taken_out(tiny_media, support, tmp_path, family):
    """Qwen2 behind a tower is Qwen2 still: without the remedy two bits are of no use to the biased layer."""
    folder = tiny_media(family, model_type="qwen2")
    plain = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
    plain.generation_config.suppress_tokens = None
    bias = plain.model.language_model.layers[0].self_attn.k_proj.bias.data
    bias.copy_(400 * torch.nn.functional.normalize(torch.randn(len(bias), generator=torch.manual_seed(0)), dim=0))
    plain.save_pretrained(tmp_path)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    processor.save_pretrained(tmp_path)
    make, measure = support("tiny_media"), support("media_teacher").attention_errors
    part = {"type": "image", "image": make.image(80, 84)}
    loaded = oscar_x.load(tmp_path, device="cpu")
    off = OscarModel(loaded.model, loaded.processor, loaded.adapter, resolve_config("balanced", key_bias="off"))
    assert set(loaded.key_biases) == {0}
    assert not off.key_biases
    prompt = loaded.prepare([{"role": "user", "content": [part, {"type": "text", "text": "What? " * 60}]}])
    prefix = prompt["input_ids"].shape[1] - 40
    auto, kept = (measure(m, prompt, prefix, m.new_cache(), support("teacher").hooks)[0] for m in (loaded, off))
    assert auto < 0.5 * kept
