"""Attention over packed blocks and exact tokens: a call, what every backend answers, and what fp64 says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from oscar_x.compressor import Compressor, block_layout
from oscar_x.config import PRESETS, OscarConfig
from oscar_x.kernels.decode_attention import cpu, exact_attention, joint_attention, merge_attention, packed_attention
from oscar_x.kernels.layout import BlockLayout

HEADS, SCALING = 2, 0.2
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 1e-2}
# of the log-sum-exp, relative and absolute; Triton rounds scores of 16-bit queries to 16 bits, the loops do not
LSE, LSE_OF_HALVES, LSE_OF_FLOATS = (1e-3, 2e-3), (1e-3, 5e-2), (1e-4, 2e-3)
WRAPPED = ("reference", "auto", "triton")  # backends that the wrapper knows; others are instruction sets
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # of Triton, whose interpreter runs on a CPU
BEHIND = 7  # slots of a buffer behind those that a call is given

Part = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A call of packed_attention, or of joint_attention.

    Attributes:
        lengths: tokens of each block of each row of the batch; negative ones are told from block_size: -1 is all but
            one, None all.
        exact: exact tokens of each row of the batch; no joint attention when missing.
        mask: hides half of the slots at random, and all of the first block: "one" for all query rows alike, "rows" for
            each, of which the last sees nothing.
    """

    config: OscarConfig = PRESETS["balanced"]
    head_dim: int = 64
    heads: int = HEADS
    rows: int = 4
    dtype: torch.dtype = torch.float32
    lengths: tuple[tuple[int | None, ...], ...] = ((None, 0), (1, -1))
    exact: tuple[int, ...] | None = None
    mask: str = ""

    @property
    def layout(self) -> BlockLayout:
        layout = block_layout(self.config, self.heads, self.head_dim)
        assert isinstance(layout, BlockLayout)
        return layout


@dataclass
class Call:
    """A case's tensors, what fp64 says, and what backends have answered so far."""

    case: Case
    query: torch.Tensor
    records: torch.Tensor
    table: torch.Tensor
    lengths: torch.Tensor
    visible: torch.Tensor | None
    exact: tuple[torch.Tensor, ...]
    exact_lengths: torch.Tensor | None
    exact_visible: torch.Tensor | None
    expected: Part
    answers: dict[str, Part]


def make(config: OscarConfig, head_dim: int = 64, batch: int = 1, blocks: int = 2, heads: int = HEADS):
    """A layout, records, and the states that they stand for, [batch, heads, blocks * block_size, head_dim]."""
    compressor = Compressor(replace(config, backend="reference"), heads, head_dim)
    shape = (batch * blocks, heads, config.block_size, head_dim)
    # token norms spread over two decades, as attention sinks and media tokens spread them
    spread = torch.exp(torch.rand(*shape[:3], 1) * 4 - 2)
    records = compressor.compress(torch.randn(shape) * spread, torch.randn(shape))
    keys, values = (
        states.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3) for states in compressor.decompress(records)
    )
    return compressor.layout, records, keys, values


def dense(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    seen: torch.Tensor,
    scaling: float = SCALING,
    added: torch.Tensor | float = 0.0,
) -> Part:
    """Softmax attention in fp64 over the tokens seen."""
    scores = query.double() @ keys.double().transpose(-1, -2) * scaling + added
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1).nan_to_num() @ values.double(), scores.logsumexp(-1)


def seen_slots(lengths: torch.Tensor, block_size: int) -> torch.Tensor:
    """Slots of blocks that hold a token, [batch, 1, 1, blocks * block_size]."""
    return (torch.arange(block_size, device=lengths.device) < lengths[..., None]).flatten(1)[:, None, None]


def check(found: Part, expected: Part, dtype: torch.dtype = torch.float32, lse_errors=LSE) -> None:
    """Output by its relative error, log-sum-exp by its relative and absolute errors."""
    (output, lse), (right, right_lse) = found, expected
    assert output.isfinite().all()
    assert (output - right).norm() <= TOLERANCE[dtype] * right.norm()
    torch.testing.assert_close(lse.double(), right_lse.double(), rtol=lse_errors[0], atol=lse_errors[1])


