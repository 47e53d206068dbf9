"""What the documents show works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from oscar_x.adapters.base import Adapter
from oscar_x.evals.method import Method

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def code_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_block(code: str) -> dict:
    names: dict = {"__name__": "example"}
    exec(compile(code, "extending.md", "exec"), names)
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere_and_code_compiles(document: Path):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    for code in code_blocks(document):
        compile(code, document.name, "exec")


def test_the_example_adapter_is_one():
    adapter = run_block(code_blocks(ROOT / "docs" / "extending.md")[0])["ADAPTER"]
    assert isinstance(adapter, Adapter)
    assert adapter.model_types == ("olmo2",)


def test_the_example_method_packs_and_reads_back(support):
    method = run_block(code_blocks(ROOT / "docs" / "extending.md")[1])["METHODS"][0]
    assert isinstance(method, Method)
    model = support("tiny").tiny_model("llama")
    cache = method.new_cache(model)
    model(torch.arange(3, 99)[None], past_key_values=cache)
    cache.flush()
    model(torch.arange(3, 9)[None], past_key_values=cache)
    assert cache.packed_reads > 0
    assert 2 < method.footprint(cache).bits_per_element < 4
