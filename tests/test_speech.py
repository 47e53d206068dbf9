"""Spoken answers of the omni models."""

from __future__ import annotations

import os
import shutil
import wave

import numpy as np
import pytest
import torch
import transformers

import oscar_x
from oscar_x.adapters.registry import find_adapter
from oscar_x.modality import Modality

FAMILIES = ["qwen2_5_omni", "qwen3_omni_moe"]
SHORT = {"max_new_tokens": 10, "talker_max_new_tokens": 20}
ADDED = {"qwen2_5_omni": 2, "qwen3_omni_moe": 9}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def load(tiny_media, family):
    loaded = {}

    def once(kv_bits):
        if kv_bits not in loaded:
            loaded[kv_bits] = oscar_x.load(tiny_media(family), kv_bits=kv_bits, device="cpu")
        return loaded[kv_bits]

    return once


@pytest.fixture(scope="module")
def conversations(support, load, tmp_path_factory):
    make, cases = support("tiny_media"), support("media_cases")
    facts = load(16).adapter.media
    media = [cases.part(make, kind, facts, 1) for kind in facts.kinds]
    clip = str(support("clips").clip(tmp_path_factory.mktemp("clips") / "clip.mp4"))
    question = {"type": "text", "text": cases.LONG}
    return {
        "text": [{"role": "user", "content": [question]}],
        "sound": [{"role": "user", "content": [media[2], question]}],
        "mixed": [{"role": "user", "content": [*media, question]}],
        "heard video": [{"role": "user", "content": [media[2], {"type": "video", "video": clip}, question]}],
    }


def give_mask(module, args, kwargs):
    new = kwargs["input_ids"] if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
    columns = kwargs["past_key_values"].get_seq_length() + new.shape[1]
    return args, {**kwargs, "attention_mask": torch.ones(1, columns, dtype=torch.int64)}


def by_transformers(support, tiny_media, loaded, family, conversation, sound):
    """Text tokens and waveform of the model's own generate(), without oscar_x."""
    model = getattr(transformers, support("tiny_media").load_family(family).model)
    plain = model.from_pretrained(tiny_media(family), dtype="auto").eval()
    if family == "qwen3_omni_moe":
        # 5.23 reads n_window off the talker's config, which has none: AttributeError where sounds meet pictures
        plain.talker.config.audio_config = plain.thinker.config.audio_config
    if family == "qwen2_5_omni":
        # 5.23 drops a mask without padding, and its talker then leaves out its start token and its positions
        plain.talker.register_forward_pre_hook(give_mask, with_kwargs=True)
    kinds = [
        {**m, "content": [p if p["type"] == "text" else {"type": p["type"]} for p in m["content"]]}
        for m in conversation
    ]
    text = loaded.processor.apply_chat_template(kinds, add_generation_prompt=True, tokenize=False)
    inputs = support("clips").omni_inputs(loaded.processor, loaded.adapter.media, [text], [conversation], sound)
    # Qwen2.5-Omni's own generate() hands pixels to the talker, too, which refuses them (ValueError)
    given = {f"thinker_{name}" if name.startswith("pixel") else name: value for name, value in inputs.items()}
    torch.manual_seed(0)
    return plain.generate(
        **given, use_audio_in_video=sound, thinker_max_new_tokens=10, talker_max_new_tokens=20
    ), inputs["input_ids"].shape[1]


@pytest.mark.parametrize("name", ["text", "sound", "mixed", "heard video"])
def test_16_bits_is_transformers(support, tiny_media, family, load, conversations, name):
    loaded, sound = load(16), name == "heard video"
    torch.manual_seed(0)
    speech = loaded.speak(conversations[name], use_audio_in_video=sound, **SHORT)
    (tokens, waveform), prompt = by_transformers(support, tiny_media, loaded, family, conversations[name], sound)
    assert speech.text == loaded.processor.tokenizer.decode(tokens[0, prompt:], skip_special_tokens=True)
    assert np.array_equal(speech.waveform, waveform.reshape(-1).numpy())
    assert speech.waveform.std() > 0
    assert speech.sampling_rate == 24_000


