"""What the wrappers of attention take and refuse, with every backend that runs here."""

from __future__ import annotations

import mmap

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import resolve_config
from oscar_x.kernels.compress import compress_blocks
from oscar_x.kernels.decode_attention import exact_attention, joint_attention, packed_attention

triton = pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on
BACKENDS = ["reference", "triton", "auto"]  # auto: on a CPU the compiled loops
BLOCK = 32
CONFIG = resolve_config(block_size=BLOCK, value_scale_rows=16, backend="reference")


@pytest.fixture
def call():
    """Arguments of packed_attention: two rows of three blocks."""
    torch.manual_seed(0)
    compressor = Compressor(CONFIG, 1, 64)
    records = compressor.compress(torch.randn(6, 1, BLOCK, 64), torch.randn(6, 1, BLOCK, 64))
    return {
        "query": torch.randn(2, 1, 2, 64, device=DEVICE),
        "records": records.to(DEVICE),
        "table": torch.arange(6, device=DEVICE).view(2, 3),
        "lengths": torch.full((2, 3), BLOCK, device=DEVICE),
        "layout": compressor.layout,
        "scaling": 0.2,
    }


def states(call, count: int):
    """Keys and values of the first `count` tokens of each row, [batch, 1, count, head_dim]."""
    both = Compressor(CONFIG, 1, 64).decompress(call["records"].cpu())
    return tuple(s.unflatten(0, (2, 3)).transpose(1, 2).flatten(2, 3)[:, :, :count].to(DEVICE) for s in both)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_lengths_about_a_block(call, backend: str, count: int) -> None:
    held = torch.tensor([min(max(count - at, 0), BLOCK) for at in (0, BLOCK, 2 * BLOCK)], device=DEVICE)
    call["lengths"] = held.expand(2, 3).contiguous()
    output, lse = packed_attention(**call, backend=backend)
    if count == 0:
        assert (output == 0).all()
        assert lse.isneginf().all()
        return
    expected, expected_lse = exact_attention(call["query"], *states(call, count), 0.2)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("used", [[3, 3], [2, 3], [0, 1], [0, 0]])
