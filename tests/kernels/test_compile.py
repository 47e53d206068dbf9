"""torch.compile takes the operations as operators: one graph, whatever is around them."""

from __future__ import annotations

import pytest
import torch

from oscar_x.compressor import block_layout
from oscar_x.config import resolve_config
from oscar_x.kernels.compress import compress_blocks
from oscar_x.kernels.decode_attention import joint_attention
from oscar_x.kernels.hadamard import hadamard_transform

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on
LAYOUT = block_layout(resolve_config(block_size=32, value_scale_rows=16), 1, 64)


def step(query, keys, values, pool, ids, table, lengths, exact, used, exact_lengths):
    """Every operation, with torch's own before and behind."""
    compress_blocks(keys * 2, values, LAYOUT, pool, ids, backend="triton")
    call = query + 1, pool, table, lengths, LAYOUT, 0.1, exact[0], exact[1]
    output, lse = joint_attention(*call, backend="triton", used=used, exact_lengths=exact_lengths)
    return hadamard_transform(output * 2, backend="triton"), lse


@pytest.fixture
def arguments():
    torch.manual_seed(0)
    drawn = {"query": (2, 1, 2, 64), "keys": (4, 1, 32, 64), "values": (4, 1, 32, 64)}
    made = [torch.randn(shape, device=DEVICE) for shape in drawn.values()]
    made.append(torch.zeros(4, LAYOUT.record_bytes, dtype=torch.uint8, device=DEVICE))
    made += [torch.arange(4, device=DEVICE), torch.arange(4, device=DEVICE).view(2, 2)]
    made += [torch.full((2, 2), 32, device=DEVICE), torch.randn(2, 2, 1, 5, 64, device=DEVICE)]
    return [*made, torch.tensor([2, 1], device=DEVICE), torch.tensor([5, 3], device=DEVICE)]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_graph(arguments, backend: str) -> None:
    expected = step(*arguments)
    written = arguments[3].clone()
    arguments[3].zero_()
    torch._dynamo.reset()
    found = torch.compile(step, fullgraph=True, backend=backend)(*arguments)
    torch.testing.assert_close(found, expected)
    assert torch.equal(arguments[3], written)


def test_what_is_not_finite_is_still_refused(arguments) -> None:
    arguments[1][1, 0, 3, 4] = torch.nan
    torch._dynamo.reset()
    with pytest.raises(ValueError, match=r"key_states .*\[1, 0, 3, 4\]"):
        torch.compile(step, fullgraph=True, backend="eager")(*arguments)