@pytest.mark.parametrize("name", ["text", "mixed", "heard video"])
def test_both_caches_are_read_packed(support, family, load, conversations, name, monkeypatch):
    loaded = load(2)
    made = []
    for owner in (loaded, loaded.talker):
        new = owner.new_cache
        monkeypatch.setattr(owner, "new_cache", lambda new=new: made.append(new()) or made[-1])
    speech = loaded.speak(conversations[name], use_audio_in_video=name == "heard video", **SHORT)
    assert len(made) == 2
    for cache, report in zip(made, (speech.memory["thinker"], speech.memory["talker"]), strict=True):
        assert cache.packed_reads > 0
        assert report.packed_elements > 0
        assert report.total < report.full_cache
    assert loaded.memory() == speech.memory["thinker"]
    assert len(speech.waveform) > 0


@pytest.mark.parametrize("name", ["text", "mixed", "heard video"])
def test_columns_of_the_talker(family, load, conversations, name, monkeypatch):
    """Its prompt is what it reads of the thinker's, then its own start; positions are those the talker is run at."""
    loaded = load(2)
    talker, made, seen = loaded.talker, [], []
    new = talker.new_cache
    monkeypatch.setattr(talker, "new_cache", lambda: made.append(new()) or made[-1])
    decoder = talker.adapter.find_decoder(talker.module)
    hook = decoder.register_forward_pre_hook(lambda m, a, kw: seen.append(kw["position_ids"][-3:]), with_kwargs=True)
    try:
        loaded.speak(conversations[name], use_audio_in_video=name == "heard video", **SHORT)
    finally:
        hook.remove()
    stream = made[0].modalities
    positions = torch.cat([p.float() for p in seen], dim=-1)
    assert torch.equal(stream.positions.float(), positions[..., : stream.shape[1]])
    prompt = loaded.prepare(conversations[name], use_audio_in_video=name == "heard video").stream
    counts, media = stream.counts()[0], prompt.counts()[0]
    for kind in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO):
        assert counts.get(kind) == media.get(kind)
    assert counts[Modality.CODEC] == ADDED[family] + len(seen) - 1


def test_speakers(load):
    loaded = load(2)
    torch.manual_seed(0)
    one = loaded.speak("Hello", speaker="ethan", **SHORT)
    torch.manual_seed(0)
    other = loaded.speak("Hello", speaker="Chelsie", **SHORT)
    assert not np.array_equal(one.waveform, other.waveform)
    with pytest.raises(ValueError, match=r"speaker='Nobody' is not known; .*[Cc]helsie, [Ee]than"):
        loaded.speak("Hello", speaker="Nobody")


def test_it_is_written_as_wav(load, tmp_path):
    loaded = load(2)
    speech = loaded.speak("Hello", path=tmp_path / "said.wav", **SHORT)
    with wave.open(str(tmp_path / "said.wav")) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    assert np.abs(samples / 32767 - speech.waveform).max() <= 0.5 / 32767 + 1e-6


def test_paths_that_cannot_be_written_are_refused_before_anything_is_made(load, tmp_path, monkeypatch):
    loaded = load(2)
    monkeypatch.setattr(loaded, "prepare", lambda *a, **k: pytest.fail("work was done"))
    with pytest.raises(ValueError, match=r"said\.mp3.*must end in \.wav"):
        loaded.speak("Hello", path=tmp_path / "said.mp3")
    with pytest.raises(FileNotFoundError, match="no folder"):
        loaded.speak("Hello", path=tmp_path / "nowhere" / "said.wav")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.wav.*is a folder"):
        loaded.speak("Hello", path=tmp_path / "folder.wav")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match="no permission"):
            loaded.speak("Hello", path=tmp_path / "locked" / "said.wav")


def test_nothing_to_say(load, family):
    loaded = load(2)
    every = list(range(loaded.talker.module.config.get_text_config().vocab_size))
    with pytest.raises(ValueError, match="nothing to say: the talker made no code"):
        loaded.speak("Hello", talker_eos_token_id=every, **SHORT)
    if family == "qwen2_5_omni":  # the other's generate() can speak a single token
        with pytest.raises(ValueError, match="nothing to say: the written answer has one token"):
            loaded.speak("Hello", max_new_tokens=1)
    assert len(loaded.speak("Hello", **SHORT).waveform) > 0


def test_other_errors_are_not_taken_for_silence(load):
    """Here the talker fails after its prompt is read, when its first code is to be drawn."""
    loaded = load(2)
    head = loaded.talker.module.codec_head
    hook = head.register_forward_hook(lambda m, a, out: out * float("nan"))
    try:
        with pytest.raises(RuntimeError, match="probability tensor"):
            loaded.speak("Hello", **SHORT)
    finally:
        hook.remove()


