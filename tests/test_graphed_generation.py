"""generate(graphed=True) writes what generate() does, and says what it does not do."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GenerationConfig, StoppingCriteria

import oscar_x
from oscar_x import CacheSettings, OscarCache, OscarConfig, graphed_generation
from oscar_x.evals.tiny_omni import clips

SETTINGS = OscarConfig(residual_length=16, block_size=32)
TEXTS = ["Once upon a time", "The quick brown fox jumps over the lazy dog. " * 3]
LONG = {"max_new_tokens": 70, "min_new_tokens": 70}  # blocks are packed on the way
GREEDY = {"do_sample": False, **LONG}
SAMPLED = {"do_sample": True, "temperature": 1.5, "top_k": 40, "repetition_penalty": 1.2, **LONG}


@pytest.fixture(scope="module")
def model(tiny):
    loaded = oscar_x.load(tiny("llama"), device="cpu")
    loaded.settings = CacheSettings.of(SETTINGS)
    return loaded


@pytest.fixture(scope="module")
def omni():
    loaded = oscar_x.load("tiny-omni", device="cpu", dtype="float32")
    loaded.settings = CacheSettings.of(SETTINGS)
    return loaded


@pytest.fixture(autouse=True)
def steps(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the tokens that steps of fixed shapes were given."""
    seen: list[tuple[int, ...]] = []

    class Counted(graphed_generation.GraphedDecode):
        def step(self, input_ids, position_ids=None):
            seen.append(tuple(input_ids.shape))
            return super().step(input_ids, position_ids)

    monkeypatch.setattr(graphed_generation, "GraphedDecode", Counted)
    return seen


def both(model, inputs, **arguments):
    """What generate() and generate(graphed=True) return from the same random numbers."""
    found = []
    for graphed in (False, True):
        torch.manual_seed(0)
        found.append(model.generate(inputs, graphed=graphed, **arguments))
    return found


class Streamer:
    def __init__(self) -> None:
        self.pieces: list[list] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


