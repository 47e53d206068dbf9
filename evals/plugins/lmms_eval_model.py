"""lmms-eval plug-in: tasks with images, videos and sounds, answered from a packed cache.

    python -m lmms_eval --model oscar_x --model_args pretrained=...,max_frames=64 --tasks videomme

Two phases: what stands before a conversation's last text is read once and packed whole, then the text is asked.
Requests that follow each other about the same media share one packed context.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from ...prompts import tokenizer_of
from ...session import Session
from .settings import load_model, until

DEFAULT_NEW_TOKENS = 128
VIDEO_OPTIONS = ("fps", "max_frames", "max_pixels", "num_frames")
GENERATION = ("temperature", "top_p", "num_beams", "do_sample")


class OscarX(lmms):
    """A model that reads media and answers from a packed cache.

    Args:
        pretrained: as oscar_x.load takes it.
        fps, max_frames, num_frames, max_pixels: options of every video, as docs/media.md says.
        use_audio_in_video: hear the sound track of videos (omni models).
        kv_bits, key_bits, value_bits, preset, profile, dtype, backend: as oscar_x.load.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        *,
        device: str | None = None,
        batch_size: int | str = 1,
        use_audio_in_video: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if int(batch_size) != 1:
            raise ValueError(f"batch_size={batch_size} is not allowed; contexts are packed one by one, use 1")
        self.video = {name: arguments.pop(name) for name in VIDEO_OPTIONS if arguments.get(name) is not None}
        self.hears = str(use_audio_in_video).lower() in ("true", "1")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            device = device or str(self.accelerator.device)
        unused = ("max_batch_size", "trust_remote_code")
        given = {name: value for name, value in arguments.items() if name not in unused and value is not None}
        self.oscar = load_model(pretrained, {**given, "device": device})
        self.packed_reads = 0
        self._held: tuple[Any, Session] | None = None

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers in the order of the requests.

        Raises:
            MediaError: a medium that cannot be read.
        """
        return [self._answer(request) for request in tqdm(requests, disable=self.rank != 0, desc="Answers")]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("oscar_x answers by generation; choose tasks of output type generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("oscar_x answers one question at a time; choose tasks of output type generate_until")

    def _answer(self, request: Instance) -> GenerationResult:
        # releases differ in what follows the first six
        context, to_messages, options, doc_id, task, split, *_ = request.args
        messages = to_messages(self.task_dict[task][split][doc_id])
        media, question = split_question(messages, self.video)
        answer = self._read(media).fork()
        before = answer.cache.packed_reads
        generation = _greedy({name: options[name] for name in GENERATION if options.get(name) is not None})
        text = answer.ask(
            question, max_new_tokens=options.get("max_new_tokens", DEFAULT_NEW_TOKENS), **_greedy(generation)
        )
        self.packed_reads += answer.cache.packed_reads - before
        text = until(text, options.get("until"))
        self.cache_hook.add_partial("generate_until", (context, options), text)
        tokens = tokenizer_of(self.oscar.processor)(text, add_special_tokens=False)["input_ids"]
        return GenerationResult(text=text, token_counts=TokenCounts(output_tokens=len(tokens)))

    def _read(self, media: list[dict[str, Any]]) -> Session:
        """A session behind the media, all of it packed."""
        if self._held is None or not _same(self._held[0], media):
            self._held = None  # frees the other context first
            session = self.oscar.new_session(media, use_audio_in_video=self.hears)
            session.cache.flush()
            self._held = (media, session)
        return self._held[1]


def split_question(messages: Sequence[Mapping[str, Any]], video: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What is read first, and the text that is asked about it.

    Args:
        messages: one turn of the user, perhaps behind one of the system, in lmms-eval's form.
        video: options of every video.

    Raises:
        ValueError: several turns, or no text at the end.
    """
    users = [message for message in messages if message["role"] == "user"]
    if len(users) != 1 or messages[-1]["role"] != "user":
        raise ValueError(f"a conversation of {len(messages)} turns is not understood; one question is answered")
    parts = [part(item, video) for message in messages for item in message["content"]]
    if not parts or parts[-1]["type"] != "text":
        raise ValueError("the last part of a question must be text")
    return parts[:-1], parts[-1]["text"]


def part(item: Mapping[str, Any], video: Mapping[str, Any]) -> dict[str, Any]:
    """A part of lmms-eval's messages as oscar_x takes it."""
    kind = item["type"]
    if kind == "text":
        return {"type": "text", "text": item["text"]}
    source = item["url"]
    if kind == "audio" and isinstance(source, Mapping):
        return {"type": "audio", "audio": source["array"], "sampling_rate": source["sampling_rate"]}
    options: dict[str, Any] = dict(video) if kind == "video" else {}
    if kind == "video":
        options |= {"video_start": item.get("start_time"), "video_end": item.get("end_time")}
    return {"type": kind, kind: source, **options}


def _same(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two contexts are the same texts and files; decoded media count as different."""
    plain = all(isinstance(value, (str, int, float, type(None))) for item in (*one, *other) for value in item.values())
    return plain and list(map(dict, one)) == list(map(dict, other))


def _greedy(options: dict[str, Any]) -> dict[str, Any]:
    """Generation settings without those that transformers refuses for greedy decoding."""
    if options.get("do_sample") or (options.get("do_sample") is None and options.get("temperature", 0) > 0):
        return {**options, "do_sample": True}
    return {"do_sample": False, **{name: options[name] for name in ("num_beams",) if name in options}}
