"""Conversations with media to model inputs: load, render, process, and note which token stands for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers.video_utils import VideoMetadata

from .adapters.base import Adapter, MediaFacts
from .errors import MediaError, first_line
from .media import MediaLimits, MediaPart, Message, TextPart, Video, load_audio, load_image, load_video, parse_messages
from .modality import Modality, ModalityStream, Span, stream_of_tokens
from .prompts import tokenizer_of
from .soundtracks import AudioSlot, audio_arguments, check_window, heard_in_video, rate_arguments, time_grids
from .spans import aligned_spans, replaced_spans

KINDS = {"image": Modality.IMAGE, "video": Modality.VIDEO, "audio": Modality.AUDIO}
# before, generate() hands on the token types of new tokens alone, and the mask takes them for those of the first
_TYPES_SINCE = "5.23.0"


class Prompt(dict[str, Any]):
    """Model inputs by name, as generate() takes them.

    Attributes:
        stream: what every column of ``input_ids`` is.
    """

    def __init__(self, tensors: Mapping[str, Any], stream: ModalityStream) -> None:
        super().__init__(tensors)
        self.stream = stream


class Media(dict[str, list[list[Any]]]):
    """Loaded media by kind, a list a conversation.

    Attributes:
        slots: every sound, those of videos included.
    """

    def __init__(self, media: Mapping[str, list[list[Any]]]) -> None:
        super().__init__(media)
        self.slots: list[AudioSlot] = []

    def flat(self, kind: str) -> list[Any]:
        """All of one kind, in the order of the conversations."""
        return [item for row in self.get(kind, ()) for item in row]


def encode(
    processor: Any,
    adapter: Adapter,
    conversations: Sequence[Any],
    limits: MediaLimits,
    *,
    use_audio_in_video: bool = False,
) -> Prompt:
    """Conversations that the model is to answer, padded on the left to one batch.

    Args:
        conversations: texts or lists of messages, as parse_messages takes them.
        use_audio_in_video: hear the sound track of every video.

    Raises:
        MediaError: a message or medium that is not understood, not allowed or broken; names the part.
        ValueError: the processor has no chat template.
    """
    parsed = [parse_messages(messages, limits) for messages in conversations]
    check_parts([message for messages in parsed for message in messages], adapter, processor)
    texts = [render(processor, adapter, messages) for messages in parsed]
    media = load_media(parsed, adapter, processor, limits, use_audio_in_video)
    return process(processor, adapter, texts, media)


def placeholders(processor: Any) -> dict[int, Modality]:
    """The token ids that a processor puts where features of a medium go."""
    found: dict[int, Modality] = {}
    for kind, modality in KINDS.items():
        # a single id may be what the chat template writes, not what stands for features (Gemma 3)
        ids = getattr(processor, f"{kind}_token_ids", None) or [getattr(processor, f"{kind}_token_id", None)]
        known = [token for token in ids if token is not None]
        if not known and (written := getattr(processor, f"{kind}_token", None)):  # earlier processors have no ids
            known = [tokenizer_of(processor).convert_tokens_to_ids(written)]
        found |= dict.fromkeys(known, modality)
    return found


def placeholder_tokens(processor: Any) -> list[str]:
    """What stands for one medium in a rendered conversation."""
    return [token for kind in KINDS if (token := getattr(processor, f"{kind}_token", None))]


def check_parts(messages: Sequence[Message], adapter: Adapter, processor: Any, *, continues: bool = False) -> None:
    """Refuse what the model cannot read.

    Args:
        continues: the messages go on from what a cache holds.

    Raises:
        MediaError: a kind of medium that the family does not read, or not beside another, or not in a later turn; a
            text that holds a placeholder token.
    """
    facts = media_facts(adapter)
    kinds, first = facts.kinds, None
    features = tokenizer_of(processor).convert_ids_to_tokens(list(placeholders(processor)))
    tokens = list(dict.fromkeys([*placeholder_tokens(processor), *features]))
    for part in (part for message in messages for part in message.parts):
        if isinstance(part, MediaPart) and part.kind not in kinds:
            reads = f"reads {', '.join(('text', *kinds))}"
            raise MediaError(f"{part.where}: {part.kind} is not allowed here: {adapter.name} {reads}")
        if isinstance(part, MediaPart) and continues and facts.token_types is not None and not types_whole_sequence():
            raise MediaError(
                f"{part.where}: {part.kind} in a later turn is not allowed here: {adapter.name} needs transformers "
                f"{_TYPES_SINCE} for it; begin a new conversation"
            )
        if isinstance(part, MediaPart) and not facts.mixes:
            first = first or part.kind
            if part.kind != first:
                raise MediaError(
                    f"{part.where}: {part.kind} beside {first} is not allowed here: {adapter.name} reads one kind of "
                    "medium at a time; in a session, give them in different turns"
                )
        found = [token for token in tokens if isinstance(part, TextPart) and token in part.text]
        if found:
            raise MediaError(
                f"{part.where}: the text contains {found[0]!r}, which stands for a medium; add the medium as a part"
            )


def types_whole_sequence() -> bool:
    """Whether this transformers' generate() hands token types of the whole sequence on to the mask."""
    return Version(transformers.__version__) >= Version(_TYPES_SINCE)


