"""OscarModel: what goes in, what comes out, which cache was used."""

from __future__ import annotations

import gc
import threading
import time

import pytest
import torch
from transformers import DynamicCache

import oscar_x

TEXT = "The quick brown fox jumps over the lazy dog. " * 8


def greedy(count: int) -> dict:
    """Exactly so many new tokens, without chance."""
    return {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}


GREEDY = greedy(6)


@pytest.fixture(scope="module")
def loaded(tiny):
    return oscar_x.load(tiny("llama"), device="cpu")


def test_kinds_of_input_agree(loaded):
    encoded = loaded.processor(TEXT, return_tensors="pt")
    encoded.pop("token_type_ids", None)
    expected = loaded.generate(TEXT, **GREEDY)
    assert expected.shape == (1, len(TEXT) + 6)
    for inputs in ([TEXT], encoded["input_ids"], encoded, dict(encoded)):
        assert torch.equal(loaded.generate(inputs, **GREEDY), expected)
    assert torch.equal(loaded.generate(**encoded, **GREEDY), expected)


def test_a_batch_is_padded_on_the_left(loaded):
    short, long = "Once upon a time", TEXT
    batch = loaded.generate([short, long], **GREEDY)
    assert batch.shape == (2, len(long) + 6)
    assert (batch[0, : len(long) - len(short)] == loaded.processor.pad_token_id).all()
    assert torch.equal(batch[0, -6:], loaded.generate(short, **GREEDY)[0, -6:])
    assert torch.equal(batch[1], loaded.generate(long, **GREEDY)[0])


def test_a_tokenizer_without_padding_token_pads(tiny):
    loaded = oscar_x.load(tiny("llama"), device="cpu")
    loaded.processor.pad_token = None
    assert loaded.generate(["a", "abc"], **GREEDY).shape == (2, 9)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([], ValueError, r"inputs=\[\] is empty"),
        ("", ValueError, "a text without tokens"),
        (["abc", ""], ValueError, "a text without tokens"),
        (7, TypeError, "must be a text, a list of texts"),
        ([1, 2], TypeError, "must be a text, a list of texts"),
        (torch.zeros(3, dtype=torch.long), ValueError, r"token ids \[batch, length\]"),
        (torch.zeros(1, 3), ValueError, r"token ids \[batch, length\]"),
    ],
)
def test_wrong_inputs(loaded, inputs, error, message):
    with pytest.raises(error, match=message):
        loaded.generate(inputs, **GREEDY)


def test_the_same_tensor_twice_is_refused(loaded):
    with pytest.raises(ValueError, match="input_ids given both in inputs and as keyword"):
        loaded.generate(torch.ones(1, 3, dtype=torch.long), input_ids=torch.ones(1, 3, dtype=torch.long))


def test_memory_is_the_last_cache(tiny):
    loaded = oscar_x.load(tiny("llama"), device="cpu")
    with pytest.raises(RuntimeError, match="no cache has been used"):
        loaded.memory()
    loaded.generate(TEXT, **GREEDY)
    # the last token is never fed back
    assert loaded.memory().columns == len(TEXT) + 5
    own = loaded.new_cache()
    loaded.generate("Once upon", past_key_values=own, **GREEDY)
    assert loaded.memory() == own.memory()
    loaded.generate("Once upon", past_key_values=DynamicCache(config=loaded.model.config), **GREEDY)
    with pytest.raises(RuntimeError, match="DynamicCache was used"):
        loaded.memory()


def test_a_given_cache_is_continued(loaded):
    cache = loaded.new_cache()
    first = loaded.generate(TEXT, past_key_values=cache, **GREEDY)
    before = cache.get_seq_length()
    loaded.generate(first, past_key_values=cache, **GREEDY)
    assert cache.get_seq_length() == before + 6


def test_without_cache(loaded):
    short = greedy(2)
    assert torch.equal(loaded.generate("Once", use_cache=False, **short), loaded.generate("Once", **short))


def test_16_bits_compresses_nothing(tiny):
    loaded = oscar_x.load(tiny("llama"), kv_bits=16, device="cpu")
    loaded.generate(TEXT, **GREEDY)
    report = loaded.memory()
    assert report.packed_elements == 0
    assert report.codes == 0
    assert not any(layer.compressed for layer in loaded.report())


