"""Tables of rows, and the sentences about who was left out."""

from __future__ import annotations

from types import SimpleNamespace

from oscar_x.evals.bench.room import LeftOut
from oscar_x.evals.bench.tables import ATTENTION_HEADS, attention_cells, left_out_lines, plain_table


def test_ratios_come_last_and_columns_are_aligned() -> None:
    common = {"gb_per_s": 2.5, "share_of_copy": 0.25, "bound_ms": 0.1}
    rows = [
        SimpleNamespace(backend="sdpa", context=32768, batch=4, ms=0.5, ratio_to_best_dense=1.0, **common),
        SimpleNamespace(backend="oscar", context=1000, batch=1, ms=1234.7, ratio_to_best_dense=None, **common),
    ]
    cells = attention_cells(rows)
    assert cells[0] == ["sdpa", "32K x 4", "0.500", "2.5", "25%", "0.100", "1.00"]
    assert cells[1] == ["oscar", "1000 x 1", "1235", "2.5", "25%", "0.100", ""]
    lines = plain_table(ATTENTION_HEADS, cells).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].endswith("x best dense")


def test_a_reason_is_told_once() -> None:
    left = [LeftOut("op", name, context, 1, "no room") for context in (2**20, 2**21) for name in ("a", "b")]
    left.append(LeftOut("op", "c", 5, 2, "not installed"))
    assert left_out_lines(left) == ["left out: a, b at 1M x 1, 2M x 1: no room", "left out: c at 5 x 2: not installed"]