def test_what_is_past_used_is_not_looked_at(call, backend: str, used: list[int]) -> None:
    shown = dict(call)
    shown["lengths"], shown["table"] = call["lengths"].clone(), call["table"].clone()
    for row, count in enumerate(used):
        call["lengths"][row, count:] = 0
        shown["lengths"][row, count:], shown["table"][row, count:] = 10**6, -(10**6)
    exact = torch.randn(2, 2, 1, 7, 64, device=DEVICE)
    lengths = torch.tensor([7, 3], device=DEVICE)
    seen = (torch.arange(7, device=DEVICE) < lengths[:, None])[:, None, None]
    given = torch.tensor(used, device=DEVICE)
    found = joint_attention(**shown, keys=exact[0], values=exact[1], backend=backend, used=given, exact_lengths=lengths)
    expected = joint_attention(**call, keys=exact[0], values=exact[1], exact_visible=seen, backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_triton_reads_only_records_whatever_the_table_says(call) -> None:
    wild = dict(call, table=call["table"].clone(), lengths=call["lengths"].clone())
    wild["table"][0, 0], wild["table"][1, 2] = 10**9, -5
    wild["lengths"][0, 1], wild["lengths"][1, 0] = 10**9, -7
    call["table"][0, 0], call["table"][1, 2], call["lengths"][1, 0] = 5, 0, 0
    found = packed_attention(**wild, backend="triton")
    torch.testing.assert_close(found, packed_attention(**call, backend="triton"))


@pytest.mark.skipif(DEVICE != "cpu", reason="asking a GPU would wait for it")
@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lengths", BLOCK + 1, "lengths holds 33; allowed are 0 to 32"),
        ("lengths", -1, "lengths holds -1"),
        ("table", 6, "table holds 6; allowed are 0 to 5"),
        ("table", -1, "table holds -1"),
    ],
)
def test_numbers_out_of_range_are_refused(call, backend: str, name: str, value: int, words: str) -> None:
    call[name][1, 1] = value
    with pytest.raises(ValueError, match=words):
        packed_attention(**call, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda c: {"query": c["query"].long()}, TypeError, "query must be floating point"),
        (lambda c: {"records": c["records"].char()}, ValueError, "records must be uint8"),
        (lambda c: {"lengths": c["lengths"].int()}, TypeError, "int64"),
        (lambda c: {"table": c["table"].float()}, TypeError, "int64"),
        (lambda c: {"table": c["table"].repeat_interleave(2, 1)[:, ::2]}, ValueError, "table must be contiguous"),
        (lambda c: {"records": c["records"].repeat_interleave(2, 0)[::2]}, ValueError, "records must be contiguous"),
        (lambda c: {"query": c["query"].mT.contiguous().mT}, ValueError, "query must be contiguous along head_dim"),
        (lambda c: {"used": torch.ones(3, dtype=torch.int64)}, ValueError, r"used must be contiguous \[2\]"),
        (lambda c: {"used": torch.ones(2)}, TypeError, "used must be int64"),
    ],
)
def test_bad_arguments_are_named(call, backend: str, change, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        packed_attention(**{**call, **change(call)}, backend=backend)


def test_bad_exact_tokens_are_named(call) -> None:
    keys = torch.randn(2, 1, 5, 64, device=DEVICE)
    for change, error, words in (
        ({"keys": keys.long()}, TypeError, "keys must be floating point"),
        ({"values": keys.mT.contiguous().mT}, ValueError, "values must be contiguous along head_dim"),
        ({"exact_lengths": torch.ones(2, dtype=torch.int32, device=DEVICE)}, TypeError, "exact tokens must be int64"),
    ):
        with pytest.raises(error, match=words):
            joint_attention(**{**call, "keys": keys, "values": keys, **change}, backend="triton")


@pytest.mark.skipif(DEVICE != "cpu", reason="asking a GPU would wait for it")
def test_ids_out_of_a_pool_are_refused(call) -> None:
    blocks = torch.randn(2, 1, BLOCK, 64)
    for ids, words in (([0, 6], "ids holds 6; allowed are 0 to 5"), ([-1, 0], "ids holds -1")):
        with pytest.raises(ValueError, match=words):
            compress_blocks(blocks, blocks, call["layout"], call["records"], torch.tensor(ids), backend="triton")


@pytest.mark.parametrize("backend", BACKENDS)
def test_pools_past_2_to_the_31_bytes(call, backend: str, monkeypatch) -> None:
    """Writes and reads the last records of a pool of which only those take memory."""
    layout, count = call["layout"], 2**31 // call["layout"].record_bytes + 10
    if DEVICE == "cpu":
        # the interpreter would copy the pool onto itself, and so make all of it take memory
        monkeypatch.setattr(triton.runtime.interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)
        pool = torch.frombuffer(mmap.mmap(-1, count * layout.record_bytes), dtype=torch.uint8)
    else:
        pool = torch.empty(count * layout.record_bytes, dtype=torch.uint8, device=DEVICE)
    pool = pool.view(count, layout.record_bytes)
    ids = torch.arange(count - 6, count, device=DEVICE)
    torch.manual_seed(0)
    compressor = Compressor(CONFIG, 1, 64)
    blocks = [torch.randn(6, 1, BLOCK, 64) for _ in range(2)]
    compress_blocks(*(part.to(DEVICE) for part in blocks), layout, pool, ids, backend=backend)
    few = compressor.compress(*blocks).to(DEVICE)
    assert not torch.equal(pool[-6:], torch.zeros_like(few))
    found = packed_attention(**{**call, "records": pool, "table": ids.view(2, 3)}, backend=backend)
    expected = packed_attention(**{**call, "records": pool[-6:].clone()}, backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    # and they are the blocks that went in: kernels round a few codes the other way
    assert (pool[-6:] == few).float().mean() > 0.95