def test_chat_uses_the_template(loaded):
    messages = [{"role": "user", "content": "Hello"}]
    prompt = loaded.prepare(messages)
    text = loaded.processor.decode(prompt["input_ids"][0])
    assert text == "<|start|>user\nHello<|end|>\n<|start|>assistant\n"
    answer = loaded.chat(messages, **GREEDY)
    assert answer == loaded.chat("Hello", **GREEDY)
    tokens = loaded.generate(prompt, **GREEDY)
    assert answer == loaded.processor.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def test_chat_without_template_is_plain_text(tiny):
    loaded = oscar_x.load(tiny("llama"), device="cpu")
    loaded.processor.chat_template = None
    prompt = loaded.prepare([{"role": "user", "content": c} for c in ("One", "two")])
    assert loaded.processor.decode(prompt["input_ids"][0]) == "One\n\ntwo"
    assert isinstance(loaded.chat("Hello", **GREEDY), str)


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], ["Hello"], [{"content": "Hello"}]])
@pytest.mark.parametrize("method", ["chat", "stream"])
def test_wrong_messages_are_an_error_at_once(loaded, method, messages):
    with pytest.raises(ValueError, match=r"messages?.*role.*content"):
        getattr(loaded, method)(messages)


def stream_threads():
    return [thread for thread in threading.enumerate() if thread.name == "oscar-x-stream"]


def test_stream_is_chat_in_pieces(loaded):
    options = greedy(40)
    pieces = list(loaded.stream("Hello", **options))
    assert "".join(pieces) == loaded.chat("Hello", **options)
    assert all(pieces)
    assert not stream_threads()


def test_stream_raises_what_generation_raises(loaded):
    stream = loaded.stream("Hello", num_beams=2, **GREEDY)
    with pytest.raises(ValueError, match="beam"):
        list(stream)
    assert not stream_threads()


def test_an_error_in_the_middle_comes_after_the_text_before_it(loaded):
    from transformers import LogitsProcessorList

    calls = []

    def fail_at_20(input_ids, scores):
        calls.append(1)
        if len(calls) == 20:
            raise ZeroDivisionError("in the middle")
        return scores

    pieces = []
    with pytest.raises(ZeroDivisionError, match="in the middle"):
        pieces.extend(
            loaded.stream(
                "Hello", logits_processor=LogitsProcessorList([fail_at_20]), **GREEDY | {"max_new_tokens": 99}
            )
        )
    assert len(calls) == 20


@pytest.mark.parametrize("how", ["close", "drop"])
def test_an_abandoned_stream_stops(loaded, how):
    stream = loaded.stream("Hello", **greedy(3000))
    next(stream)
    assert stream_threads()
    if how == "close":
        stream.close()
    del stream
    gc.collect()
    deadline = time.monotonic() + 20
    while stream_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not stream_threads()
    assert loaded.memory().columns < 3000


def test_a_stream_never_read_starts_nothing(loaded):
    stream = loaded.stream("Hello", **GREEDY)
    assert not stream_threads()
    del stream


def test_repr_and_report(loaded):
    assert "LlamaForCausalLM" in repr(loaded)
    assert "2 of 2 layers at 2." in repr(loaded)
    lines = [str(layer) for layer in loaded.report()]
    assert len(lines) == 2
    assert "full_attention" in lines[0]
    assert "compressed" in lines[0]
    assert loaded.report()[0].to_dict()["head_dim"] == 64


def test_report_names_the_key_bias(tiny, support, tmp_path):
    model = support("tiny").tiny_model("qwen2")
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.bias[0] = 600.0
    model.save_pretrained(tmp_path)
    support("tiny").tiny_tokenizer().save_pretrained(tmp_path)
    loaded = oscar_x.load(tmp_path, device="cpu")
    assert list(loaded.key_biases) == [1]
    first, second = loaded.report()
    assert first.key_bias_ratio == 0.0
    assert not first.key_bias_removed
    assert second.key_bias_ratio > 1
    assert "taken out" in str(second)
    assert not oscar_x.load(tmp_path, kv_bits=16, device="cpu").key_biases


def test_assisted_decoding_gives_the_tokens_of_greedy_decoding(tiny):
    model = oscar_x.load(tiny("llama"), device="cpu")
    prompt = torch.arange(3, 303)[None] % 90
    # prompt lookup of transformers 5.0 needs the id of an end token, and may go one token past max_new_tokens
    settings = {"max_new_tokens": 60, "min_new_tokens": 60, "do_sample": False, "eos_token_id": 2}
    greedy = model.generate(prompt, **settings)
    assisted = model.generate(prompt, prompt_lookup_num_tokens=6, **settings)
    assert assisted[:, :360].tolist() == greedy.tolist()