def render(processor: Any, adapter: Adapter, messages: Sequence[Message], *, answer: bool = True) -> str:
    """The conversation as the chat template writes it, one placeholder a medium.

    Args:
        answer: whether the model's turn is begun.

    Raises:
        ValueError: media, and the processor has no chat template to place them. Texts alone are then joined.
    """
    if getattr(processor, "chat_template", None) is None:
        parts = [part for message in messages for part in message.parts]
        if all(isinstance(part, TextPart) for part in parts):  # a base model
            return "\n\n".join(_text(message) for message in messages)
        raise ValueError(
            "the processor has no chat template, so media cannot be placed; set model.processor.chat_template, "
            "or pass the processor's own output to generate()"
        )
    conversation = [
        {**message.extra, "role": message.role, "content": _content(message, adapter)} for message in messages
    ]
    return processor.apply_chat_template(conversation, add_generation_prompt=answer, tokenize=False)


def _content(message: Message, adapter: Adapter) -> str | list[dict[str, str]]:
    if adapter.media is None:  # templates of text models know nothing of parts
        return _text(message)
    return [_described(part) for part in message.parts]


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _described(part: TextPart | MediaPart) -> dict[str, str]:
    return {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": part.kind}


def load_media(
    conversations: Sequence[Sequence[Message]],
    adapter: Adapter,
    processor: Any,
    limits: MediaLimits,
    use_audio_in_video: bool,
) -> Media:
    """Every medium of the conversations, decoded within the limits.

    Raises:
        MediaError: names the message part.
    """
    facts = media_facts(adapter)
    if use_audio_in_video and not facts.sound_in_video:
        raise MediaError(f"messages: use_audio_in_video is not allowed here: {adapter.name} does not hear videos")
    extractor = getattr(processor, "feature_extractor", None)
    rate = getattr(extractor, "sampling_rate", None)
    media = Media({kind: [[] for _ in conversations] for kind in KINDS})
    for row, messages in enumerate(conversations):
        for part in (part for message in messages for part in message.parts if isinstance(part, MediaPart)):
            medium = _load(part, facts, limits, rate, use_audio_in_video)
            samples = medium.sound if isinstance(medium, Video) else medium if part.kind == "audio" else None
            if samples is not None:
                video = len(media.flat("video")) if part.kind == "video" else None
                media.slots.append(AudioSlot(samples, video, part.where))
                check_window(media.slots[-1], facts, extractor)
            if isinstance(medium, Video) and facts.equal_frames:
                _check_frames(part, medium, media.flat("video"), adapter.name)
            media[part.kind][row].append(medium)
    return media


def _load(part: MediaPart, facts: MediaFacts, limits: MediaLimits, rate: int | None, sound: bool) -> Any:
    if part.kind == "image":
        return load_image(part, limits)
    if part.kind == "audio":
        assert rate is not None  # families that read audio have a feature extractor
        return load_audio(part, limits, rate)
    return load_video(
        part,
        limits,
        fps=facts.fps,
        num_frames=facts.num_frames,
        max_frames=facts.max_frames,
        sound_rate=rate if sound else None,
    )


def _check_frames(part: MediaPart, video: Video, before: Sequence[Video], family: str) -> None:
    count, first = len(video.frames), len(before[0].frames) if before else len(video.frames)
    if count != first:
        raise MediaError(
            f"{part.where}: a video of {count} frames beside one of {first} is not allowed here: {family} reads videos "
            "of one length together; set num_frames, or give them in different turns of a session"
        )


def media_facts(adapter: Adapter) -> MediaFacts:
    """What the family reads beside text: nothing, for a text model."""
    return adapter.media or MediaFacts(kinds=())


def process(processor: Any, adapter: Adapter, texts: Sequence[str], media: Media, *, continues: bool = False) -> Prompt:
    """The processor's output for rendered conversations, with its modality stream.

    Args:
        continues: the texts go on from what a cache holds, so that no token is put before them.

    Raises:
        MediaError: media and placeholders that do not fit; the processor's own words.
    """
    if adapter.media is None:
        tensors = processor(list(texts), return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
        return Prompt(tensors, stream_of_tokens(tensors["input_ids"], None, {}))
    arguments = _arguments(processor, adapter.media, texts, media, continues)
    try:
        output = processor(**arguments)
    except (ValueError, IndexError, StopIteration) as error:
        raise MediaError(f"messages: {type(processor).__name__} refuses the media: {first_line(error)}") from error
    offsets, replaced = output.pop("offset_mapping"), output.pop("text_replacement_offsets", None)
    time_grids(output, adapter.media, media.flat("video"), processor)
    if heard_in_video(media.slots):
        output["use_audio_in_video"] = True
    mask = output.get("attention_mask")
    spans = _spans(processor, texts, output, offsets.tolist(), replaced)
    return Prompt(output, stream_of_tokens(output["input_ids"], mask, placeholders(processor), spans))


def _spans(
    processor: Any, texts: Sequence[str], output: Mapping[str, Any], offsets: Any, replaced: Any
) -> list[list[Span]] | None:
    """The tokens of each medium, row by row; None where nobody knows."""
    if replaced is not None:
        return [replaced_spans(*row, KINDS) for row in zip(offsets, replaced, strict=True)]
    marks = {token: kind for name, kind in KINDS.items() if (token := getattr(processor, f"{name}_token", None))}
    rows = []
    for text, ids, mask in zip(texts, output["input_ids"], output["attention_mask"], strict=True):
        padding = int((mask == 0).sum())
        spans = aligned_spans(tokenizer_of(processor), text, ids[padding:].tolist(), marks)
        if spans is None:
            return None
        rows.append([Span(span.kind, span.start + padding, span.stop + padding) for span in spans])
    return rows


def _arguments(
    processor: Any, facts: MediaFacts, texts: Sequence[str], media: Media, continues: bool
) -> dict[str, Any]:
    many = len(texts) > 1
    arguments: dict[str, Any] = {
        "text": list(texts),
        "return_tensors": "pt",
        "padding_side": "left",
        "return_offsets_mapping": True,
        "return_text_replacement_offsets": True,
    }
    if many:  # said of one conversation, it would keep sounds of unequal length from being padded, too
        arguments["padding"] = True
    bos = getattr(tokenizer_of(processor), "bos_token", None)
    # most chat templates write the first token themselves
    if continues or (bos and texts[0].startswith(bos)):
        arguments["add_special_tokens"] = False
    if media.flat("image"):
        # a list a conversation, also for one: LLaVA-OneVision shows a lone image in tiles and several without
        arguments["images"] = media["image"]
    if videos := media.flat("video"):
        arguments["videos"] = [
            [torch.from_numpy(video.frames).permute(0, 3, 1, 2) for video in row] for row in media["video"]
        ]
        arguments |= {"video_metadata": [_metadata(video) for video in videos], "do_sample_frames": False}
        arguments |= rate_arguments(facts, videos, media.slots)
    return arguments | audio_arguments(processor, media.slots) | facts.processor_arguments(media)


def _metadata(video: Video) -> VideoMetadata:
    height, width = video.frames.shape[1:3]
    return VideoMetadata(
        total_num_frames=video.total_num_frames,
        fps=video.source_fps,
        width=width,
        height=height,
        duration=video.duration,
        frames_indices=video.frames_indices,
    )
