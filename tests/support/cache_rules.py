"""The half of the random programs that concerns whole caches: what happens to them, and what always holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import torch
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oscar_x.cache import OscarCache
from oscar_x.cache.reading import row_states


class CacheRules(RuleBasedStateMachine):
    """Rules and invariants over ``pairs``: caches that descend from one another, each beside its plain rows."""

    @rule(data=st.data())
    def flush(self, data):
        cache, rows = self.pairs[self.pick(data)]
        cache.flush()
        for row in rows:
            row.pack(0, partial=True, split=True)

    @precondition(lambda self: len(self.pairs) < 3)
    @rule(data=st.data())
    def fork(self, data):
        cache, rows = self.pairs[self.pick(data)]
        self.pairs.append((cache.fork(), [row.copy() for row in rows]))

    @precondition(lambda self: len(self.pairs) > 1)
    @rule(data=st.data())
    def drop(self, data):
        del self.pairs[self.pick(data)]

    @rule(data=st.data())
    def save_and_load(self, data):
        at = self.pick(data)
        with tempfile.TemporaryDirectory() as folder:
            self.pairs[at][0].save(Path(folder) / "cache")
            self.pairs[at] = (OscarCache.load(Path(folder) / "cache", self.config), self.pairs[at][1])

    @rule(data=st.data())
    def offload_and_prefetch(self, data):
        layer = self.pairs[self.pick(data)][0].layers[0]
        layer.offload()
        layer.prefetch()

    @precondition(lambda self: sum(rows[0].columns for _, rows in self.pairs) > 150)
    @rule(data=st.data())
    def reset(self, data):
        at = self.pick(data)
        cache, rows = self.pairs[at]
        cache.reset()
        self.pairs[at] = (cache, [self.plain.PlainRow(self.settings) for _ in rows])

    @invariant()
    def states_agree(self):
        for cache, rows in getattr(self, "pairs", []):
            assert cache.get_seq_length() == rows[0].columns
            for index, row in enumerate(rows if cache.layers[0].is_initialized else []):
                held = cache.layers[0].rows[index]
                assert [place for span in held.spans for place in range(*span)] == row.places
                assert (held.packed, held.residual) == (len(row.packed), len(row.residual))
                assert held.exact - held.residual == len(row.sinks)
                assert held.lengths == [len(block) for block in row.blocks]
                found = torch.stack(row_states(cache.layers[0], index))
                if not row.places:
                    assert found.shape[2] == 0
                    continue
                expected = torch.stack(row.tokens(), 2)
                exact = torch.ones(len(row.places), dtype=torch.bool)
                exact[len(row.sinks) : len(row.sinks) + len(row.packed)] = False
                assert torch.equal(found[:, :, exact], expected[:, :, exact])
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))

    @invariant()
    def blocks_are_counted(self):
        pools = {
            id(c.layers[0].pool): c.layers[0].pool for c, _ in getattr(self, "pairs", []) if c.layers[0].is_initialized
        }
        for key, pool in pools.items():
            users = [0] * len(pool.records)
            for cache, _ in self.pairs:
                if cache.layers[0].is_initialized and id(cache.layers[0].pool) == key:
                    for row in cache.layers[0].rows:
                        for block in row.blocks:
                            users[block] += 1
            assert pool.users == users
            assert sorted(pool.free) == [block for block, count in enumerate(users) if count == 0]

    @invariant()
    def bytes_are_those_held(self):
        for cache, _ in getattr(self, "pairs", []):
            report = cache.memory()
            assert report.total == self.plain.storage_bytes(cache)
            assert report.peak >= report.total
