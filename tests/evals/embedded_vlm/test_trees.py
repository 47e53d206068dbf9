"""Token trees: a branch is scored as if it stood alone."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from oscar_x.evals.embedded_vlm.trees import ROOT, Tree, collate

TRUNK, BRANCHES = [5, 6, 7, 8], [[9, 10, 11], [12, 13], [9, 14, 15, 16]]


def test_branches_are_scored_as_if_alone(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny("llama"), attn_implementation="eager").eval()
    tree, short = Tree(), Tree()
    trunk = tree.add(TRUNK, ROOT)
    for branch in BRANCHES:
        tree.add(branch[-1:], tree.add(branch[:-1], trunk), 1.0)
    short.add([4], short.add([3], ROOT), 0.5)
    batch = collate([tree, short])
    mask = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = model(batch.ids, position_ids=batch.positions, attention_mask=mask).logits
        alone = [model(torch.tensor([TRUNK + branch[:-1]])).logits[0, -1] for branch in BRANCHES]
        alone.append(model(torch.tensor([[3]])).logits[0, -1])
    torch.testing.assert_close(logits[batch.rows, batch.sources], torch.stack(alone), rtol=1e-4, atol=1e-4)
    assert batch.targets.tolist() == [11, 13, 16, 4]
    assert batch.rows.tolist() == [0, 0, 0, 1]
    assert batch.weights.tolist() == [1.0, 1.0, 1.0, 0.5]
