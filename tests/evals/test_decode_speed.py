"""The decoding benchmark: every cache is given the same context, and the figures are of what it timed."""

from __future__ import annotations

import torch

from oscar_x.evals.decode_speed import WARM_UPS, caches, time_decoding


def test_every_cache_decodes_the_same_context(support) -> None:
    model = support("tiny").tiny_model("llama")
    made = {}

    def keep(name, make):
        def maker():
            made[name] = make()
            return made[name]

        return maker

    makers = {name: keep(name, make) for name, make in caches(model).items() if name != "quanto-2"}
    seen = []
    rows = time_decoding(model, torch.arange(3, 303)[None] % 90, makers, 3, lambda *step: seen.append(step))
    assert [row.backend for row in rows] == list(makers)
    for row in rows:
        assert made[row.backend].get_seq_length() == 300 + WARM_UPS + 3
        assert 0 < row.ms <= row.slowest_ms
        assert row.speedup_over_quanto is None
        assert row.speedup_over_full == rows[0].ms / row.ms
    for name in ("oscar-paper", "oscar-balanced", "oscar-max"):
        assert made[name].packed_reads > 0
    assert seen
    assert rows[0].cache_bytes > rows[-1].cache_bytes > 0


def test_a_context_is_decoded_in_several_sequences_with_bytes_of_their_own(support) -> None:
    model = support("tiny").tiny_model("llama")
    makers = {name: make for name, make in caches(model).items() if name in ("full", "oscar-balanced")}
    tokens = torch.arange(3, 303)[None] % 90
    one, three = (time_decoding(model, tokens, makers, 1, copies=copies) for copies in (1, 3))
    for alone, together in zip(one, three, strict=True):
        assert (alone.batch, together.batch, together.context) == (1, 3, 300)
        assert 2.5 * alone.cache_bytes < together.cache_bytes < 3.5 * alone.cache_bytes
        assert together.short_ms > 0


def test_quanto_is_timed_where_it_is_installed(support) -> None:
    model = support("tiny").tiny_model("llama")
    rows = time_decoding(model, torch.arange(3, 203)[None] % 90, caches(model), 2)
    quanto = next(row for row in rows if row.backend == "quanto-2")
    assert quanto.speedup_over_quanto == 1
    assert rows[-1].speedup_over_quanto == quanto.ms / rows[-1].ms
