"""A whole cache whose blocks are written and read by Triton's kernels gives what plain torch gives."""

from __future__ import annotations

import pytest
import torch

import oscar_x
from oscar_x.evals import kernel_check

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on


def test_logits_of_a_prompt_and_of_decoding(tiny) -> None:
    logits, kinds = {}, ("reference", "triton")
    path = tiny("llama")
    for backend in kinds:
        model = oscar_x.load(path, device=DEVICE, dtype=torch.float32, backend=backend)
        torch.manual_seed(0)
        tokens = torch.randint(3, 250, (1, 215), device=DEVICE)
        cache, outputs = model.new_cache(), []
        for part in tokens.split([197, 1, 17], dim=1):
            with torch.no_grad():
                outputs.append(model.model(input_ids=part, past_key_values=cache).logits)
        assert cache.packed_reads > 0
        logits[backend] = torch.cat(outputs, 1)
    mine, theirs = (logits[kind] for kind in kinds)
    # a code that is rounded the other way shows in every later token
    assert (mine - theirs).norm() <= 5e-3 * theirs.norm()


@pytest.mark.parametrize("name", ["balanced", "per channel"])
def test_the_check_for_a_new_machine_finds_what_is_right_and_what_is_wrong(name: str, monkeypatch) -> None:
    monkeypatch.setattr(kernel_check, "cases", lambda: iter([(name, 64, 1, torch.float32)]))
    assert kernel_check.check(torch.device(DEVICE)) == 0
    monkeypatch.setitem(kernel_check.BOUNDS, torch.float32, 0.0)
    assert kernel_check.check(torch.device(DEVICE)) == 1
