"""The compiled CPU loops: what they take, what they leave to the reference, and any number of threads."""

from __future__ import annotations

import logging

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS, resolve_config
from oscar_x.kernels.decode_attention import backends, cpu, packed_attention


def blocks(config, count: int = 5):
    torch.manual_seed(0)
    compressor = Compressor(config, 2, 64)
    shape = (count, 2, config.block_size, 64)
    records = compressor.compress(torch.randn(shape), torch.randn(shape))
    lengths = torch.full((1, count), config.block_size)
    return compressor.layout, records, torch.arange(count)[None], lengths


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 3, cpu.MOST_ROWS])
def test_any_number_of_threads_gives_the_reference(threads: int, rows: int) -> None:
    layout, records, table, lengths = blocks(PRESETS["balanced"])
    lengths[0, 0], lengths[0, 3] = 17, 0
    query = torch.randn(1, 2, rows, 64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        output, lse = packed_attention(query, records, table, lengths, layout, 0.2)
    finally:
        torch.set_num_threads(before)
    expected, expected_lse = packed_attention(query, records, table, lengths, layout, 0.2, backend="reference")
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-5, atol=1e-4)


def test_a_row_without_tokens_gives_zeros() -> None:
    layout, records, table, lengths = blocks(PRESETS["paper"])
    output, lse = packed_attention(torch.randn(1, 2, 1, 64), records, table, 0 * lengths, layout, 0.2)
    assert (output == 0).all()
    assert lse.isneginf().all()


def test_what_it_leaves_to_the_reference() -> None:
    layout = blocks(PRESETS["balanced"])[0]
    query = torch.randn(1, 2, 3, 64)
    assert cpu.fits(query, layout, None, False)
    assert not cpu.fits(torch.randn(1, 2, cpu.MOST_ROWS + 1, 64), layout, None, False)
    assert not cpu.fits(query, layout, torch.ones(1, dtype=torch.bool), False)
    assert not cpu.fits(query, layout, None, True)
    per_channel = blocks(resolve_config(value_grouping="per_channel"))[0]
    assert not cpu.fits(query, per_channel, None, False)


def test_without_numba_the_reference_runs_and_says_so_once(monkeypatch, caplog) -> None:
    layout, records, table, lengths = blocks(PRESETS["balanced"])
    query = torch.randn(1, 2, 3, 64)
    expected, _ = packed_attention(query, records, table, lengths, layout, 0.2, backend="reference")
    cpu.compiled_loops.cache_clear()
    monkeypatch.setattr(cpu, "find_spec", lambda name: None)
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                output, _ = packed_attention(query, records, table, lengths, layout, 0.2)
    finally:
        cpu.compiled_loops.cache_clear()
    assert torch.equal(output, expected)
    assert sum("numba is not installed" in record.message for record in caplog.records) == 1


def test_the_choice_can_be_asked_for() -> None:
    assert backends()["cpu"].startswith("compiled loops")
    assert backends()["cuda"] == "Triton kernels"