@lru_cache(maxsize=1)
def prepare(case: Case) -> Call:
    """The tensors of a case: the same for every backend that is asked in a row."""
    torch.manual_seed(0)
    size, (batch, blocks) = case.config.block_size, (len(case.lengths), len(case.lengths[0]))
    _, records, keys, values = make(case.config, case.head_dim, batch, blocks, case.heads)
    held = [[size if n is None else n % size if n < 0 else n for n in row] for row in case.lengths]
    lengths = torch.tensor(held)
    seen = seen_slots(lengths, size)
    query = torch.randn(batch, case.heads, case.rows, case.head_dim).to(case.dtype)
    visible = _mask(case, batch, blocks * size)
    if visible is not None:
        visible[0, ..., :size] = False
    shown = seen if visible is None else seen & visible
    exact, exact_lengths, exact_visible = (), None, None
    if case.exact is not None:
        exact, exact_lengths, there = _exact(case, batch)
        exact_visible = _mask(case, batch, there.shape[-1])
        there = there if exact_visible is None else there & exact_visible
        keys, values = (torch.cat([s, e.nan_to_num().float()], 2) for s, e in zip((keys, values), exact, strict=True))
        rows = case.rows if case.mask == "rows" else 1
        shown = torch.cat([part.expand(batch, 1, rows, -1) for part in (shown, there)], -1)
    expected = dense(query, keys, values, shown)
    # blocks of one sequence lie in order, those of several anywhere
    table = torch.randperm(batch * blocks) if batch > 1 else torch.arange(blocks)
    records[table] = records.clone()
    table = table.view(batch, blocks)
    return Call(
        case, query, records, table, lengths, visible, exact, exact_lengths, exact_visible, expected, answers={}
    )


def _mask(case: Case, batch: int, slots: int) -> torch.Tensor | None:
    if not case.mask:
        return None
    mask = torch.rand(batch, 1, case.rows if case.mask == "rows" else 1, slots) > 0.5
    if case.mask == "rows":
        mask[0, :, -1] = False
    return mask


def _exact(case: Case, batch: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """Exact keys and values, part of a buffer with NaN wherever no token is; how many each row has; and where."""
    counts = torch.tensor(case.exact)
    slots = max(1, int(counts.max()))
    there = torch.arange(slots + BEHIND) < counts[:, None]
    states = torch.randn(2, batch, case.heads, slots + BEHIND, case.head_dim).to(case.dtype)
    states = states.masked_fill(~there[None, :, None, :, None], torch.nan)
    return states[:, :, :, :slots].unbind(), counts, there[:, None, None, :slots]


def answer(call: Call, backend: str) -> Part:
    """What a backend says, on the CPU."""
    device = DEVICE if backend == "triton" else "cpu"

    def there(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.to(device)

    packed = (*map(there, (call.query, call.records, call.table, call.lengths)), call.case.layout, SCALING)
    visible, exact = there(call.visible), tuple(map(there, call.exact))
    masks = there(call.exact_visible), there(call.exact_lengths)
    if backend not in WRAPPED:
        return _by_set(packed, visible, exact, *masks, backend)
    if not exact:
        found = packed_attention(*packed, visible, backend=backend)
    else:
        found = joint_attention(*packed, *exact, visible, masks[0], backend=backend, exact_lengths=masks[1])
    return found[0].cpu(), found[1].cpu()


def _by_set(packed, visible, exact, exact_visible, exact_lengths, name: str) -> Part:
    """By the compiled loops of an instruction set, which take no mask of exact tokens."""
    if not exact:
        return cpu.packed_attention(*packed, visible, instructions=name)
    if exact_visible is None:
        return cpu.packed_attention(*packed, visible, instructions=name, exact=(*exact, exact_lengths))
    part = exact_attention(packed[0], *exact, SCALING, exact_visible, exact_lengths)
    return merge_attention([part, cpu.packed_attention(*packed, visible, instructions=name)])


def compare(case: Case, backend: str) -> None:
    """A backend against fp64, and against every backend that was asked before it."""
    call = prepare(case)
    output, lse = answer(call, backend)
    assert output.dtype == lse.dtype == torch.float32
    halves = backend == "triton" and case.dtype != torch.float32
    exactly = LSE_OF_FLOATS if backend == "triton" else LSE
    check((output, lse), call.expected, case.dtype, LSE_OF_HALVES if halves else exactly)
    for other in call.answers.values():
        check((output, lse), other, case.dtype, LSE_OF_HALVES if halves else LSE)
    if backend == "triton" and case.dtype == torch.float32 and "reference" in call.answers:
        torch.testing.assert_close(output, call.answers["reference"][0], rtol=1e-3, atol=1e-3)
    nothing = call.expected[1].isneginf()
    assert (output[nothing] == 0).all()
    call.answers[backend] = output, lse
