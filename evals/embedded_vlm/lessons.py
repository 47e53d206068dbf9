"""Scenes, their questions and captions as token trees in the chat form of the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from .build import IMAGE_TOKEN, TOKENS_PER_IMAGE
from .questions import CAPTION_REQUEST, Question, ask, caption
from .scenes import Scene, Split
from .trees import ROOT, Tree

QUESTIONS_PER_IMAGE = 4
END_WEIGHT = 0.1  # of predicting the end of a turn: easily learned, and not what training is for


@dataclass(frozen=True)
class Asked:
    """A question in a tree; the first token of its answer is predicted from position ``source``."""

    question: Question
    source: int
    answer_token: int


class Teacher:
    """Writes conversations about scenes as trees."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.image_token_id = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
        self._image = [*self._encode("<|im_start|>user\n"), *[self.image_token_id] * TOKENS_PER_IMAGE]
        self._newline = self._encode("\n")

    def lesson(self, scene: Scene, rng: np.random.Generator, before: Scene | None = None) -> Tree:
        """Caption and questions on a scene, each a branch, perhaps after a turn about another scene."""
        tree = Tree()
        image = tree.add(self._image, ROOT)
        if before is not None:
            turn = ask(before, "train", rng)[0]
            image = tree.add(self._image, tree.add(self._newline, self._say(tree, image, turn.text, turn.answer)))
        self._say(tree, image, CAPTION_REQUEST, caption(scene))
        for question in ask(scene, "train", rng)[:QUESTIONS_PER_IMAGE]:
            self._say(tree, image, question.text, question.answer)
        return tree

    def exam(self, scene: Scene, split: Split, rng: np.random.Generator) -> tuple[Tree, list[Asked]]:
        """A question of every kind on a scene."""
        tree = Tree()
        image = tree.add(self._image, ROOT)
        asked = []
        for question in ask(scene, split, rng):
            answer = self._encode(question.answer)
            last = self._say(tree, image, question.text, question.answer)
            asked.append(Asked(question, last - len(answer) - 1, answer[0]))
        return tree, asked

    def _say(self, tree: Tree, after: int, request: str, answer: str) -> int:
        """The rest of a user's turn and the assistant's answer, the only part that is predicted."""
        after = tree.add(self._encode(request + "<|im_end|>\n<|im_start|>assistant\n"), after)
        after = tree.add(self._encode(answer), after, 1.0)
        return tree.add(self._encode("<|im_end|>"), after, END_WEIGHT)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
