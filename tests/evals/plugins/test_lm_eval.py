"""The lm-eval plug-in against the installed package; without one these tests are left out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval.models.huggingface", reason="needs the package lm-eval")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from oscar_x.evals.plugins.lm_eval_model import OscarX

# without a space at its end, which lm-eval would move to the continuation
CONTEXT = ("The cat sat on the mat, and the dog lay beside it all day long. " * 4).strip()


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Path]) -> OscarX:
    return OscarX(str(tiny("llama")), device="cpu")


@pytest.fixture(scope="module")
def exact(tiny: Callable[..., Path]) -> OscarX:
    """The same weights behind a cache of 16 bits."""
    return OscarX(str(tiny("llama")), device="cpu", kv_bits="16")


def requests(kind: str, pairs: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]


def test_it_is_registered():
    assert get_model("oscar-x") is OscarX


def test_log_likelihoods_at_16_bits_are_those_of_one_forward_pass(exact: OscarX):
    pairs = [(CONTEXT, " Then it rained."), (CONTEXT, " It slept."), ("Short", " word")]
    for (context, continuation), (total, greedy) in zip(
        pairs, exact.loglikelihood(requests("loglikelihood", pairs)), strict=True
    ):
        first, whole = exact.tok_encode(context), exact.tok_encode(context + continuation)
        ids = torch.tensor([whole])
        with torch.inference_mode():
            rows = exact.oscar.model(ids[:, :-1], use_cache=False).logits[0].log_softmax(-1)[len(first) - 1 :]
        wanted = ids[0, len(first) :]
        assert total == pytest.approx(float(rows.gather(1, wanted[:, None]).sum()), abs=1e-3)
        assert greedy == bool((rows.argmax(-1) == wanted).all())


def test_log_likelihoods_read_the_packed_context(model: OscarX, exact: OscarX):
    pairs = [(CONTEXT, " Then it rained."), (CONTEXT, " It slept.")]
    before = model.packed_reads
    found = model.loglikelihood(requests("loglikelihood", pairs))
    assert model.packed_reads - before > len(CONTEXT)
    full = exact.loglikelihood(requests("loglikelihood", pairs))
    for (packed, _), (whole, _) in zip(found, full, strict=True):
        assert packed != whole
        assert packed == pytest.approx(whole, rel=0.3)


def test_rolling_reads_packed_tokens_too(model: OscarX, exact: OscarX):
    text = [(CONTEXT * 3,)]
    before = model.packed_reads
    (found,) = model.loglikelihood_rolling(requests("loglikelihood_rolling", text))
    assert model.packed_reads > before
    (full,) = exact.loglikelihood_rolling(requests("loglikelihood_rolling", text))
    assert math.isfinite(found)
    assert found != full


def test_generation_reads_the_packed_prompt_and_stops(model: OscarX):
    before = model.packed_reads
    options = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    (text,) = model.generate_until(requests("generate_until", [(CONTEXT, options)]))
    assert "e" not in text
    assert model.packed_reads > before


def test_a_local_task_through_the_evaluator(model: OscarX, tmp_path: Path):
    rows = [
        {"question": f"{CONTEXT}What sat? {i}", "options": ["cat", "dog", "mat"], "answer": i % 3} for i in range(6)
    ]
    data = tmp_path / "questions.json"
    data.write_text("\n".join(map(json.dumps, rows)))
    task = {
        **{"task": "local_choice", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}},
        **{"test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}"},
        **{"doc_to_choice": "{{options}}", "doc_to_target": "answer", "metric_list": [{"metric": "acc"}]},
    }
    before = model.packed_reads
    results = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)
    assert 0 <= results["results"]["local_choice"]["acc,none"] <= 1
    assert len(results["samples"]["local_choice"]) == 6
    assert model.packed_reads > before
