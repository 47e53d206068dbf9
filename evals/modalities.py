"""What settings for media are worth: `python -m oscar_x.evals.modalities embedded-vlm --conversations embedded-vlm`.

Preset balanced against the same with blocks that end where modalities meet, with values per channel, and with online
settings. Conversations are packed whole and then asked, as in `oscar-x eval fidelity`; text takes the place of
conversations with `--text`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import oscar_x

from ..cache_settings import CacheSettings
from ..calibration.passage import Passage, text_passage
from ..cli.options import find_model
from ..config import PRESETS, OscarConfig
from ..model import OscarModel
from ..prompts import tokenizer_of
from .conversations import conversation_passages, load_conversations
from .corpus import load_text, token_sequences
from .fidelity import score_passages
from .fidelity_report import FidelityReport
from .methods import settings_method

BASE = "balanced"
BALANCED = PRESETS[BASE]
# blocks of one group of tokens leave the fewest places empty
SMALL_BLOCKS = replace(BALANCED, block_size=16, value_scale_rows=16)
SPLIT = replace(SMALL_BLOCKS, modality_split=1.0, modality_split_run=16)
PER_CHANNEL = replace(BALANCED, value_grouping="per_channel")
SETTINGS: dict[str, OscarConfig] = {
    BASE: BALANCED,
    "blocks of 16": SMALL_BLOCKS,
    "split": SPLIT,
    "values per channel": PER_CHANNEL,
    "split, values per channel": replace(SPLIT, value_grouping="per_channel"),
    "no rotation": replace(BALANCED, rotate_keys=False, rotate_values=False),
    "norms not damped": replace(BALANCED, token_norm="per_head"),
    "no token scaling": replace(BALANCED, token_norm="none"),
    "split, no token scaling": replace(SPLIT, token_norm="none"),
    "no exact token": replace(BALANCED, sink_tokens=0),
    "1 exact token": replace(BALANCED, sink_tokens=1),
    "16 exact tokens": replace(BALANCED, sink_tokens=16),
    "online": replace(BALANCED, online=True),
}


def compare(
    model: OscarModel, passages: list[Passage], settings: Mapping[str, OscarConfig] = SETTINGS, seed: int = 0
) -> FidelityReport:
    """Every settings on every passage, packed without residual window."""
    biases = model.key_biases or None
    methods = [settings_method(name, name, CacheSettings(chosen), biases) for name, chosen in settings.items()]
    tokens = sum(passage.prefix for passage in passages) // len(passages)
    scored = sum(len(passage.continuation) - 1 for passage in passages) // len(passages)
    about = {"prefix": tokens, "continuation": scored}
    return score_passages(model.generator, passages, methods, about, seed, progress=_say)


def _say(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def rows(report: FidelityReport, base: str) -> list[dict[str, Any]]:
    """One a settings, plain JSON types: bytes and KL, and KL over that of ``base`` on the same passages."""
    found = []
    for scores in report.methods:
        footprint, metrics = scores.footprint, [name for name in scores.metrics if name.endswith("kl")]
        row: dict[str, Any] = {"settings": scores.method.name, "bits_per_element": footprint.bits_per_element}
        row["bytes"] = footprint.packed_bytes + footprint.exact_bytes
        for metric in metrics:
            row[metric] = asdict(scores.intervals[metric])
            row[f"{metric}_to_{base}"] = asdict(report.ratio(scores.method.name, base, metric))
        found.append(row)
    return found


def show(row: dict[str, Any], base: dict[str, Any]) -> str:
    """A row as a line of a table in Markdown."""
    cells = [row["settings"], f"{row['bits_per_element']:.2f}", f"{row['bytes'] / base['bytes']:.2f}"]
    figures = [row[name] for name in row if "kl" in name]
    cells += [f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" for figure in figures]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as for oscar-x")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--conversations", help="a generated set or a JSONL file (docs/calibration.md)")
    source.add_argument("--text", help="python-reference, kjv or a file")
    parser.add_argument("--count", type=int, default=16, help="conversations, or sequences of the text")
    parser.add_argument("--prefix", type=int, default=512, help="tokens of a sequence of text that are packed")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = oscar_x.load(find_model(options.model), device="cpu")
    if options.text:
        tokenizer, length = tokenizer_of(model.processor), options.prefix + 129
        sequences = token_sequences(load_text(options.text), tokenizer, options.count, length)
        passages = [text_passage(tokens, options.prefix) for tokens in sequences]
    else:
        conversations = load_conversations(options.conversations, options.count, seed=options.seed)
        passages = conversation_passages(model, conversations)
    chosen = {name: SETTINGS[name] for name in dict.fromkeys([BASE, *options.settings])}
    found = rows(compare(model, passages, chosen), BASE)
    for row in found:
        print(show(row, found[0]))
    if options.json is not None:
        about = {"model": options.model, "count": options.count, "seed": options.seed}
        about |= {"text": options.text, "prefix": options.prefix} if options.text else {"from": options.conversations}
        options.json.write_text(json.dumps({"settings": about, "rows": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
