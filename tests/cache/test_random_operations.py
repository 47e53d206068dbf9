"""Random programs of cache operations, compared with a plain model of the cache after every step."""

from __future__ import annotations

from types import ModuleType

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from oscar_x import OscarConfig
from oscar_x.cache import OscarCache
from oscar_x.modality import Modality, ModalityStream

SMALL = {"key_group_size": 8, "value_group_size": 8, "value_scale_rows": 16}
SMALL |= {"sink_tokens": 3, "residual_length": 20, "block_size": 16}
SETTINGS = [
    OscarConfig(**SMALL),
    OscarConfig(**{**SMALL, "sink_tokens": 0, "residual_length": 0}, key_bits=3, token_norm="none", scale_bits=16),
    OscarConfig(**{**SMALL, "block_size": 32}, value_grouping="per_channel", token_norm="shared", norm_bits=16),
    OscarConfig(**SMALL, modality_split=1.0, modality_split_run=6),
    OscarConfig(**SMALL, online=True, modality_split=1.0, modality_split_run=6),
]
HEADS, HEAD_DIM = 2, 16
MOST_TOKENS = 400


class RowRules(RuleBasedStateMachine):
    """What adds tokens, takes them back and chooses rows. Caches stand beside their plain rows in ``pairs``."""

    plain: ModuleType
    harness: ModuleType
    attention: str

    @initialize(
        batch=st.integers(1, 3), choice=st.sampled_from(SETTINGS), dtype=st.sampled_from(["float32", "bfloat16"])
    )
    def start(self, batch, choice, dtype):
        self.settings, self.dtype, self.seed = choice, getattr(torch, dtype), 0
        self.config = self.harness.model_config(self.attention, heads=HEADS, head_dim=HEAD_DIM)
        rows = [self.plain.PlainRow(choice) for _ in range(batch)]
        self.pairs = [(OscarCache(self.config, choice), rows)]

    def pick(self, data):
        return data.draw(st.integers(0, len(self.pairs) - 1), label="cache")

    @rule(data=st.data(), count=st.one_of(st.integers(1, 20), st.integers(21, 90), st.just(1)), ragged=st.booleans())
    def append(self, data, count, ragged):
        cache, rows = self.pairs[self.pick(data)]
        if rows[0].columns + count > MOST_TOKENS:
            return
        self.seed += 1
        query, keys, values = self.harness.states(len(rows), HEADS, count, HEAD_DIM, self.seed, self.dtype)
        keys[:, :, : self.seed % 7] *= 0.2  # what online settings take for sinks
        flags = [[True] * count for _ in rows]
        if ragged and self.attention == "oscar" and count > 1:
            # left padding: at least the last column is a token, as in generate()
            pads = data.draw(st.lists(st.integers(0, count - 1), min_size=len(rows), max_size=len(rows)), label="pads")
            flags = [[False] * pad + [True] * (count - pad) for pad in pads]
        told = self.tell(cache, rows, flags) if data.draw(st.booleans(), label="told") else None
        if told is None:
            cache.expect_prompt(rows[0].columns + count)
        held, columns = [row.places for row in rows], rows[0].columns
        plain_mask = all(map(all, flags)) and all(len(places) == columns for places in held)
        mask = None if plain_mask else self.harness.causal_mask(held, flags, columns)
        if self.attention == "oscar":
            output = self.harness.attend(cache, query, keys, values, mask)
        else:
            dense = cache.update(keys, values, 0)
        for index, row in enumerate(rows):
            new = list(torch.stack([keys[index], values[index]]).float()[:, :, flags[index]].unbind(2))
            kinds = None if told is None else [kind for kind in told[index] if kind != Modality.PADDING]
            expected = row.forward(query[index].float(), new, flags[index], HEAD_DIM**-0.5, kinds)
            if self.attention == "oscar":
                for column, one in expected.items():
                    # relative to the states: an average over many tokens is much smaller than what it averages
                    error = (output[index, :, column].float() - one).abs().max()
                    assert error < (2e-5 if self.dtype == torch.float32 else 3e-2), (index, column)
            else:
                assert dense[0].shape == (len(rows), HEADS, row.columns, HEAD_DIM)
                assert torch.equal(dense[0][index, :, -count:], keys[index])

    def tell(self, cache, rows, flags):
        """Say what the new columns are, in runs of up to 30; returns it, a list for each row."""
        generator = torch.Generator().manual_seed(self.seed)
        kinds = torch.zeros(len(rows), len(flags[0]), dtype=torch.int8)
        for row in kinds:
            at = 0
            while at < len(row):
                kind, length = (int(torch.randint(most, (), generator=generator)) for most in (3, 30))
                row[at : at + length + 1] = kind
                at += length + 1
        kinds[~torch.tensor(flags)] = int(Modality.PADDING)
        cache.expect_prompt(rows[0].columns + kinds.shape[1], ModalityStream(kinds, (kinds > 0).int()))
        return kinds.tolist()

    @rule(data=st.data(), share=st.floats(0, 1))
    def crop(self, data, share):
        cache, rows = self.pairs[self.pick(data)]
        remove = int(rows[0].columns * share**3)
        if remove:
            cache.crop(-remove)
            for row in rows:
                row.crop(remove)

    @rule(data=st.data())
    def reorder(self, data):
        at = self.pick(data)
        cache, rows = self.pairs[at]
        order = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=len(rows), max_size=len(rows)))
        cache.reorder_cache(torch.tensor(order))
        if rows[0].columns:
            self.pairs[at] = (cache, [rows[index].copy() for index in order])

    @precondition(lambda self: all(len(rows) <= 3 for _, rows in self.pairs))
    @rule(data=st.data())
    def repeat(self, data):
        at = self.pick(data)
        cache, rows = self.pairs[at]
        if rows[0].columns:
            cache.batch_repeat_interleave(2)
            self.pairs[at] = (cache, [row.copy() for row in rows for _ in range(2)])

    @rule(data=st.data(), as_bool=st.booleans())
    def select(self, data, as_bool):
        at = self.pick(data)
        cache, rows = self.pairs[at]
        if not rows[0].columns:
            return
        kept = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
        flags = torch.tensor([index in kept for index in range(len(rows))])
        cache.batch_select_indices(flags if as_bool else torch.tensor(kept))
        self.pairs[at] = (cache, [rows[index] for index in kept])


@pytest.mark.parametrize("attention", ["oscar", "sdpa"])
def test_random_programs(attention, plain, harness, support):
    bases = (RowRules, support("cache_rules").CacheRules)
    machine = type("Machine", bases, {"plain": plain, "harness": harness, "attention": attention})
    limits = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)
