"""Takes the place of a Triton kernel where a wrapper launches it, and emulates what it compiles to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .counters import Counts
from .machine import Machine
from .memory import Global
from .parse import Program, parse
from .registry import EmulationError

OPTIONS = ("num_warps", "num_stages", "maxnreg")
TYPES = {
    **{torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float64: "*fp64"},
    **{torch.uint8: "*u8", torch.int8: "*i8", torch.bool: "*i1", torch.int32: "*i32", torch.int64: "*i64"},
}
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes of a program, by compute capability
MOST_THREADS = 1024  # at once: more take memory and win nothing
_compiled: dict[Any, tuple[Any, Program]] = {}


class Emulated:
    """`emulated[grid](*args, **options)` like the kernel itself, for tensors on the CPU.

    `counts` sums up over launches; `counting` has memory accesses counted too.
    """

    def __init__(self, kernel: Any, capability: int, counting: bool = False) -> None:
        self.kernel, self.target, self.counting = kernel, GPUTarget("cuda", capability, 32), counting
        self.counts, self.launches = Counts(), 0

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **options: self.launch(grid, args, options)

    def launch(self, grid: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Counts:
        options = {name: given.pop(name) for name in OPTIONS if name in given}
        options = {name: value for name, value in options.items() if value is not None}
        bound = self.kernel.signature.bind(*args, **given)
        bound.apply_defaults()
        values = dict(bound.arguments)
        compiled, program = self._compile(values, options)
        tensors = [value for value in values.values() if isinstance(value, torch.Tensor)]
        memory = Global(tensors, program.constants)
        sizes = (*grid, 1, 1)[:3]
        warps = compiled.metadata.num_warps
        together = min(int(np.prod(sizes)), max(1, MOST_THREADS // (32 * warps)))
        machine = Machine(program, memory, compiled.metadata.shared, together, warps, self.counting)
        counts = machine.run(sizes, self._parameters(program, values, memory))
        memory.give_back()
        self.counts.add(counts)
        self.launches += 1
        return counts

    def _compile(self, values: dict[str, Any], options: dict[str, int]) -> tuple[Any, Program]:
        types, constants, aligned = {}, {}, {}
        for i, parameter in enumerate(self.kernel.params):
            value = values[parameter.name]
            kind = "constexpr" if parameter.is_constexpr else type_of(value, parameter.do_not_specialize)
            types[parameter.name] = kind
            if kind == "constexpr":
                constants[parameter.name] = value
            elif kind[0] in "*i" and not parameter.do_not_specialize and _divisible(value):
                aligned[(i,)] = [["tt.divisibility", 16]]
        key = self.kernel.fn, self.target, str((types, constants, aligned, options))
        if key not in _compiled:
            source = ASTSource(self.kernel, signature=types, constexprs=constants, attrs=aligned)
            compiled = triton.compile(source, target=self.target, options=options)
            if compiled.metadata.shared > SHARED_MEMORY[self.target.arch]:
                raise EmulationError(f"{compiled.metadata.shared} bytes of shared memory are more than there are")
            _compiled[key] = compiled, parse(compiled.asm["ptx"])
        return _compiled[key]

    def _parameters(self, program: Program, values: dict[str, Any], memory: Global) -> dict[str, np.ndarray]:
        """Bytes of each parameter; the last two, which Triton adds, are scratch that no kernel here asks for."""
        given = []
        for parameter in self.kernel.params:
            value = values[parameter.name]
            kind = "constexpr" if parameter.is_constexpr else type_of(value, parameter.do_not_specialize)
            if isinstance(value, torch.Tensor):
                given.append(np.array([memory.address(value)], np.int64))
            elif kind == "fp32":
                given.append(np.array([value], np.float32))
            elif kind != "constexpr":
                given.append(np.array([value], np.int32 if kind == "i32" else np.int64 if kind == "i64" else np.uint8))
        given += [np.zeros(1, np.int64)] * (len(program.parameters) - len(given))
        named = dict(zip(program.parameters, given, strict=True))
        return {name: _sized(value, size).view(np.uint8) for (name, size), value in named.items()}


def type_of(value: Any, unspecialized: bool) -> str:
    """An argument's type as Triton's launcher names it; "constexpr" for what it compiles in."""
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    if value is None or (isinstance(value, int) and value == 1 and not isinstance(value, bool) and not unspecialized):
        return "constexpr"
    if isinstance(value, bool):
        return "u1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    return "fp32"


def _divisible(value: Any) -> bool:
    pointer = value.data_ptr() if isinstance(value, torch.Tensor) else value
    return pointer % 16 == 0


def _sized(value: np.ndarray, size: int) -> np.ndarray:
    if value.itemsize != size:
        raise ValueError(f"a parameter of {size} bytes is given {value.dtype}")
    return value