class StopRowsAt(StoppingCriteria):
    """Ends a row where it has so many tokens."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = torch.tensor(lengths)

    def __call__(self, input_ids, scores, **kwargs):
        return self.lengths <= input_ids.shape[1]


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_tokens_are_those_of_transformers_loop(model, steps, settings) -> None:
    expected, found = both(model, TEXTS, **settings)
    assert torch.equal(found, expected)
    assert steps == [(2, 1)] * 69
    assert model.memory().columns == found.shape[1] - 1


@pytest.mark.parametrize("family", ["qwen2", "qwen3_moe"])
def test_other_families(tiny, family) -> None:
    expected, found = both(oscar_x.load(tiny(family), device="cpu"), TEXTS, **{**GREEDY, **SAMPLED})
    assert torch.equal(found, expected)


def test_several_sequences_of_one_prompt(model) -> None:
    expected, found = both(model, TEXTS[0], num_return_sequences=3, **SAMPLED)
    assert torch.equal(found, expected)
    assert found[0].tolist() != found[1].tolist()


def test_rows_that_end_earlier_are_padded(model, steps) -> None:
    torch.manual_seed(0)
    settings = {"do_sample": True, "max_new_tokens": 40, "pad_token_id": 0}
    free = model.generate(TEXTS, eos_token_id=-1, **settings)[:, -40:]
    ends = [int(free[0, 5]), int(free[1, 20])]
    expected, found = both(model, TEXTS, eos_token_id=ends, **settings)
    assert torch.equal(found, expected)
    lengths = (found[:, -len(steps) - 1 :] != 0).sum(1).tolist()
    assert lengths[0] != lengths[1]
    assert len(steps) == max(lengths) - 1 < 39


def test_outputs(model) -> None:
    expected, found = both(model, TEXTS, return_dict_in_generate=True, output_scores=True, output_logits=True, **GREEDY)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.stack(found.scores), torch.stack(expected.scores), rtol=1e-4, atol=1e-4)
    assert type(found) is type(expected)
    assert found.past_key_values.get_seq_length() == expected.past_key_values.get_seq_length()


def test_streamers_get_the_same(model) -> None:
    streamers = Streamer(), Streamer()
    for graphed, streamer in enumerate(streamers):
        model.generate(TEXTS[0], graphed=bool(graphed), streamer=streamer, max_new_tokens=9, do_sample=False)
    assert streamers[1].pieces == streamers[0].pieces
    assert len(streamers[1].pieces) == 10
    assert streamers[1].ended == 1


def test_stopping_criteria(model, steps) -> None:
    length = len(TEXTS[1])
    expected, found = both(model, TEXTS, stopping_criteria=[StopRowsAt(length + 4, length + 8)], **GREEDY)
    assert torch.equal(found, expected)
    assert found.shape[1] == length + 8
    assert len(steps) == 7


def test_stop_strings(model) -> None:
    torch.manual_seed(0)
    free = [model.processor.decode([token]) for token in model.generate(TEXTS[1], **SAMPLED)[0, len(TEXTS[1]) :]]
    stop = [piece for piece in free if len(piece) == 1 and piece.isascii() and piece.isprintable()][5]
    expected, found = both(model, TEXTS[1], stop_strings=[stop], tokenizer=model.processor, **SAMPLED)
    assert torch.equal(found, expected)
    assert 1 < found.shape[1] - len(TEXTS[1]) == free.index(stop) + 1 < 70


def test_one_token_takes_no_step(model, steps) -> None:
    expected, found = both(model, TEXTS, max_new_tokens=1, do_sample=False)
    assert torch.equal(found, expected)
    assert not steps


def test_a_given_cache_is_continued(model) -> None:
    first = model.processor(TEXTS, return_tensors="pt", padding=True, padding_side="left")
    found = []
    for graphed in (False, True):
        cache = model.new_cache()
        start = model.generate(
            first["input_ids"],
            attention_mask=first["attention_mask"],
            past_key_values=cache,
            graphed=graphed,
            **GREEDY,
        )
        more = torch.cat([start, torch.full((2, 5), 40)], 1)
        mask = torch.cat([first["attention_mask"], first["attention_mask"].new_ones(2, 75)], 1)
        answer = model.generate(more, attention_mask=mask, past_key_values=cache, graphed=graphed, **GREEDY)
        found.append((start, answer, cache.packed_reads))
    assert torch.equal(found[1][0], found[0][0])
    assert torch.equal(found[1][1], found[0][1])
    assert found[1][2] == found[0][2] > 0


def test_a_prompt_read_in_chunks(model) -> None:
    expected, found = both(model, TEXTS, prefill_chunk_size=50, **GREEDY)
    assert torch.equal(found, expected)


def test_a_prompt_of_embeddings(model) -> None:
    ids = model.processor(TEXTS[1], return_tensors="pt")["input_ids"]
    expected, found = both(model, None, inputs_embeds=model.model.get_input_embeddings()(ids), **GREEDY)
    assert torch.equal(found, expected)
    assert found.shape[1] == 70


def test_chat_stream_and_sessions(model, steps) -> None:
    settings = {"max_new_tokens": 30, "do_sample": False}
    expected = model.chat(TEXTS[1], **settings)
    assert not steps
    assert model.chat(TEXTS[1], graphed=True, **settings) == expected
    assert "".join(model.stream(TEXTS[1], graphed=True, **settings)) == expected
    assert len(steps) == 58
    asked = []
    for graphed in (False, True):
        session = model.new_session(TEXTS[1])
        answers = [session.ask(question, graphed=graphed, **settings) for question in ("One?", "Two?")]
        asked.append((answers, session.tokens))
    assert asked[1] == asked[0]


def test_a_clip_with_sound(omni, steps) -> None:
    """Positions on three axes, generated tokens behind media, and media behind generated tokens."""
    first, second = (next(clips("held-out", length=4, start=number, seed=7)) for number in range(2))
    said = []
    for graphed in (False, True):
        session = omni.new_session(first.content(), use_audio_in_video=True)
        torch.manual_seed(0)
        answers = [session.ask(first.questions[0].text, graphed=graphed, **SAMPLED)]
        answers.append(session.ask([*second.content(), "How many dots are there?"], graphed=graphed, **SAMPLED))
        said.append((answers, session.tokens))
        positions = session.cache.modalities.positions
        assert positions is not None
    assert said[1] == said[0]
    assert len(steps) == 2 * 69
    prompt = omni.prepare([{"role": "user", "content": [*first.content(), "?"]}], use_audio_in_video=True)
    expected, found = both(omni, prompt, **SAMPLED)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_images_in_a_ragged_batch(tiny_media, support, family) -> None:
    make = support("tiny_media")
    loaded = oscar_x.load(tiny_media(family), device="cpu")
    loaded.settings = CacheSettings.of(SETTINGS)
    kinds = make.load_family(family).kinds
    ragged = support("media_cases").cases(make, kinds, loaded.adapter.media)["ragged batch"]
    expected, found = both(loaded, loaded.prepare(ragged), **GREEDY)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "does not go with beam search; allowed are greedy decoding and sampling"),
        ({"prompt_lookup_num_tokens": 3}, "does not go with assisted generation"),
        ({"assistant_model": object()}, "does not go with assistant_model"),
        ({"custom_generate": "somebody/something"}, "does not go with custom_generate"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "does not go with output_attentions=True"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states=True"),
        ({"use_cache": False}, "does not go with use_cache=False"),
        ({"stop_strings": "x"}, "stop_strings needs tokenizer"),
        ({"generation_config": GenerationConfig(stop_strings="x")}, "takes stop_strings as an argument"),
        ({"past_key_values": transformers.DynamicCache()}, "needs an OscarCache as past_key_values, not DynamicCache"),
    ],
)
def test_what_it_does_not_do(model, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(TEXTS[0], graphed=True, max_new_tokens=4, **settings)


def test_a_refusal_leaves_the_cache_as_it_was(model) -> None:
    cache, twin = model.new_cache(), model.new_cache()
    start = model.generate(TEXTS[1], past_key_values=cache, max_new_tokens=2, do_sample=False)
    model.generate(TEXTS[1], past_key_values=twin, max_new_tokens=2, do_sample=False)
    for wrong in ({"num_beams": 2}, {"generation_config": GenerationConfig(dola_layers="low")}):
        with pytest.raises(ValueError, match="graphed=True does not go with"):
            model.generate(start, past_key_values=cache, graphed=True, **wrong)
    hiding = torch.ones_like(start)
    hiding[0, 3] = 0
    with pytest.raises(ValueError, match=r"attention_mask hides tokens that the cache holds; rows hold \[136\]"):
        model.generate(start, attention_mask=hiding, past_key_values=cache, graphed=True, **GREEDY)
    assert cache.get_seq_length() == twin.get_seq_length()
    found = model.generate(start, past_key_values=cache, graphed=True, **GREEDY)
    assert torch.equal(found, model.generate(start, past_key_values=twin, **GREEDY))


def test_caches_that_are_not_for_it(model, tiny) -> None:
    for refused in (oscar_x.load(tiny("gemma3"), device="cpu"), oscar_x.load(tiny("llama"), kv_bits=16, device="cpu")):
        with pytest.raises(ValueError, match=r"graphed=True: cache has layers that are not compressed, \[0, 1"):
            refused.generate(TEXTS[0], graphed=True, max_new_tokens=4)
    with pytest.raises(ValueError, match="graphed=True: cache keeps layers on the CPU"):
        model.generate(TEXTS[0], graphed=True, past_key_values=model.new_cache(offloading=True))
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"))
    with pytest.raises(ValueError, match="graphed=True: model must have attention 'oscar'"):
        graphed_generation.graphed_arguments(other, {"past_key_values": OscarCache(other.config)})


def test_a_transformers_without_the_hook(model, monkeypatch) -> None:
    monkeypatch.setattr(type(model.generator), "generate", lambda self, inputs=None, **kwargs: None)
    with pytest.raises(RuntimeError, match=f"transformers {transformers.__version__} takes no decoding method"):
        model.generate(TEXTS[0], graphed=True)
