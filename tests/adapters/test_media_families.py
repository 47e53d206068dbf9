"""Every multimodal family, on a small random checkpoint of its real class with its real processor."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers.cache_utils import DynamicSlidingWindowLayer

import oscar_x
from oscar_x.modality import Modality
from oscar_x.prompts.checks import types_whole_sequence

FAMILIES = [
    "llava",
    "pixtral",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen2_audio",
    "qwen2_5_omni",
    "qwen3_omni_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "gemma3_vision",
    "internvl",
    "fast_vlm",
    "smolvlm",
    "idefics3",
]
GREEDY = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
# relative error of a layer's attention output with the context packed; tests/adapters/test_families.py says why
BOUNDS = {2: 0.5, 8: 0.03}
KINDS = {"image": Modality.IMAGE, "video": Modality.VIDEO, "audio": Modality.AUDIO}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def make(support):
    return support("tiny_media")


@pytest.fixture
def load(tiny_media, family):
    return lambda kv_bits=2: oscar_x.load(tiny_media(family), kv_bits=kv_bits, device="cpu")


@pytest.fixture
def cases(support, make, family, load):
    loaded = load(16)
    return support("media_cases").cases(make, make.load_family(family).kinds, loaded.adapter.media)


def plain_model(tiny_media, family, make):
    cls = getattr(transformers, make.load_family(family).model)
    return cls.from_pretrained(tiny_media(family), dtype="auto").eval()


def generator(model, loaded):
    return loaded.adapter.find_generator(model)


def test_16_bits_is_transformers(tiny_media, support, make, family, load, cases):
    loaded, plain = load(16), plain_model(tiny_media, family, make)
    for name, conversations in cases.items():
        theirs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, conversations)
        expected = generator(plain, loaded).generate(**theirs, **GREEDY)
        found = loaded.generate(loaded.prepare(conversations), **GREEDY)
        assert torch.equal(found, expected), name


def test_2_bits_reads_packed_tokens(family, load, cases):
    loaded = load()
    for name, conversations in cases.items():
        cache = loaded.new_cache()
        prompt = loaded.prepare(conversations)
        out = loaded.generate(prompt, past_key_values=cache, **GREEDY)
        assert out.shape[1] == prompt["input_ids"].shape[1] + 12, name
        assert cache.packed_reads > 0, name
        report = loaded.memory()
        assert report.packed_elements > 0, name
        assert report.total < report.full_cache, name


@pytest.mark.parametrize("kv_bits", BOUNDS)
def test_attention_output_error(support, family, load, cases, kv_bits):
    loaded = load(kv_bits)
    name = "mixed" if "mixed" in cases else "several images"
    prompt = loaded.prepare(cases.get(name, next(iter(cases.values()))))
    prefix = prompt["input_ids"].shape[1] - 40
    cache = loaded.new_cache()
    errors = support("media_teacher").attention_errors(loaded, prompt, prefix, cache, support("teacher").hooks)
    assert cache.packed_reads > 0
    for layer, error in zip(loaded.report(), errors, strict=True):
        assert error < (BOUNDS[kv_bits] if layer.compressed else 1e-5), (layer.index, errors)


def test_stream_counts_what_the_processor_put_in(support, make, family, load, cases):
    loaded = load()
    for name, conversations in cases.items():
        prompt = loaded.prepare(conversations)
        output = support("media_cases").by_processor(
            loaded.processor, loaded.adapter.media, conversations, return_text_replacement_offsets=True
        )
        if name == "text":  # some processors then say nothing of replacements
            assert not any(map(len, output.get("text_replacement_offsets", ()))), name
            assert not prompt.stream.segments.any()
            continue
        if "text_replacement_offsets" not in output:
            pytest.skip("processors of this transformers do not say what they replaced")
        replaced = output["text_replacement_offsets"]
        ids = prompt["input_ids"]
        for row, media in enumerate(replaced):
            assert int(prompt.stream.segments[row].max()) == len(media), name
            for number, medium in enumerate(media, start=1):
                inside = prompt.stream.segments[row] == number
                written = loaded.processor.tokenizer(medium["replacement"], add_special_tokens=False)["input_ids"]
                assert ids[row][inside].tolist() == written, name
                kinds = set(prompt.stream.modalities[row][inside].tolist()) - {Modality.TEXT}
                assert KINDS[medium["type"]] in kinds, name
            padding = int((prompt.stream.modalities[row] == Modality.PADDING).sum())
            assert padding == int((prompt["attention_mask"][row] == 0).sum()), name


def test_cache_knows_what_its_columns_are(family, load, cases):
    loaded = load()
    prompt = loaded.prepare(cases["ragged batch"])
    cache = loaded.new_cache()
    loaded.generate(prompt, past_key_values=cache, **GREEDY)
    held = cache.modalities
    assert held.shape == (3, cache.get_seq_length())
    known = prompt["input_ids"].shape[1]
    assert torch.equal(held.modalities[:, :known], prompt.stream.modalities)
    assert torch.equal(held.segments[:, :known], prompt.stream.segments)
    assert (held.modalities[:, known:] == Modality.TEXT).all()


def test_second_turn_is_one_conversation(support, make, tiny_media, family, load):
    """The answer in a second turn with a new medium equals that of one prompt with everything in it."""
    loaded = load(16)
    reads_media_in_later_turns(loaded)
    facts, kinds = loaded.adapter.media, make.load_family(family).kinds
    part = support("media_cases").part
    first, second = part(make, kinds[0], facts, 0), part(make, kinds[-1], facts, 1)
    session = loaded.new_session([first])
    session.ask("What is it?", **{**GREEDY, "max_new_tokens": 5, "min_new_tokens": 5})
    said = session.tokens
    session.ask([second, {"type": "text", "text": "And this?"}], **GREEDY)
    tokens = torch.tensor([session.tokens])
    answered = tokens.shape[1] - 12
    media = support("media_cases").features(loaded.processor, facts, [first, second])
    ids = tokens[:, :answered]
    assert ids[0, : len(said)].tolist() == said
    extra = support("media_cases").token_types(loaded.processor, ids)
    plain = generator(plain_model(tiny_media, family, make), loaded)
    expected = plain.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **media, **extra, **GREEDY)
    assert torch.equal(tokens, expected)


def test_other_conversations_leave_a_session_alone(make, support, family, load):
    """Nothing that a session needs lives on the model (transformers keeps rope deltas there)."""
    loaded = load()
    kind = make.load_family(family).kinds[0]
    part = support("media_cases").part(make, kind, loaded.adapter.media)
    alone, disturbed = (loaded.new_session([part, {"type": "text", "text": "x" * 250}]) for _ in range(2))
    answers = [alone.ask(question, **GREEDY) for question in ("One?", "Two?")]
    found = [disturbed.ask("One?", **GREEDY)]
    loaded.chat([{"role": "user", "content": [part, part, {"type": "text", "text": "else"}]}], **GREEDY)
    found.append(disturbed.ask("Two?", **GREEDY))
    assert found == answers
    assert alone.tokens == disturbed.tokens


def test_forgotten_question_fork_and_file(make, support, family, load, tmp_path):
    loaded = load()
    kind = make.load_family(family).kinds[0]
    part = support("media_cases").part(make, kind, loaded.adapter.media)
    session = loaded.new_session([part, {"type": "text", "text": "y" * 250}])
    forked = session.fork()
    session.save(tmp_path / "session.safetensors")
    first = session.ask("What?", keep=False, **GREEDY)
    assert session.ask("What?", keep=False, **GREEDY) == first
    assert forked.ask("What?", **GREEDY) == first
    opened = loaded.open_session(tmp_path / "session.safetensors")
    assert opened.ask("What?", **GREEDY) == first
    assert opened.tokens == forked.tokens
    stream = opened.cache.modalities
    assert torch.equal(stream.modalities, forked.cache.modalities.modalities)


def reads_media_in_later_turns(loaded):
    if loaded.adapter.media.token_types is not None and not types_whole_sequence():
        pytest.skip("this transformers does not hand token types of the whole sequence on to the mask")


def rolls_windows_back():
    layer, states = DynamicSlidingWindowLayer(4), torch.zeros(1, 1, 8, 4)
    if not hasattr(layer, "activate_past_recording"):
        return False
    layer.activate_past_recording()
    layer.update(states, states)
    return layer.get_mask_sizes(1)[0] == layer.update(states[:, :, :1], states[:, :, :1])[0].shape[2]


def test_positions_after_crop(make, support, family, load):
    """Rolling back to any column and reading the same again gives what was read the first time."""
    loaded = load(16)
    kind = make.load_family(family).kinds[0]
    part = support("media_cases").part(make, kind, loaded.adapter.media, 1)
    prompt = loaded.prepare([{"role": "user", "content": [part, {"type": "text", "text": "z" * 40}]}])
    ids = prompt["input_ids"]
    cache = None
    for back in (4, 30):
        if cache is None or any(layer.is_sliding for layer in cache.layers):
            if any(layer.is_sliding for layer in loaded.new_cache().layers) and not rolls_windows_back():
                pytest.skip("this transformers cannot roll a layer with a window back, or masks it wrongly then")
            # layers with a window can be rolled back once, and only where they are told to keep what leaves it
            cache = loaded.new_cache()
            if hasattr(cache, "activate_past_recording"):
                cache.activate_past_recording()
            expected = loaded.generate(prompt, past_key_values=cache, **GREEDY)
        keep = ids.shape[1] - back
        cache.crop(keep - cache.get_seq_length())
        assert cache.modalities.shape[1] == keep
        again = loaded.generate(
            input_ids=ids[:, keep:], attention_mask=torch.ones_like(ids), past_key_values=cache, **GREEDY
        )
        assert torch.equal(again[:, back:], expected[:, ids.shape[1] :])


def test_a_turn_that_fails_leaves_the_session_as_it_was(make, support, family, load):
    loaded = load()
    reads_media_in_later_turns(loaded)
    kind = make.load_family(family).kinds[0]
    part = support("media_cases").part(make, kind, loaded.adapter.media)
    session = loaded.new_session([part, {"type": "text", "text": "w" * 250}])
    expected, tokens = session.fork().ask("What?", **GREEDY), session.tokens

    def fail(*args):
        raise RuntimeError("out of memory")

    # the first layer has taken the turn in by then, the last has not
    hook = loaded.adapter.find_layers(loaded.model)[-1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        session.ask([part, {"type": "text", "text": "And this?"}])
    hook.remove()
    assert session.tokens == tokens
    assert session.ask("What?", **GREEDY) == expected


def test_media_reach_the_model(make, support, family, load):
    """Small random models may not look at all, and everything above would hold: another medium must be told apart."""
    loaded = load(16)
    for kind in make.load_family(family).kinds:
        part = support("media_cases").part(make, kind, loaded.adapter.media)
        other = {**part, kind: part[kind][::-1].copy()}  # upside down, or backwards
        scores = []
        for medium in (part, other):
            prompt = loaded.prepare([{"role": "user", "content": [medium, {"type": "text", "text": "Well?"}]}])
            output = loaded.generate(
                prompt, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
            scores.append(output.logits[0])
        assert float((scores[0] - scores[1]).norm() / scores[0].norm()) > 1e-3, kind
