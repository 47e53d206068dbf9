"""Trains the model: `python -m oscar_x.evals.tiny_omni.train --out FOLDER`.

Cross-entropy on the answers of generated clips of the training split. What is trained on follows from recipe.json
alone; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from . import blocks
from .clips import Clip, clips
from .exam import examine
from .forward import answer_logits
from .lessons import Batch, Teacher, choose
from .model import make_model
from .recipe import Recipe, Sort, Stage, read_recipe
from .tokens import make_processor

_REQUEST_TOKENS = 14  # of a question with its answer, about


class Trainer:
    """Model, optimizer and how far they are."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.processor = make_processor()
        self.model = make_model(self.processor.tokenizer, recipe.seed)
        blocks.use(self.model)
        self.teacher = Teacher(self.processor.tokenizer, self.model)
        self.optimizer = _optimizer(self.model, recipe)
        self.step, self.seconds, self.began = 0, 0.0, time.monotonic()
        self.used: dict[str, int] = defaultdict(int)  # clips of each sort
        self.recent: dict[str, list[bool]] = defaultdict(list)
        self.losses: list[float] = []
        self.stopped = False
        if (out / "state.pt").is_file():
            self._resume()

    def run(self) -> None:
        """All steps that are left; writes a checkpoint at every exam and when stopped."""
        stage: Stage | None = None
        for step, stage, rate in self.recipe.walk(self.step):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._train_step(stage, step)
            self.step = step + 1
            if self.step % self.recipe.log_every == 0:
                self._log_recent()
            if self.stopped:
                break
            if self.step % self.recipe.exam_every == 0:
                self._examine(stage)
                self.save()
        if not self.stopped and stage is not None:
            self._examine(stage)
        self.save()

    def _train_step(self, stage: Stage, step: int) -> None:
        rng = np.random.default_rng([self.recipe.seed, step])
        sort = stage.mix[int(rng.choice(len(stage.mix), p=_shares(stage)))]
        shown = self._clips(sort, self._count(sort, stage))
        batch = self.teacher.batch(shown, [choose(clip.questions, rng, stage.questions) for clip in shown])
        with torch.autocast("cpu", torch.bfloat16):
            logits = answer_logits(self.model, self.processor.feature_extractor, shown, batch)
        losses = cross_entropy(logits.float(), batch.targets, reduction="none")
        weights = batch.weights * torch.tensor([stage.emphasis.get(kind, 1.0) for kind in batch.kinds])
        loss = (losses * weights).sum() / weights.sum()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_gradient)
        self.optimizer.step()
        self._note(loss.item(), logits, batch)

    def _count(self, sort: Sort, stage: Stage) -> int:
        """Clips of a sort that make a step of the stage's tokens."""
        prefix, _ = self.teacher.prefix(sort.length, sort.heard)
        return max(1, round(stage.tokens / (len(prefix) + _REQUEST_TOKENS * stage.questions)))

    def _clips(self, sort: Sort, count: int) -> list[Clip]:
        """The next clips of the sort's stream."""
        name = f"{sort.length}-{sort.heard}"
        start = self.used[name]
        self.used[name] += count
        stream = clips("train", length=sort.length, start=start, heard=sort.heard, seed=self.recipe.seed)
        return list(islice(stream, count))

    def _note(self, loss: float, logits: torch.Tensor, batch: Batch) -> None:
        self.losses.append(loss)
        right = (logits.argmax(-1) == batch.targets).tolist()
        for kind, hit in zip(batch.kinds, right, strict=True):
            if kind:
                self.recent[kind].append(hit)

    def _log_recent(self) -> None:
        kinds = {kind: round(float(np.mean(hits)), 3) for kind, hits in sorted(self.recent.items())}
        self._log(loss=round(float(np.mean(self.losses)), 4), train=kinds)
        self.losses.clear()
        self.recent.clear()

    def _examine(self, stage: Stage) -> None:
        for exam in stage.exams:
            stream = clips("held-out", length=exam.length, heard=exam.heard, seed=self.recipe.seed + 1)
            right = examine(self.model, self.processor, self.teacher, islice(stream, exam.clips))
            kinds = {kind: round(float(np.mean(hits)), 3) for kind, hits in sorted(right.items())}
            self._log(exam={"length": exam.length, "heard": exam.heard, "clips": exam.clips}, held_out=kinds)

    def save(self) -> None:
        """The checkpoint, whole or not at all, and what a later run needs to go on."""
        folder = self.out / f"checkpoint-{self.step}"
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        state = {
            "step": self.step,
            "seconds": self._elapsed(),
            "used": dict(self.used),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, self.out / "state.new")
        os.replace(self.out / "state.new", self.out / "state.pt")
        link = self.out / "latest.new"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        os.replace(link, self.out / "latest")
        for old in self.out.glob("checkpoint-*"):
            if int(old.name.split("-")[1]) < self.step - 2 * self.recipe.exam_every:
                shutil.rmtree(old)

    def _resume(self) -> None:
        state = torch.load(self.out / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.used.update(state["used"])

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.began

    def _log(self, **entry: Any) -> None:
        line = json.dumps({"step": self.step, "seconds": round(self._elapsed()), **entry})
        print(line, flush=True)
        with (self.out / "training.jsonl").open("a") as file:
            file.write(line + "\n")


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, fused=True)


def _shares(stage: Stage) -> np.ndarray:
    shares = np.array([sort.share for sort in stage.mix])
    return shares / shares.sum()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, log and state; a run there is continued")
    parser.add_argument("--recipe", type=Path, help="another recipe than the shipped model's")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(read_recipe(options.recipe), options.out)

    def stop(number: int, frame: Any) -> None:
        trainer.stopped = True

    signal.signal(signal.SIGTERM, stop)
    trainer.run()


if __name__ == "__main__":
    main()
