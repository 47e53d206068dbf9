"""Texts that grow past the length at which rotary frequencies change: read anew, into the same cache."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, StoppingCriteria

import oscar_x
from oscar_x import CacheSettings, OscarConfig
from oscar_x.generation import check_used
from oscar_x.rope_switch import switch_length

SWITCH = 64
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 48,
    "long_factor": [1.0 + 0.4 * at for at in range(48)],
    "original_max_position_embeddings": SWITCH,
}
# as Phi-3.5: a window wider than the longest text, and short texts read by other frequencies than long ones
LIKE_PHI = {"sliding_window": 2048, "max_position_embeddings": 1024, "original_max_position_embeddings": SWITCH}
GREEDY = {"do_sample": False}


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny("phi3", **LIKE_PHI, rope_parameters=LONGROPE)


@pytest.fixture(scope="module")
def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


@pytest.fixture(scope="module")
def full(folder):
    return oscar_x.load(folder, kv_bits=16, device="cpu")


def at_bits(folder, bits):
    loaded = oscar_x.load(folder, kv_bits=bits, device="cpu")
    small = OscarConfig(key_bits=bits, value_bits=bits, residual_length=16, block_size=32)
    loaded.settings = CacheSettings.of(small)
    return loaded


@pytest.fixture(scope="module")
def packed(folder):
    return at_bits(folder, 2)


def ids(batch, count, seed=0):
    return torch.randint(3, 250, (batch, count), generator=torch.Generator().manual_seed(seed))


# reads everything anew for each token: transformers' own cache is right only in later versions when a text gets there
AFRESH = {"use_cache": False}


def length(new):
    return {"max_new_tokens": new, "min_new_tokens": new}


def ragged(count, *padding):
    """A prompt whose rows begin with so many columns of padding."""
    tokens, mask = ids(len(padding), count), torch.ones(len(padding), count, dtype=torch.long)
    for row, columns in enumerate(padding):
        tokens[row, :columns] = mask[row, :columns] = 0
    return {"input_ids": tokens, "attention_mask": mask}


class Streamer:
    def __init__(self):
        self.pieces, self.ended = [], 0

    def put(self, value):
        self.pieces.append(value.reshape(1, -1))

    def end(self):
        self.ended += 1


class StopRowsAt(StoppingCriteria):
    """Ends a row where it has so many tokens."""

    def __init__(self, *lengths):
        self.lengths = torch.tensor(lengths)

    def __call__(self, input_ids, scores, **kwargs):
        return self.lengths <= input_ids.shape[1]


@torch.no_grad()
def test_keys_of_a_short_text_are_no_use_to_a_long_one(plain):
    """What is at stake: one token too many, and everything held is rotated by other frequencies than the query."""
    assert switch_length(plain.config) == SWITCH
    tokens, cache = ids(1, SWITCH + 1), DynamicCache(config=plain.config)
    plain(tokens[:, :SWITCH], past_key_values=cache)
    mixed, whole = plain(tokens[:, SWITCH:], past_key_values=cache).logits, plain(tokens).logits[:, -1:]
    assert (mixed - whole).norm() / whole.norm() > 0.1


@pytest.mark.parametrize(("prompt", "new"), [(40, 20), (40, 25), (40, 26), (40, 60), (64, 2), (65, 20), (90, 5)])
def test_16_bits_is_transformers(full, plain, prompt, new):
    cache = full.new_cache()
    tokens = full.generate(ids(2, prompt), past_key_values=cache, **GREEDY, **length(new))
    assert torch.equal(tokens, plain.generate(ids(2, prompt), **AFRESH, **GREEDY, **length(new)))
    assert cache.get_seq_length() == prompt + new - 1


@pytest.mark.parametrize("inputs", [ragged(50, 0, 30), {"input_ids": ids(1, 50)}], ids=["ragged", "even"])
def test_sampling_and_outputs_are_those_of_transformers(full, plain, inputs):
    settings = {"do_sample": True, "temperature": 1.5, "top_k": 40, "repetition_penalty": 1.2, **length(30)}
    settings |= {"return_dict_in_generate": True, "output_scores": True, "num_return_sequences": 2}
    found = []
    for model, changes in ((full, {}), (plain, AFRESH)):
        torch.manual_seed(0)
        found.append(model.generate(**inputs, **settings, **changes))
    assert torch.equal(found[0].sequences, found[1].sequences)
    torch.testing.assert_close(torch.stack(found[0].scores), torch.stack(found[1].scores), rtol=1e-4, atol=1e-4)


def test_rows_that_end_before_and_behind_the_switch(full, plain):
    settings = {"stopping_criteria": [StopRowsAt(60, 80)], "max_length": 100, "pad_token_id": 0, **GREEDY}
    free = plain.generate(**ragged(50, 0, 20), **settings, **AFRESH)[:, 50:]
    ends = [int(free[0, 5]), int(free[1, 25])]
    for changes in ({}, {"eos_token_id": ends}):
        tokens = full.generate(**ragged(50, 0, 20), **settings, **changes)
        assert torch.equal(tokens, plain.generate(**ragged(50, 0, 20), **settings, **AFRESH, **changes))
        assert tokens.shape[1] <= 80


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_packed_caches_go_on_as_from_a_prompt(folder, bits):
    """The first tokens are those of a short text, the others those of a prompt that holds all before the switch."""
    packed = at_bits(folder, bits)
    for inputs in ({"input_ids": ids(2, 50)}, ragged(60, 0, 25)):
        cache, held = packed.new_cache(), inputs["input_ids"].shape[1]
        tokens = packed.generate(**inputs, past_key_values=cache, **GREEDY, **length(80))
        assert cache.packed_reads > 0
        assert cache.get_seq_length() == held + 79 == packed.memory().columns
        short = packed.generate(**inputs, **GREEDY, **length(SWITCH + 1 - held))
        assert torch.equal(short, tokens[:, : SWITCH + 1])
        mask = torch.ones_like(short)
        mask[:, :held] = inputs.get("attention_mask", 1)
        again = packed.generate(short, attention_mask=mask, **GREEDY, **length(79 + held - SWITCH))
        assert torch.equal(again, tokens)


def test_padding_in_every_row_is_no_part_of_the_length(full):
    """With ten columns of padding the switch comes ten columns later."""
    bare = full.generate(ids(1, 50), **GREEDY, **length(40))
    padded = torch.cat([torch.zeros(1, 10, dtype=torch.long), ids(1, 50)], 1)
    for count in (60, 70, 80):  # a prompt before the switch, one between its columns and its tokens, one behind it
        prompt = torch.cat([padded[:, :10], bare[:, : count - 10]], 1)
        mask = (torch.arange(count)[None] >= 10).long()
        found = full.generate(prompt, attention_mask=mask, **GREEDY, **length(100 - count))
        assert torch.equal(found[:, 10:], bare), count


@pytest.mark.parametrize("held", [30, 63, 64])
def test_a_cache_that_is_continued(packed, held):
    """By a prompt that goes past the switch, and by an answer that does."""
    for count in (66, 100):
        cache = packed.new_cache()
        packed.generate(ids(1, held), past_key_values=cache, max_new_tokens=1)
        tokens = packed.generate(ids(1, count), past_key_values=cache, **GREEDY, **length(40))
        assert torch.equal(tokens, packed.generate(ids(1, count), **GREEDY, **length(40)))
        assert cache.get_seq_length() == count + 39


def test_every_token_is_streamed_once(packed):
    streamer = Streamer()
    tokens = packed.generate(ids(1, 50), streamer=streamer, **GREEDY, **length(40))
    assert torch.equal(torch.cat(streamer.pieces, 1), tokens)
    assert streamer.ended == 1
    settings = {**GREEDY, **length(60)}
    assert "".join(packed.stream("Hello", **settings)) == packed.chat("Hello", **settings)


def test_stop_strings(full, plain):
    whole = plain.generate(ids(1, 50), **AFRESH, **GREEDY, **length(70))[0].tolist()
    spelled = {at: full.processor.decode([token]) for at, token in enumerate(whole) if token not in whole[:at]}
    at, stop = next((at, text) for at, text in spelled.items() if at > 75 and text.isascii() and text.isprintable())
    settings = {"max_new_tokens": 70, "stop_strings": [stop], "tokenizer": full.processor, **GREEDY}
    tokens = full.generate(ids(1, 50), **settings)
    assert tokens[0].tolist() == whole[: at + 1]
    assert torch.equal(tokens, plain.generate(ids(1, 50), **AFRESH, **settings))


def test_a_session_goes_past_the_switch(packed):
    session = packed.new_session("A page.")
    cache, sizes = session.cache, []
    for _ in range(3):
        session.ask("Who?", **GREEDY, **length(14))
        sizes.append(cache.get_seq_length())
    assert session.cache is cache
    assert sizes[0] < SWITCH < sizes[1] < sizes[2]
    tokens = torch.tensor([session.tokens])
    before = packed.new_session("A page.")
    for _ in range(2):
        before.ask("Who?", **GREEDY, **length(14))
    prompt = torch.tensor([[*before.tokens, *before.prepare("Who?")["input_ids"][0].tolist()]])
    assert torch.equal(tokens[:, : prompt.shape[1]], prompt)
    assert cache.packed_reads > 0


def test_a_session_at_16_bits_says_what_one_prompt_does(full):
    session = full.new_session("A page.")
    for _ in range(3):
        session.ask("Who?", **GREEDY, **length(14))
    tokens = torch.tensor([session.tokens])
    assert torch.equal(full.generate(tokens[:, :-14], **GREEDY, **length(14)), tokens)


REFUSED = [
    ({"num_beams": 2}, "beam search does not go with a text that grows past 64 tokens"),
    ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens=3 does not go"),
    ({"output_attentions": True, "return_dict_in_generate": True}, "output_attentions=True does not go"),
    ({"prefill_chunk_size": 16}, "prefill_chunk_size=16 does not go"),
    ({"position_ids": torch.arange(40)[None]}, "position_ids does not go"),
    ({"assistant_model": "itself"}, "assistant_model does not go"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refusals(full, changes, message):
    if "assistant_model" in changes:
        changes = {"assistant_model": full.model}
    cache = full.new_cache()
    with pytest.raises(ValueError, match=f"{message}.*allowed are .*at most 24 new tokens"):
        full.generate(ids(1, 40), past_key_values=cache, max_new_tokens=30, **GREEDY, **changes)
    assert cache.get_seq_length() == 0


def test_refusals_of_prompts(full):
    embeds = full.model.get_input_embeddings()(ids(1, 40))
    with pytest.raises(ValueError, match="inputs_embeds does not go"):
        full.generate(inputs_embeds=embeds, max_new_tokens=30)
    with pytest.raises(ValueError, match="stop_strings needs tokenizer"):
        full.generate(ids(1, 40), max_new_tokens=30, stop_strings=["a"])
    cache = full.new_cache()
    full.generate(ids(1, 40), past_key_values=cache, max_new_tokens=1)
    mask = torch.ones(1, 70, dtype=torch.long)
    with pytest.raises(ValueError, match=r"input_ids without the tokens held does not go.* a new cache"):
        full.generate(ids(1, 30), attention_mask=mask, past_key_values=cache, max_new_tokens=1)
    assert cache.get_seq_length() == 40
    with pytest.raises(ValueError, match="prefill_chunk_size=16 does not go with a prompt of more than 64 tokens"):
        full.generate(ids(1, 80), prefill_chunk_size=16, max_new_tokens=1)


def test_other_decoding_goes_on_either_side(full, plain):
    """What is refused across the switch is not refused before and behind it."""
    for prompt, new in ((40, 21), (65, 20)):
        settings = {"max_new_tokens": new, **GREEDY}
        for changes in ({"num_beams": 2}, {"prompt_lookup_num_tokens": 3}, {"assistant_model": plain}):
            found = full.generate(ids(1, prompt), **settings, **changes)
            assert torch.equal(found, plain.generate(ids(1, prompt), **settings, **changes))


def test_without_longrope_nothing_is_read_twice(tiny, monkeypatch):
    """transformers' Phi-3 changes caches at that length whatever its frequencies; they only have to stay ours."""
    folder = tiny("phi3", **LIKE_PHI)
    model, plain = oscar_x.load(folder, kv_bits=16, device="cpu"), AutoModelForCausalLM.from_pretrained(folder)
    fed, forward = [], model.model.forward

    def counting(*args, **kwargs):
        fed.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model, "forward", counting)
    tokens = model.generate(ids(1, 50), **GREEDY, **length(30))
    assert fed == [50, *[1] * 29]
    assert torch.equal(tokens, plain.generate(ids(1, 50), **AFRESH, **GREEDY, **length(30)))


def test_an_empty_cache_is_filled_by_transformers_itself(packed):
    cache = packed.new_cache()
    assert not cache
    packed.model.generate(ids(1, 90), past_key_values=cache, max_new_tokens=5, min_new_tokens=5)
    assert cache
    assert cache.get_seq_length() == 94


def test_a_cache_that_was_left_is_an_error(packed):
    cache = packed.new_cache()
    tokens = packed.model.generate(ids(1, 60), past_key_values=cache, **length(20), **GREEDY)
    with pytest.raises(RuntimeError, match="past_key_values holds 64 of 79 tokens"):
        check_used(cache, tokens)
