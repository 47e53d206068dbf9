"""OscarModel: a transformers model, its tokenizer and the settings of the cache it generates from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from .adapters.base import Adapter
from .cache import OscarCache
from .cache_settings import CacheSettings, Settings
from .generation import check_used, complete
from .graphed_generation import graphed_arguments
from .key_bias import KeyBias
from .key_bias_detect import detect_key_biases
from .media import MediaLimits, parse_parts
from .memory import MemoryReport
from .profile import Profile
from .prompts import Messages, Prompt, encode, encode_text, tokenizer_of
from .report import LayerReport, layer_reports
from .rope_switch import switching_arguments
from .session import Parts, Session, SessionState, open_session
from .speech import Speech, speak
from .streaming import stream_text
from .talker import Talker, find_talker
from .weights import weight_samples


class OscarModel:
    """A model that generates from a compressed cache.

    Attributes:
        model: the transformers model; use it directly wherever this class does not reach.
        processor: its tokenizer (or processor).
        adapter: the facts of its family.
        settings: the compression settings of every layer.
        config: those of layers that have none of their own.
        profile: the calibration profile that the settings come from, if any.
        media_limits: what media in messages may cost; assign other limits to allow more or less.
        generator: the module of ``model`` whose generate() makes text; ``model`` itself but for omni models.
        key_biases: key-projection biases taken out before compression, by layer index.
        talker: what turns written answers into spoken ones; None where the model only writes.
    """

    def __init__(
        self, model: Any, processor: Any, adapter: Adapter, config: Settings, *, profile: Profile | None = None
    ) -> None:
        self.model = model
        self.processor = processor
        self.adapter = adapter
        self.settings = CacheSettings.of(config)
        self.config = self.settings.base
        self.profile = profile
        self.media_limits = MediaLimits()
        self.generator = adapter.find_generator(model)
        if self.generator is not model and self.generator.generation_config.eos_token_id is None:
            # a checkpoint's generation settings are those of the whole model; its parts know only their configs
            self.generator.generation_config.eos_token_id = tokenizer_of(processor).eos_token_id
        self.key_biases = _key_biases(model, adapter, self.settings)
        self.talker: Talker | None = find_talker(model, adapter, self.config)
        self._last_cache: Any = None

    def new_cache(self, *, offloading: bool = False) -> OscarCache:
        """An empty cache with this model's settings, for ``past_key_values``. At 16 bits it compresses nothing.

        Args:
            offloading: keep the layers not in use on the CPU.
        """
        biases, weights = self.key_biases or None, weight_samples(self.model, self.adapter)
        return OscarCache(self.model.config, self.settings, key_biases=biases, offloading=offloading, weights=weights)

    def load_cache(self, path: str | PathLike[str]) -> OscarCache:
        """A cache that OscarCache.save wrote, to go on from with this model.

        Raises:
            FileNotFoundError: no such file.
            CacheFileError: not a cache file, damaged, or made by another model or with other weights.
        """
        config, device = self.model.config, self.model.device
        weights = weight_samples(self.model, self.adapter)
        return OscarCache.load(path, config, key_biases=self.key_biases or None, weights=weights, device=device)

    def used(self, cache: OscarCache) -> None:
        """Make this the cache that memory() reports on."""
        self._last_cache = cache

    def memory(self) -> MemoryReport:
        """Bytes of the cache used last. It stays in memory until the next call or until this object goes.

        Raises:
            RuntimeError: nothing has been generated yet, or from a cache that does not count its bytes.
        """
        if not isinstance(self._last_cache, OscarCache):
            what = (
                "no cache has been used" if self._last_cache is None else f"{type(self._last_cache).__name__} was used"
            )
            raise RuntimeError(
                f"memory() reports on the last OscarCache, but {what}; call generate, chat or stream first"
            )
        return self._last_cache.memory()

    def generate(
        self,
        inputs: str | Sequence[str] | Tensor | Mapping[str, Any] | None = None,
        *,
        graphed: bool = False,
        **kwargs: Any,
    ) -> Any:
        """transformers' generate() from a compressed cache.

        Args:
            inputs: one text, several (padded on the left to a batch), token ids [batch, length], a mapping of tensors
                as a tokenizer returns it, or None where the tensors are keywords (``input_ids=...``).
            graphed: decode in steps of fixed shapes, on CUDA replayed as graphs (GraphedDecode); greedy decoding and
                sampling only, and every layer must be compressed.
            kwargs: passed on. Without ``past_key_values`` a new cache is made; give one to continue from it.

        Returns:
            What transformers returns: token ids [batch, prompt + new tokens] unless asked for more. Texts come out of
            ``model.processor.batch_decode``.

        Raises:
            ValueError: no text, a text without tokens, what ``graphed`` does not go with, or what does not go with a
                text that grows past the length at which the model's rotary frequencies change (rope_switch.py).
            TypeError: inputs of another kind.
            RuntimeError: transformers left the cache for one of its own.
        """
        if graphed:
            kwargs = graphed_arguments(self.generator, kwargs)
        self._last_cache = None  # frees the previous cache before the next one grows
        arguments = complete(self, self._encode(inputs), kwargs)
        self._last_cache = cache = arguments.get("past_key_values")
        made = self.generator.generate(**(arguments if graphed else switching_arguments(self.generator, arguments)))
        check_used(cache, made)
        return made

    def prepare(
        self, messages: Messages | Sequence[Sequence[Mapping[str, Any]]], *, use_audio_in_video: bool = False
    ) -> Prompt:
        """Inputs for generate(): a conversation, or a list of conversations padded on the left to one batch.

        Args:
            messages: as for chat().
            use_audio_in_video: hear the sound track of every video (omni models).

        Raises:
            ValueError: as chat() (MediaError is one).
        """
        batch = not isinstance(messages, str) and bool(messages) and not isinstance(messages[0], Mapping)
        return self._prompt(list(messages) if batch else [messages], use_audio_in_video)

    def _prompt(self, conversations: list[Any], use_audio_in_video: bool) -> Prompt:
        return encode(
            self.processor, self.adapter, conversations, self.media_limits, use_audio_in_video=use_audio_in_video
        )

    def chat(
        self, messages: Messages, *, max_new_tokens: int = 512, use_audio_in_video: bool = False, **kwargs: Any
    ) -> str:
        """The model's answer to a conversation.

        Args:
            messages: a text, or a list of {"role": ..., "content": ...}; put through the model's chat template, or
                joined as plain text where a base model has none. Content is a text or a list of parts of type text,
                image, video and audio: see docs/media.md.
            max_new_tokens: the answer's largest length in tokens.
            use_audio_in_video: hear the sound track of every video (omni models).
            kwargs: as for generate().

        Raises:
            ValueError: no messages, or one without role and content.
            MediaError: a medium that is broken, too large, not allowed, or not for this model; names the part.
        """
        prompt = self._prompt([messages], use_audio_in_video)
        tokens = self.generate(prompt, max_new_tokens=max_new_tokens, **kwargs)
        new = tokens[0, prompt["input_ids"].shape[1] :]
        return tokenizer_of(self.processor).decode(new, skip_special_tokens=True)

    def stream(
        self, messages: Messages, *, max_new_tokens: int = 512, use_audio_in_video: bool = False, **kwargs: Any
    ) -> Iterator[str]:
        """As chat(), in pieces as they are generated. Closing or dropping the iterator stops the generation.

        Errors of the generation are raised from the iterator; wrong messages are an error at once.
        """
        prompt = self._prompt([messages], use_audio_in_video)
        arguments = {"inputs": prompt, "max_new_tokens": max_new_tokens, **kwargs}
        return stream_text(self.generate, tokenizer_of(self.processor), arguments)

    def new_session(
        self, media: Parts | None = None, *, system: str | None = None, use_audio_in_video: bool = False
    ) -> Session:
        """A conversation that reads media once and keeps them in its cache: ``session.ask(question)``.

        Args:
            media: message parts (or a text) that every question is about; read and compressed now.
            system: what the system turn says.
            use_audio_in_video: hear the sound track of every video (omni models).

        Raises:
            MediaError: as chat().
            ValueError: the model has no chat template.
        """
        session = Session(self, self.new_cache(), SessionState(use_audio_in_video=use_audio_in_video))
        if media is not None or system is not None:
            session.read(() if media is None else parse_parts(media, self.media_limits, "media"), system)
        return session

    def open_session(self, path: str | PathLike[str]) -> Session:
        """A session that Session.save wrote.

        Raises:
            FileNotFoundError: no such file.
            CacheFileError: no session, damaged, or made by another model or with other weights.
        """
        return open_session(self, path)

    def speak(
        self,
        messages: Messages,
        *,
        speaker: str | None = None,
        max_new_tokens: int = 512,
        path: str | PathLike[str] | None = None,
        use_audio_in_video: bool = False,
        **kwargs: Any,
    ) -> Speech:
        """The model's answer to a conversation as text and as sound (omni models).

        Args:
            messages: as for chat().
            speaker: one of the model's voices; by default its own choice.
            max_new_tokens: the text's largest length in tokens.
            path: where to write the sound as a WAV file.
            use_audio_in_video: hear the sound track of every video.
            kwargs: for the model's own generate(), such as ``talker_max_new_tokens`` or ``talker_do_sample``.

        Raises:
            MediaError: as chat().
            ValueError: a model that does not speak, an unknown speaker, a path that does not end in .wav, or an answer
                with nothing to say.
            OSError: the path cannot be written.
        """
        return speak(self, messages, speaker, max_new_tokens, path, use_audio_in_video, kwargs)

    def report(self) -> list[LayerReport]:
        """What happens to each layer's cache and why; a line each when printed."""
        return layer_reports(self.model, self.adapter, self.settings, self.key_biases)

    def _encode(self, inputs: Any) -> dict[str, Any]:
        if inputs is None:
            return {}
        if isinstance(inputs, Tensor):
            if inputs.dim() != 2 or inputs.dtype not in (torch.int64, torch.int32):
                raise ValueError(f"inputs must be token ids [batch, length], got {inputs.dtype} {list(inputs.shape)}")
            return {"input_ids": inputs}
        if isinstance(inputs, Mapping):
            return inputs if isinstance(inputs, Prompt) else dict(inputs)
        return encode_text(self.processor, inputs)

    def __repr__(self) -> str:
        layers = self.report()
        compressed = [layer for layer in layers if layer.compressed]
        bits = sum(layer.bits_per_element for layer in compressed) / len(compressed) if compressed else 16
        size = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        return (
            f"OscarModel({type(self.model).__name__}, {size:.0f}M parameters, {self.model.dtype}, {self.model.device}; "
            f"cache: {len(compressed)} of {len(layers)} layers at {bits:.2f} bits an element, "
            f"{len(self.key_biases)} with key bias taken out)"
        )


def _key_biases(model: Any, adapter: Adapter, settings: CacheSettings) -> dict[int, KeyBias]:
    if not settings.compresses:
        return {}
    return {
        index: bias for index, bias in detect_key_biases(model, adapter).items() if settings[index].key_bias == "auto"
    }
