"""Tells lmms-eval where the model is (entry point group ``lmms_eval.models``) without loading any of it."""

from __future__ import annotations

from typing import Any

MODEL_ID = "oscar_x"


def manifest() -> Any:
    """The ModelManifest; called by lmms-eval, which is therefore installed."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id=MODEL_ID, chat_class_path="oscar_x.evals.plugins.lmms_eval_model.OscarX", aliases=("oscar-x",)
    )
