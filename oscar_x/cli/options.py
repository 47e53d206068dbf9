"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oscar_x.config import BITS, PRESETS

if TYPE_CHECKING:
    from oscar_x.profile import Profile

EMBEDDED, EMBEDDED_VLM, TINY_OMNI = "embedded", "embedded-vlm", "tiny-omni"
MODEL_HELP = (
    f"Short name, hub id, model folder, .gguf file, {EMBEDDED!r} for the demo's, {EMBEDDED_VLM!r} for a small one "
    f"that sees (docs/embedded_vlm.md), or {TINY_OMNI!r} for one that sees and hears (docs/tiny_omni.md)."
)
_BITS_HELP = f"{', '.join(map(str, BITS))}, or 16 for a full cache"


Files = list[str] | None


def find_model(name: str) -> str:
    """What the user calls a model, as load() understands it."""
    if name == EMBEDDED_VLM:
        from oscar_x.evals.embedded_vlm.build import build_checkpoint

        return str(build_checkpoint())
    if name != EMBEDDED:
        return name
    from oscar_x.cli.embedded import embedded_model

    return str(embedded_model())


def media_parts(images: Files, videos: Files, sounds: Files) -> list[dict[str, str]]:
    """Message parts of the files named on the command line."""
    given = {"image": images, "video": videos, "audio": sounds}
    return [{"type": kind, "path": file} for kind, files in given.items() for file in files or ()]


def read_profiles(files: Files) -> dict[str, Profile]:
    """The profiles of these files, by the files' names without ending."""
    from oscar_x.profile import Profile

    return {Path(file).stem: Profile.load(file) for file in files or ()}


def _check_bits(bits: int | None) -> int | None:
    if bits is not None and bits not in (*BITS, 16):
        raise typer.BadParameter(f"{bits} is not allowed; choose {_BITS_HELP}")
    return bits


def _check_preset(preset: str) -> str:
    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset!r} is unknown; choose {', '.join(PRESETS)}")
    return preset


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
Preset = Annotated[
    str, typer.Option("--preset", help=f"Compression settings: {', '.join(PRESETS)}.", callback=_check_preset)
]
KvBits = Annotated[int, typer.Option("--kv-bits", help=f"Bits of keys and values: {_BITS_HELP}.", callback=_check_bits)]
KeyBits = Annotated[
    int | None, typer.Option("--key-bits", help="Bits of keys alone.", show_default=False, callback=_check_bits)
]
ValueBits = Annotated[
    int | None, typer.Option("--value-bits", help="Bits of values alone.", show_default=False, callback=_check_bits)
]
ProfileFile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="What oscar-x calibrate made for this model; it decides in place of preset and bits.",
        show_default=False,
    ),
]
MethodProfiles = Annotated[
    Files,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Run a profile of oscar-x calibrate as method oscar-NAME; may be given several times.",
        show_default=False,
    ),
]
Online = Annotated[
    bool,
    typer.Option("--online", help="Each conversation's first prompt decides exact tokens and modality boundaries."),
]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")]
Device = Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda.", show_default="an accelerator")]
ModelDtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", help="Of weights and states, such as bfloat16.", show_default="what the model is loaded in"
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the results as JSON; - is standard output.", show_default=False),
]

Conversations = Annotated[
    str | None,
    typer.Option(
        "--conversations",
        metavar="FILE",
        help="Conversations with media: a JSONL file (docs/calibration.md), or embedded-vlm or tiny-omni (generated).",
        show_default=False,
    ),
]

_FILE = {"metavar": "FILE", "show_default": False}
Images = Annotated[Files, typer.Option("--image", help="A picture to ask about; may be given several times.", **_FILE)]
Videos = Annotated[Files, typer.Option("--video", help="A video to ask about; may be given several times.", **_FILE)]
Sounds = Annotated[Files, typer.Option("--audio", help="A sound to ask about; may be given several times.", **_FILE)]
