"""PTX text -> instructions. Operands stay text ("%r1", "0f3F800000", "!%p2", "global_smem") but for addresses and
vectors, so that what an operation does with them is written where the operation is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WIDTHS = {"pred": 1, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "b32": 32, "u32": 32, "s32": 32, "f32": 32}
WIDTHS |= {"b64": 64, "u64": 64, "s64": 64, "f64": 64}


@dataclass(frozen=True)
class Address:
    """[base + offset]; the base is a register, a symbol or a number."""

    base: str
    offset: int = 0


Operand = str | Address | tuple["Operand", ...]


@dataclass(frozen=True)
class Instruction:
    """`guard` is the predicate behind @, "!" before it where it is negated; `source` the line of Python it is for."""

    opcode: str
    guard: str | None
    operands: tuple[Operand, ...]
    line: int
    source: str

    def __str__(self) -> str:
        return f"{self.opcode} (PTX line {self.line}{', ' + self.source if self.source else ''})"


@dataclass
class Program:
    """One kernel. `labels` and `blocks` count instructions; a register is a width and its place among those of it."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=lambda: dict.fromkeys((1, 16, 32, 64), 0))
    parameters: list[tuple[str, int]] = field(default_factory=list)
    constants: dict[str, bytes] = field(default_factory=dict)
    local_symbol: str = ""
    local_bytes: int = 0
    shared_symbol: str = ""

    def declare(self, kind: str, names: str) -> None:
        """`names` as behind .reg: "%r<9>" declares %r0 to %r8."""
        width = WIDTHS[kind]
        for name in map(str.strip, names.split(",")):
            many = re.fullmatch(r"(%?[\w$]+)<(\d+)>", name)
            for each in [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]:
                self.registers[each] = width, self.counts[width]
                self.counts[width] += 1


def parse(text: str) -> Program:
    """The one kernel of a PTX module."""
    program = Program()
    head, _, rest = text.partition(".entry")
    for name, content in re.findall(r"\.global[^;=]*\s([\w$]+)\[\d+\]\s*=\s*\{([^}]*)\}", head):
        program.constants[name] = bytes(int(number) for number in content.split(","))
    shared = re.search(r"\.shared[^;]*\s([\w$]+)\[\]", head)
    program.shared_symbol = shared[1] if shared else ""
    signature, _, body = rest.partition("{")
    program.parameters = [
        (name, WIDTHS[kind] // 8) for kind, name in re.findall(r"\.param\s+\.(\w+)[^,)]*?([\w$]+)\s*[,)]", signature)
    ]
    source, first = "", text[: len(text) - len(body)].count("\n") + 1
    for line, statement in _statements(body, first):
        found = re.match(r"\.loc\s.*?// (.*)", statement)
        if found:
            source = re.sub(r"[][@ ]+", " from ", found[1]).removesuffix(" from ")
        else:
            _statement(program, statement, line, source)
    return program


def _statements(body: str, line: int) -> Iterator[tuple[int, str]]:
    """Up to the brace that closes the function; a .loc keeps its comment."""
    depth = 1
    for number, raw in enumerate(body.split("\n"), line):
        text = raw.strip()
        if text.startswith(".loc"):
            yield number, text
            continue
        text = text.partition("//")[0].strip()
        if text in ("{", "}"):
            depth += 1 if text == "{" else -1
            if not depth:
                return
            continue
        label = re.match(r"([\w$]+):(?!:)", text)
        if label:
            yield number, label[0]
            text = text[label.end() :]
        yield from ((number, part.strip()) for part in text.split(";") if part.strip())


def _statement(program: Program, text: str, line: int, source: str) -> None:
    if text.endswith(":"):
        program.labels[text[:-1]] = len(program.instructions)
    elif text.startswith(".reg"):
        _, kind, names = text.split(None, 2)
        program.declare(kind[1:], names)
    elif text.startswith(".local"):
        found = re.search(r"([\w$]+)\[(\d+)\]", text)
        assert found is not None, text
        program.local_symbol, program.local_bytes = found[1], int(found[2])
    elif not text.startswith("."):
        found = re.match(r"(?:@(!?%[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)", text, re.S)
        if found is None:
            raise SyntaxError(f"PTX line {line}: {text}")
        operands = tuple(_operand(part) for part in _split(found[3]))
        program.instructions.append(Instruction(found[2], found[1], operands, line, source))


def _split(text: str) -> list[str]:
    """At commas outside of braces and brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(_operand(part) for part in _split(text[1:-1]))
    if text.startswith("["):
        base, _, offset = text[1:-1].replace(" ", "").partition("+")
        return Address(base, int(offset, 0) if offset else 0)
    return text
