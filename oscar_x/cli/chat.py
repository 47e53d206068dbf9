"""``oscar-x chat``: talk to a model, about media if it reads them; its cache stays compressed between turns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscar_x.cli.options import (
    Device,
    Images,
    JsonFile,
    KeyBits,
    KvBits,
    MaxNewTokens,
    ModelArgument,
    Online,
    Preset,
    ProfileFile,
    Sounds,
    ValueBits,
    Videos,
    find_model,
    media_parts,
)
from oscar_x.cli.output import make_table, memory_rows, open_console, show_bytes, working, write_json
from oscar_x.config import DEFAULT_PRESET, resolve_config

if TYPE_CHECKING:
    from rich.console import Console

    from oscar_x.cache import OscarCache
    from oscar_x.session import Session

COMMANDS = "/memory shows the cache, /reset forgets what was said, /exit ends"

Heard = Annotated[bool, typer.Option("--use-audio-in-video", help="Hear the videos, not only see them.")]
Graphed = Annotated[bool, typer.Option("--graphed", help="Decode in steps of fixed shapes; on CUDA, replayed graphs.")]


def chat(
    model: ModelArgument,
    image: Images = None,
    video: Videos = None,
    audio: Sounds = None,
    use_audio_in_video: Heard = False,
    max_new_tokens: MaxNewTokens = 512,
    graphed: Graphed = False,
    preset: Preset = DEFAULT_PRESET,
    kv_bits: KvBits = 2,
    key_bits: KeyBits = None,
    value_bits: ValueBits = None,
    profile: ProfileFile = None,
    online: Online = False,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Talk to a model; Ctrl-C stops an answer. Also reads questions from a pipe, one a line."""
    resolve_config(preset, kv_bits, key_bits=key_bits, value_bits=value_bits)
    console = open_console(json_file)
    from oscar_x.source import resolve_source

    source = find_model(model)
    with working(console, f"Loading {model}", downloads=not resolve_source(source).local):
        from oscar_x.loading import load

        loaded = load(
            source,
            kv_bits,
            key_bits=key_bits,
            value_bits=value_bits,
            preset=preset,
            profile=profile,
            device=device,
            online=online,
        )
    console.print(repr(loaded), markup=False)
    parts = media_parts(image, video, audio)
    with working(console, "Reading the media" if parts else "Making the cache"):
        begun = loaded.new_session(parts or None, use_audio_in_video=use_audio_in_video)
    console.print(COMMANDS, style="dim")
    session, messages = _converse(console, begun, max_new_tokens=max_new_tokens, graphed=graphed)
    about = {"model": model, "media": parts, "messages": messages, "memory": session.cache.memory().to_dict()}
    write_json(json_file, about)


def _converse(console: Console, begun: Session, **settings: Any) -> tuple[Session, list[dict[str, str]]]:
    """The session and its messages, when the user has had enough; media are read once, whatever is forgotten."""
    session = begun.fork()
    messages: list[dict[str, str]] = []
    while (line := _read_line(console)) is not None and line != "/exit":
        if line == "/memory":
            _show_memory(console, session.cache)
        elif line == "/reset":
            session, messages = begun.fork(), []
        elif line.startswith("/"):
            console.print(f"{line.split()[0]} is no command: {COMMANDS}", markup=False)
        elif line:
            answer = _answer(console, partial(session.stream, line, **settings))
            if answer is not None:
                messages += [{"role": "user", "content": line}, {"role": "assistant", "content": answer}]
    return session, messages


def _read_line(console: Console) -> str | None:
    """The next line without blanks around it, None at the end of the input."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.strip() if line else None
    try:
        return console.input("[bold]> [/]").strip()
    except EOFError:
        return None


def _answer(console: Console, ask: Callable[[], Any]) -> str | None:
    """What the model said until it ended or was stopped; None where the question was refused."""
    try:
        pieces = ask()
    except ValueError as error:
        console.print(str(error), style="red", markup=False)
        return None
    said: list[str] = []
    try:
        for piece in pieces:
            said.append(piece)
            console.out(piece, end="", highlight=False)
            console.file.flush()
    except KeyboardInterrupt:
        console.out(" [stopped]", end="")
    finally:
        pieces.close()
        console.out("")
    return "".join(said)


def _show_memory(console: Console, cache: OscarCache) -> None:
    memory = cache.memory()
    table = make_table(f"Cache, {memory.columns} tokens", "", "bytes")
    for part, size in memory_rows(memory):
        table.add_row(part, size)
    table.add_row("in all", show_bytes(memory.total))
    table.add_row("a full cache in 16 bits", show_bytes(memory.full_cache_16bit))
    if memory.total:
        table.add_row("times smaller", f"{memory.compression:.2f}")
    console.print(table)
