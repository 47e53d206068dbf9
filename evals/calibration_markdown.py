"""Raw results of ``oscar-x eval calibration --json`` as the tables of docs/calibration.md.

`python -m oscar_x.evals.calibration_markdown docs/results/calibration-*.json`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(result: Mapping[str, Any]) -> str:
    """A heading, the two tables and the lines under them.

    Args:
        result: what CalibrationTable.to_dict gave.
    """
    fidelity = result["fidelity"]
    own = fidelity["settings"]
    about = "about " if "conversations" in own else ""
    data = own.get("conversations") or own.get("text")
    answers = "answer_kl" in result["rows"][0]
    said = (
        f"{own['sequences']} {'conversations' if about else 'sequences'} of {data}, {about}{own['prefix']} tokens "
        f"compressed, {about}{own['continuation']} scored, {own['dtype']}, {own['device']}."
    )
    tokens = ", ".join(f"{count:,} {kind}" for kind, count in own.get("tokens", {}).items())
    parts = [f"### {fidelity['model']}", said + (f" Context tokens in all: {tokens}." if tokens else "")]
    parts.append(_table("", result["rows"], "to balanced", answers))
    parts.append("One part left out, over the method with it:")
    parts.append(_table("part", result["ablation"], "without / with", False, verdict=True))
    parts.append("\n".join(f"- {line}" for line in result["lines"]))
    return "\n\n".join(parts) + "\n"


def _table(first: str, rows: Sequence[Mapping[str, Any]], over: str, answers: bool, *, verdict: bool = False) -> str:
    names = [first, "bits", f"bytes {over}", "KL", f"KL {over}", "top-1"]
    names += ["KL on answers"] if answers else []
    names += ["it"] if verdict else []
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = [row["label"], _span(row["bits"], 2), _span(row["bytes_ratio"], 3)]
        cells += [_span(row["kl"], 4), _span(row["kl_ratio"], 2), _span(row["top1"], 3)]
        cells += [_span(row["answer_kl"], 4)] if answers else []
        cells += [row["verdict"]] if verdict else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _span(interval: Mapping[str, float], digits: int) -> str:
    value, low, high = (f"{interval[name]:.{digits}f}" for name in ("value", "low", "high"))
    return value if low == high else f"{value} ({low}-{high})"


def main(files: Sequence[str]) -> None:
    """Print the tables of every file."""
    for file in files:
        print(markdown(json.loads(Path(file).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main(sys.argv[1:])
