"""The frame of a self-contained HTML report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def html_page(title: str, body: Iterable[str], style: str, policy: str) -> str:
    """The page's text.

    Args:
        title, body: escaped already.
        style: CSS.
        policy: what the browser may fetch and run, whatever a text of the body holds (Content-Security-Policy).
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def write_page(path: str | os.PathLike[str], text: str) -> Path:
    """Write a page, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target