def test_wrong_arguments(load):
    loaded = load(2)
    with pytest.raises(ValueError, match="one conversation"):
        loaded.speak([[{"role": "user", "content": "One"}], [{"role": "user", "content": "Two, longer"}]])
    with pytest.raises(ValueError, match="thinker_past_key_values is not allowed"):
        loaded.speak("Hello", thinker_past_key_values=loaded.new_cache())


def test_the_model_is_left_as_it_was(load, conversations):
    loaded = load(2)
    before = loaded.model.config.to_dict()
    loaded.speak(conversations["mixed"], **SHORT)
    assert loaded.model.config.to_dict() == before


def test_a_model_without_talker(tiny, tiny_media, family, load, tmp_path):
    shutil.copytree(tiny_media(family), tmp_path / "quiet")
    quiet = oscar_x.load(tmp_path / "quiet", device="cpu", enable_audio_output=False)
    assert quiet.talker is None
    with pytest.raises(ValueError, match="loaded without its talker"):
        quiet.speak("Hello")
    assert quiet.chat("Hello", max_new_tokens=4)
    with pytest.raises(ValueError, match="Llama only writes; use chat"):
        oscar_x.load(tiny("llama"), device="cpu").speak("Hello")


def test_key_biases_of_the_talker_are_taken_out(support, tiny_media, tmp_path, monkeypatch):
    """A bias far larger than the keys, turned on three axes: taken out, it costs no bits."""
    shutil.copytree(tiny_media("qwen2_5_omni"), tmp_path / "biased")
    model = transformers.Qwen2_5OmniForConditionalGeneration.from_pretrained(tmp_path / "biased", dtype="auto")
    generator = torch.Generator().manual_seed(0)
    for part in (find_adapter(model.config).find_decoder(model), model.talker.model):
        bias = part.layers[1].self_attn.k_proj.bias
        bias.data = 300 * torch.randn(bias.shape, generator=generator)
    model.save_pretrained(tmp_path / "biased")
    make, cases = support("tiny_media"), support("media_cases")
    logits = {}
    for kv_bits, taken_out in ((16, False), (8, True), (8, False)):
        loaded = oscar_x.load(tmp_path / "biased", kv_bits=kv_bits, device="cpu")
        if kv_bits == 8:
            assert set(loaded.key_biases) == set(loaded.talker.key_biases) == {1}
            assert [layer.key_bias_removed for layer in loaded.talker.report()] == [False, True]
        if not taken_out:
            loaded.talker.key_biases = {}
        exact = oscar_x.OscarConfig(key_bits=16, value_bits=16)  # of the thinker: what it writes must not differ
        monkeypatch.setattr(loaded, "new_cache", lambda c=loaded.model.config, o=exact: oscar_x.OscarCache(c, o))
        media = [cases.part(make, kind, loaded.adapter.media, 1) for kind in ("image", "audio")]
        said = logits.setdefault((kv_bits, taken_out), [])
        hook = loaded.talker.module.register_forward_hook(lambda m, a, out, said=said: said.append(out.logits[0, -1]))
        try:
            question = {"type": "text", "text": cases.LONG}
            loaded.speak([{"role": "user", "content": [*media, question]}], talker_do_sample=False, **SHORT)
        finally:
            hook.remove()
    exact = logits[16, False]
    assert all(torch.equal(said[0].argmax(), exact[0].argmax()) for said in logits.values())
    # the first comes from the prompt before it is packed, the second reads it packed
    taken_out, left = (float((logits[8, how][1] - exact[1]).norm() / exact[1].norm()) for how in (True, False))
    assert taken_out < 0.01
    assert taken_out < 0.5 * left


def test_vocoder_and_towers_do_without_packed_attention(load, conversations):
    """What is no decoder gives the same under attention "oscar" as under transformers' sdpa."""
    packed, plain = load(2), load(16)
    prompt = plain.prepare(conversations["mixed"])
    decoder = plain.adapter.find_decoder(plain.model)
    seen = []
    for loaded in (packed, plain):
        hook = loaded.adapter.find_decoder(loaded.model).register_forward_pre_hook(
            lambda m, a, kw: seen.append(kw["inputs_embeds"].clone()), with_kwargs=True
        )
        try:
            loaded.generate(prompt, max_new_tokens=1)
        finally:
            hook.remove()
    assert decoder is not None
    torch.testing.assert_close(seen[0], seen[1])
