"""``oscar-x bench decode`` on a small model."""

from __future__ import annotations

import json


def test_it_prints_a_table_and_writes_the_rows(oscar_x, tiny, tmp_path) -> None:
    target = tmp_path / "rows.json"
    sizes = "--context", 200, "--steps", 2, "--batch", 2, "--dtype", "bfloat16"
    done = oscar_x("bench", "decode", "--model", tiny("llama"), *sizes, "--json", target)
    assert done.status == 0, done.errors
    assert "oscar-balanced" in done.output
    assert "A step after 128 tokens takes" in done.output
    rows = json.loads(target.read_text())["rows"]
    assert {"op", "backend", "device", "dtype", "context", "batch", "ms", "slowest_ms"} <= set(rows[0])
    assert {(row["context"], row["batch"], row["dtype"]) for row in rows} == {(200, 2, "bfloat16")}


def test_a_missing_model_is_one_line(oscar_x) -> None:
    done = oscar_x("bench", "decode", "--model", "no/such/folder")
    assert done.status == 2
    assert done.errors.startswith("oscar-x: ")
    assert len(done.errors.splitlines()) == 1


def test_memory_counts_everything(oscar_x, tmp_path) -> None:
    target = tmp_path / "rows.json"
    done = oscar_x("bench", "memory", "--context", 2048, "--kv-heads", 2, "--json", target)
    assert done.status == 0, done.errors
    rows = {row["preset"]: row for row in json.loads(target.read_text())["rows"]}
    for row in rows.values():
        parts = ("codes", "scales", "norms", "sinks", "residual", "slack", "other")
        assert row["total"] == sum(row[part] for part in parts)
        assert row["full_cache"] == 2 * 2 * 2048 * 128 * 2
    assert rows["max"]["total"] < rows["balanced"]["total"] < rows["paper"]["total"]
