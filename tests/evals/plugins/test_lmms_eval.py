"""The lmms-eval plug-in against the installed package; without one these tests are left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from oscar_x.evals.plugins.settings import until


def test_the_entry_point_is_there_and_loads_without_lmms_eval():
    (entry,) = entry_points(group="lmms_eval.models", name="oscar_x")
    assert callable(entry.load())


@pytest.mark.parametrize(("stops", "text"), [(None, "a\nb c"), ("\n", "a"), (["c", "\n"], "a"), (["", "x"], "a\nb c")])
def test_answers_end_at_the_first_stop(stops: Any, text: str):
    assert until("a\nb c", stops) == text


@pytest.fixture(scope="module")
def plugin() -> Any:
    """The module that needs lmms-eval."""
    pytest.importorskip("lmms_eval.api.model", reason="needs the package lmms-eval")
    from oscar_x.evals.plugins import lmms_eval_model

    return lmms_eval_model


@pytest.fixture(scope="module")
def model(plugin: Any, tiny_media: Callable[..., Path]) -> Any:
    return plugin.OscarX(str(tiny_media("qwen2_5_vl")), device="cpu", max_frames=8)


def test_lmms_eval_finds_the_class(plugin: Any):
    from lmms_eval.models import MODEL_REGISTRY_V2

    assert MODEL_REGISTRY_V2.get_model_class("oscar_x") is plugin.OscarX
    assert MODEL_REGISTRY_V2.resolve("oscar-x").model_type == "chat"


def test_messages_of_the_harness(plugin: Any):
    samples = [0.0, 0.1]
    sound = {"type": "audio", "url": {"array": samples, "sampling_rate": 16000}}
    video = {"type": "video", "url": "a.mp4", "start_time": 1.0, "end_time": None}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
        {"role": "user", "content": [sound, video, {"type": "text", "text": "What?"}]},
    ]
    media, question = plugin.split_question(messages, {"fps": 1.0})
    assert question == "What?"
    assert media == [
        {"type": "text", "text": "Be short."},
        {"type": "audio", "audio": samples, "sampling_rate": 16000},
        {"type": "video", "video": "a.mp4", "fps": 1.0, "video_start": 1.0, "video_end": None},
    ]
    with pytest.raises(ValueError, match="conversation of 3 turns"):
        plugin.split_question([messages[1], {"role": "assistant", "content": []}, messages[1]], {})
    with pytest.raises(ValueError, match="must be text"):
        plugin.split_question([{"role": "user", "content": [video]}], {})


TASK = """
task: local_pictures
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_messages: !function local_functions.messages
doc_to_text: "{{{{question}}}}"
doc_to_target: "answer"
generation_kwargs:
  max_new_tokens: 4
  do_sample: false
process_results: !function local_functions.results
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
"""
FUNCTIONS = """
def messages(doc, lmms_eval_specific_kwargs=None):
    parts = [{"type": "image", "url": doc["picture"]}, {"type": "text", "text": doc["question"]}]
    return [{"role": "user", "content": parts}]

def results(doc, results):
    return {"right": float(doc["answer"] in results[0])}
"""


def test_a_local_task_through_the_evaluator(model: Any, tmp_path: Path):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager
    from PIL import Image

    rows = []
    for color in ("red", "blue"):
        Image.new("RGB", (112, 112), color).save(tmp_path / f"{color}.png")
        asked = {"picture": str(tmp_path / f"{color}.png"), "answer": color}
        rows += [{**asked, "question": f"Which color? {'And why? ' * i}"} for i in range(2)]
    (tmp_path / "data.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "local_pictures.yaml").write_text(TASK.format(data=tmp_path / "data.json"))
    (tmp_path / "local_functions.py").write_text(FUNCTIONS)
    reads: list[Any] = []
    own, model._read = model._read, lambda media: reads.append(media) or own(media)
    results = simple_evaluate(
        model=model, tasks=["local_pictures"], task_manager=TaskManager(include_path=str(tmp_path)), bootstrap_iters=0
    )
    assert 0 <= results["results"]["local_pictures"]["right,none"] <= 1
    assert len(reads) == 4
    assert model.packed_reads > 0
