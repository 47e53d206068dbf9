"""Decoding steps of fixed shapes give the tokens of ordinary ones, and nothing about them changes from step to step."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from oscar_x import OscarConfig
from oscar_x.attention import register
from oscar_x.cache import OscarCache
from oscar_x.graphed_decode import GraphedDecode
from oscar_x.kernels.key_bias import KeyBias

SETTINGS = OscarConfig(residual_length=16, block_size=32)


@pytest.fixture(scope="module")
def model(support):
    register()
    made = support("tiny").tiny_model("llama")
    made.set_attn_implementation("oscar")
    return made


@pytest.fixture
def prompted(model):
    """``prompted(settings, padding, tokens)``: a cache that read a prompt of two rows, and each one's next token."""

    def make(settings=SETTINGS, padding=0, tokens=70, key_biases=None):
        cache = OscarCache(model.config, settings, key_biases=key_biases)
        ids = torch.randint(3, 250, (2, tokens), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[1, :padding] = 0
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            call = {"attention_mask": mask, "position_ids": positions} if padding else {}
            logits = model(input_ids=ids, past_key_values=cache, **call).logits
        return cache, logits[:, -1].argmax(-1, keepdim=True)

    return make


def ordinary(model, cache, token, count, padding=0):
    found = []
    for _ in range(count):
        call = {}
        if padding:
            mask = torch.ones(2, cache.get_seq_length() + 1, dtype=torch.int64)
            mask[1, :padding] = 0
            call = {"attention_mask": mask, "position_ids": mask.sum(1, keepdim=True) - 1}
        with torch.no_grad():
            found.append(model(input_ids=token, past_key_values=cache, **call).logits[:, -1])
        token = found[-1].argmax(-1, keepdim=True)
    return torch.stack(found, 1)


def graphed(decoding, token, count):
    found = []
    for _ in range(count):
        found.append(decoding.step(token))
        token = found[-1].argmax(-1, keepdim=True)
    return torch.stack(found, 1)


def same(found, expected):
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", [0, 21])
@pytest.mark.parametrize("room", [8, 200])
def test_tokens_are_those_of_ordinary_steps(model, prompted, padding: int, room: int) -> None:
    cache, token = prompted(padding=padding)
    twin = cache.fork()
    expected = ordinary(model, cache, token, 60, padding)
    same(graphed(GraphedDecode(model, twin, tokens=room), token, 60), expected)
    assert twin.packed_reads == cache.packed_reads > 0
    for mine, theirs in zip(twin.layers[1].rows, cache.layers[1].rows, strict=True):
        assert (mine.spans, mine.exact, mine.lengths) == (theirs.spans, theirs.exact, theirs.lengths)


def test_a_cache_without_packed_blocks(model, prompted) -> None:
    cache, token = prompted(tokens=10)
    twin = cache.fork()
    expected = ordinary(model, cache, token, 50)
    same(graphed(GraphedDecode(model, twin), token, 50), expected)


def test_a_key_bias(model, prompted) -> None:
    layers = range(model.config.num_hidden_layers)
    biases = {layer: KeyBias(torch.full((2, 64), 3.0), 1e4 ** -(torch.arange(32) / 32)) for layer in layers}
    cache, token = prompted(key_biases=biases, tokens=40)
    twin = cache.fork()
    expected = ordinary(model, cache, token, 30)
    same(graphed(GraphedDecode(model, twin), token, 30), expected)


def test_tritons_kernels_see_the_same_shapes_at_every_step(support) -> None:
    """What a captured graph asks for: operators, shapes and the places of what is kept do not change."""
    pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
    if torch.cuda.is_available():
        pytest.skip("the interpreter is off; the same is checked on the GPU itself")
    small = support("tiny").tiny_model("llama", num_hidden_layers=1)
    small.set_attn_implementation("oscar")
    cache = OscarCache(small.config, OscarConfig(residual_length=16, block_size=32, backend="triton"))
    with torch.no_grad():
        small(input_ids=torch.arange(3, 167).view(2, 82), past_key_values=cache)
    twin, token = cache.fork(), torch.tensor([[5], [6]])
    for layer in twin.packed_layers:
        layer.oscar = SETTINGS  # the same blocks, read by another backend
    decoding, found, runs = GraphedDecode(small, cache, tokens=64), [], []
    for _ in range(3):  # a block is packed on the way
        with _Calls() as calls:
            found.append(decoding.step(token))
        runs.append([call for call in calls.seen if "packed_attention" in call[0]])
    assert len(runs[0]) == 1
    assert runs[1] == runs[2] == runs[0]
    assert cache.layers[0].packed_tokens > twin.layers[0].packed_tokens
    for logits in found:
        with torch.no_grad():
            expected = small(input_ids=token, past_key_values=twin).logits[:, -1]
        # a code that is rounded the other way shows in every later token
        assert (logits - expected).norm() <= 5e-3 * expected.norm()


class _Calls(TorchDispatchMode):
    """Every operator with its tensors' shapes and, of those that were there before, places."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        flat, _ = torch.utils._pytree.tree_flatten((args, kwargs or {}))
        # args[0], the query, is made anew in every step
        tensors = [(tuple(t.shape), t.stride(), at and t.data_ptr()) for at, t in enumerate(flat) if _is_tensor(t)]
        self.seen.append((str(function), tensors))
        return function(*args, **(kwargs or {}))


def _is_tensor(value) -> bool:
    return isinstance(value, torch.Tensor)


def test_the_cache_may_be_used_in_between(model, prompted) -> None:
    cache, token = prompted()
    twin = cache.fork()
    decoding = GraphedDecode(model, cache, tokens=64)
    for change in (
        lambda held: held.crop(-9),
        lambda held: held.reorder_cache(torch.tensor([1, 0])),
        lambda held: held.flush(),
        lambda held: ordinary(model, held, token, 3),
        lambda held: held.batch_repeat_interleave(2),
        lambda held: held.batch_select_indices(torch.tensor([0, 3])),
    ):
        change(cache)
        change(twin)
        rows = len(cache.layers[0].rows)
        again = token[:1].expand(rows, 1)
        same(graphed(decoding, again, 6), ordinary(model, twin, again, 6))


def test_reserved_storage_stays_where_it_is(model, prompted) -> None:
    cache, token = prompted()
    layer = cache.layers[0]
    assert layer.reserve(100) >= 4
    before = layer.pool.records.data_ptr(), layer.exact.keys.data_ptr()
    ordinary(model, cache, token, 100)
    assert (layer.pool.records.data_ptr(), layer.exact.keys.data_ptr()) == before
    assert cache.memory().total == cache.memory().slack + sum(
        getattr(cache.memory(), part) for part in ("codes", "scales", "norms", "sinks", "residual", "other")
    )


def test_what_cannot_be_is_refused(model, prompted, support) -> None:
    with pytest.raises(ValueError, match="no prompt"):
        GraphedDecode(model, OscarCache(model.config, SETTINGS))
    cache, token = prompted()
    with pytest.raises(ValueError, match=r"input_ids has shape \(1, 1\); the cache takes \(2, 1\)"):
        GraphedDecode(model, cache).step(token[:1])
    sliding = support("tiny").tiny_model("llama")
    with pytest.raises(ValueError, match="attention 'oscar'"):
        GraphedDecode(sliding, cache)
    mixed = OscarCache(model.config, [SETTINGS, OscarConfig(key_bits=16, value_bits=16)])
    with torch.no_grad():
        model(input_ids=torch.ones(1, 20, dtype=torch.int64), past_key_values=mixed)
    with pytest.raises(ValueError, match=r"not compressed, \[1\]"):
        GraphedDecode(model, mixed)
    spread = support("tiny").tiny_model("llama")
    spread.set_attn_implementation("oscar")
    spread.lm_head.to("meta")
    with pytest.raises(ValueError, match="model is spread over cpu, meta; a captured step runs on one device"):
        GraphedDecode(spread, cache)
    longrope = {"short_factor": [1.0] * 32, "long_factor": [2.0] * 32, "original_max_position_embeddings": 64}
    for kind, settings in {"dynamic": {"factor": 2.0}, "longrope": longrope}.items():
        rope = {"rope_type": kind, "rope_theta": 1e4, **settings}
        stretched = support("tiny").tiny_model("llama", rope_parameters=rope)
        stretched.set_attn_implementation("oscar")
        with pytest.raises(ValueError, match=f"rope_type '{kind}'"):
            GraphedDecode(stretched, cache)
    with pytest.raises(ValueError, match="reserve"):
        OscarCache(model.config, SETTINGS).layers[0].reserve(1)
