"""Trains the projector between the two frozen models: `python -m oscar_x.evals.embedded_vlm.train`.

Cross-entropy on answers and captions through the frozen language model, after a short start in which each cell's
projection is drawn to the word embeddings of what the cell shows. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, mse_loss

from .build import load_language_model, projector_path
from .features import encode
from .lessons import Teacher
from .projector import Projector
from .questions import KINDS
from .resnet import load_resnet
from .scenes import Scene, Split
from .trees import Batch, Tree, collate
from .words import cell_words, word_embeddings

EXAMINED = 60  # images of an exam while training
HELD_BACK = 300  # images of the training split that are never trained on, and as many of the other split
EASY_SHARE = 0.25  # of all steps show one thing only
TWO_IMAGES = 0.25  # of all trees begin with another image


class Trainer:
    """The frozen language model, the projector, encoded scenes, and the steps of training."""

    def __init__(self, options: argparse.Namespace, log: Path) -> None:
        self.options, self.log_path, self.began = options, log, time.monotonic()
        log.unlink(missing_ok=True)
        language, self.tokenizer = load_language_model()
        # bfloat16 and plain attention: together twice as fast here as float32 and sdpa
        self.language = language.to(torch.bfloat16).requires_grad_(False)
        self.language.set_attn_implementation("eager")
        self.teacher = Teacher(self.tokenizer)
        tower = load_resnet().to(torch.bfloat16)
        self.sets: dict[Split, tuple[list[Scene], torch.Tensor]] = {
            "train": encode(tower, "train", options.seed, options.images + HELD_BACK, self._encoding),
            "held-out": encode(tower, "held-out", options.seed, HELD_BACK),
        }
        torch.manual_seed(options.seed)
        sample = self.sets["train"][1][:2000].float().flatten(0, 1)
        self.projector = Projector(sample, self.language.config.hidden_size)

    def run(self) -> None:
        """All of training; writes the projector at every exam."""
        self._log(options={name: value for name, value in vars(self.options).items() if name != "out"})
        self._word_start()
        options, rng = self.options, np.random.default_rng(self.options.seed)
        optimizer = torch.optim.AdamW(self.projector.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01)
        losses: list[float] = []
        for step in range(options.steps):
            for group in optimizer.param_groups:
                group["lr"] = (
                    options.lr * min(1, (step + 1) / 30) * 0.5 * (1.02 + math.cos(math.pi * step / options.steps))
                )
            trees, indices = self._draw_lessons(rng, easy=step < EASY_SHARE * options.steps)
            losses.append(self._step(optimizer, trees, indices))
            if (step + 1) % 25 == 0:
                self._log(step=step + 1, loss=round(float(np.mean(losses[-25:])), 4))
            if (step + 1) % options.exam_every == 0:
                self._log(step=step + 1, **self.exams(EXAMINED))
                save_file(self.projector.folded(), options.out)
        self._log(step=options.steps, **self.exams(HELD_BACK))
        save_file(self.projector.folded(), options.out)

    def _word_start(self) -> None:
        """Draw each cell's projection to the sum of the words for what it shows, without the language model."""
        scenes, features = self.sets["train"]
        words = word_embeddings(self.language, self.tokenizer)
        shown = torch.stack([cell_words(scene) for scene in scenes[: self.options.images]])
        optimizer = torch.optim.AdamW(self.projector.parameters(), lr=2e-3, weight_decay=0.01)
        for step in range(self.options.word_steps):
            picked = torch.randint(0, self.options.images, (32,))
            target = shown[picked] @ words
            loss = mse_loss(self.projector(features[picked].float()), target) / target.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % 100 == 0:
                self._log(word_step=step + 1, relative_error=round(loss.item(), 4))

    def _draw_lessons(self, rng: np.random.Generator, easy: bool) -> tuple[list[Tree], list[int]]:
        scenes = self.sets["train"][0]
        trees: list[Tree] = []
        indices: list[int] = []

        def pick() -> int:
            while True:
                index = int(rng.integers(self.options.images))
                if not easy or len(scenes[index].things) == 1:
                    return index

        for _ in range(self.options.batch):
            before, index = (pick() if rng.random() < TWO_IMAGES else None), pick()
            trees.append(self.teacher.lesson(scenes[index], rng, None if before is None else scenes[before]))
            indices += [index] if before is None else [before, index]
        return trees, indices

    def _step(self, optimizer: torch.optim.Optimizer, trees: list[Tree], indices: list[int]) -> float:
        batch = collate(trees)
        logits = self.logits(batch, self.sets["train"][1][indices])
        losses = cross_entropy(logits, batch.targets, reduction="none")
        loss = (losses * batch.weights).sum() / batch.weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.projector.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    def logits(self, batch: Batch, features: torch.Tensor) -> torch.Tensor:
        """float32 [predictions, vocabulary]; features [images, 49, channels] in the order of the trees."""
        embeds = self.language.get_input_embeddings()(batch.ids)
        images = self.projector(features.float()).to(embeds.dtype)
        embeds = embeds.masked_scatter((batch.ids == self.teacher.image_token_id)[..., None], images)
        mask = torch.zeros(batch.mask.shape, dtype=embeds.dtype)
        mask.masked_fill_(~batch.mask, torch.finfo(embeds.dtype).min)
        hidden = self.language.model(inputs_embeds=embeds, position_ids=batch.positions, attention_mask=mask)
        return self.language.lm_head(hidden.last_hidden_state[batch.rows, batch.sources]).float()

    def exams(self, count: int) -> dict[str, dict[str, float]]:
        """Share of right answers by kind of question on new images, of trained pairs and of held-out ones."""
        return {"new_images": self._exam("train", count), "held_out": self._exam("held-out", count)}

    @torch.inference_mode()
    def _exam(self, split: Split, count: int) -> dict[str, float]:
        scenes, features = self.sets[split]
        rng = np.random.default_rng(self.options.seed)
        right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        first = len(scenes) - HELD_BACK
        for start in range(first, first + count, 10):
            papers = [self.teacher.exam(scene, split, rng) for scene in scenes[start : start + 10]]
            batch = collate([tree for tree, _ in papers])
            guesses = self.logits(batch, features[start : start + 10]).argmax(dim=-1).tolist()
            places = {place: i for i, place in enumerate(zip(batch.rows.tolist(), batch.sources.tolist(), strict=True))}
            for row, (_, asked) in enumerate(papers):
                for item in asked:
                    right[item.question.kind].append(guesses[places[row, item.source]] == item.answer_token)
        return {kind: round(float(np.mean(hits)), 3) for kind, hits in right.items()}

    def _encoding(self, done: int) -> None:
        if done % 1600 == 0:
            self._log(encoded_images=done)

    def _log(self, **entry: object) -> None:
        line = json.dumps({"seconds": round(time.monotonic() - self.began), **entry})
        print(line, flush=True)
        with self.log_path.open("a") as file:
            file.write(line + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--word-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=6, help="trees a step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--exam-every", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=str, default=str(projector_path()))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    Trainer(options, Path(options.out).with_name("training.jsonl")).run()


if __name__ == "__main__":
    main()
