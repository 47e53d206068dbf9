"""``oscar-x demo --omni``: a clip with sound, questions about it, a full and a compressed cache side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oscar_x.cli.options import find_model
from oscar_x.cli.output import make_table, open_console, show_bytes, working, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from oscar_x.cli.demo_media import MediaSide
    from oscar_x.evals.tiny_omni import Clip, Question

TINY_OMNI = "tiny-omni"
EVENTS = 32  # of the clip, two seconds each
CLIP = 0  # its number in the held-out stream
ASKED = ("needle", "color", "shape", "motion", "sound", "beeps")


def demo_omni(
    model: str,
    prompt: str | None,
    *,
    preset: str,
    kv_bits: int,
    profile: str | None,
    online: bool,
    max_new_tokens: int,
    device: str | None,
    json_file: str | None,
) -> None:
    """Run it.

    Args:
        model: as load() understands it, or an alias of the command line.
        prompt: what to ask; None for questions of the clip's own, whose answers are known.
    """
    console = open_console(json_file)
    path = find_model(model)
    with working(console, f"Loading {model}"):
        from oscar_x.cli.demo_media import read_sides, results, warm_up
        from oscar_x.loading import load
        from oscar_x.tni import measure_tni

        loaded = load(path, kv_bits, preset=preset, profile=profile, online=online, device=device)
        clip = shipped_clip()
    with working(console, "Warming up; kernels are compiled at the first use on a machine"):
        warm_up(loaded)
    heard = loaded.adapter.media is not None and loaded.adapter.media.sound_in_video
    show_clip(console, clip, heard)
    with working(console, "Reading the clip into both caches"):
        sides = read_sides(loaded, clip.content(), use_audio_in_video=heard)
    questions = chosen_questions(clip, heard) if prompt is None else []
    table, answers = ask_all(console, sides, questions, prompt, max_new_tokens)
    console.print(table)
    show_memory(console, sides)
    with working(console, "Measuring the norms of keys"):
        conversation = [{"role": "user", "content": [*clip.content(), "Describe this."]}]
        report = measure_tni(loaded, loaded.prepare(conversation, use_audio_in_video=heard))
    show_tokens(console, sides[1], report)
    settings = {"preset": preset} if profile is None else {"profile": profile}
    asked = {"model": model, **settings, "online": online, "clip": clip.id, "answers": answers}
    write_json(json_file, {**asked, "tokens": report.tokens, "findings": report.findings(), "sides": results(sides)})


def shipped_clip() -> Clip:
    """The demo's clip: drawn and played from a seed, so that it is the same everywhere and belongs to the project."""
    from oscar_x.evals.tiny_omni import clips

    return next(clips("held-out", length=EVENTS, start=CLIP))


def chosen_questions(clip: Clip, heard: bool) -> list[Question]:
    """One of each kind that the demo asks, in its order."""
    first = {question.kind: question for question in reversed(clip.questions)}
    kinds = ASKED if heard else ASKED[:4]
    return [first[kind] for kind in kinds if kind in first]


def show_clip(console: Console, clip: Clip, heard: bool) -> None:
    """What is seen and heard, as pictures and words."""
    from oscar_x.cli.demo_pictures import filmstrip

    seconds = len(clip.frames) / clip.fps
    console.print(f"A clip of {seconds:g} s, {len(clip.frames)} frames{', with sound' if heard else ''}:")
    if console.color_system:  # pictures are coloured characters
        console.print(filmstrip(clip.frames))


def ask_all(
    console: Console, sides: tuple[MediaSide, ...], questions: list[Question], prompt: str | None, max_new_tokens: int
) -> tuple[Table, list[dict[str, Any]]]:
    """Both caches' answers, shown while they come."""
    from rich.live import Live

    from oscar_x.cli.demo_media import answer_in_turn

    names = ["question", "right", *(side.name for side in sides)]
    given = [(question.text, question.answer) for question in questions] or [(str(prompt), "")]
    done: list[list[str]] = []

    def table(row: list[str] | None = None) -> Table:
        shown = make_table("Answers", *names, words=names)
        for line in [*done, *([row] if row else [])]:
            shown.add_row(*line)
        return shown

    with Live(table(), console=console, refresh_per_second=8, transient=True) as live:
        for text, right in given:
            for _ in answer_in_turn(sides, text, max_new_tokens):
                live.update(table([text, right, *(side.answer.strip() for side in sides)]))
            done.append([text, right, *(side.answer.strip() for side in sides)])
    return table(), [dict(zip(names, line, strict=True)) for line in done]


def show_memory(console: Console, sides: tuple[MediaSide, ...]) -> None:
    """Both caches' bytes."""
    from oscar_x.cli.demo_pictures import memory_bars

    full, packed = (side.memory for side in sides)
    console.print("\n[bold]Memory of the cache after the clip[/bold]")
    console.print(memory_bars(sides))
    console.print(
        f"{full.total / packed.total:.1f} times smaller ({show_bytes(full.total)} to {show_bytes(packed.total)}), "
        f"{packed.compression:.1f} times than a full cache of 16 bits; {packed.bits_per_element:.2f} bits an element "
        f"where packed, {packed.columns} tokens"
    )


def show_tokens(console: Console, packed: MediaSide, report: Any) -> None:
    """Modalities and key norms along the clip."""
    from oscar_x.cli.demo_pictures import modality_band, norm_picture
    from oscar_x.modality import Modality

    kinds = [Modality(kind).name.lower() for kind in packed.session.cache.modalities.modalities[0].tolist()]
    console.print("\n[bold]What the tokens are[/bold]")
    console.print(modality_band(kinds))
    console.print("\n[bold]Token Norm Imbalance[/bold]")
    if console.color_system:
        console.print(norm_picture(report.norm_map))
    for sentence in report.findings()[:3]:
        console.print(f"- {sentence}", markup=False)
