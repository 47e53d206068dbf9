"""Small random checkpoints of the real multimodal classes, each with its real processor and a byte-level tokenizer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BASE_TOKENS = ("<pad>", "<|start|>", "<|end|>")

# one decoder for all: scores with a deviation near 1.3, as in tiny.py
DECODER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "initializer_range": 0.1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class TinyMedia:
    """What makes a family's small checkpoint.

    Attributes:
        model, processor: class names of transformers.
        config: the config's arguments; a value that names a token becomes its id, and "DECODER" the settings above
            with what else the dictionary holds.
        parts: the processor's parts: class name and arguments.
        tokens: special tokens; a name beside a token makes it an attribute of the tokenizer.
        show: kind of medium -> how the chat template writes it.
        kinds: kinds of media the family reads.
        processor_arguments: of the processor itself.
        files: further files of the checkpoint, name -> function that writes it.
    """

    model: str
    processor: str
    config: Mapping[str, Any]
    parts: Mapping[str, tuple[str, Mapping[str, Any]]]
    tokens: Mapping[str, str]
    show: Mapping[str, str]
    processor_arguments: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.show)


def load_family(name: str) -> TinyMedia:
    """The description of a family: tests/support/families/<name>.py has it as FAMILY."""
    return TinyMedia(**_described(name))


def _described(name: str) -> dict[str, Any]:
    path = Path(__file__).parent / "families" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"oscar_x_tests_family_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # one that is nearly another says which, and what differs
    return _merged(_described(module.LIKE), module.FAMILY) if hasattr(module, "LIKE") else dict(module.FAMILY)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(base[key], own[key]) for key in base.keys() & own.keys() if isinstance(own[key], Mapping)}
    return {**base, **own, **both}


def tokenizer_of(family: TinyMedia) -> transformers.PreTrainedTokenizerFast:
    """One token per byte and the family's special tokens."""
    special = [*BASE_TOKENS, *dict.fromkeys(family.tokens.values())]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        additional_special_tokens=special[len(BASE_TOKENS) :],
        extra_special_tokens=dict(family.tokens),
        padding_side="left",
    )


def chat_template(family: TinyMedia) -> str:
    """Role, media as the family writes them, text, end."""
    kinds = "".join(
        f"{{% elif part['type'] == '{kind}' %}}{{{{ {written!r} }}}}" for kind, written in family.show.items()
    )
    return (
        "{% for message in messages %}<|start|>{{ message['role'] }}\n{% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
        "{{ part['text'] }}" + kinds + "{% endif %}{% endfor %}{% endif %}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )


def tiny_processor(family: TinyMedia) -> Any:
    """The family's real processor around the byte-level tokenizer."""
    parts = {name: getattr(transformers, cls)(**arguments) for name, (cls, arguments) in family.parts.items()}
    return getattr(transformers, family.processor)(
        tokenizer=tokenizer_of(family), **parts, chat_template=chat_template(family), **family.processor_arguments
    )


def tiny_config(family: TinyMedia, tokenizer: Any) -> transformers.PreTrainedConfig:
    """The family's config at a size that runs in milliseconds."""

    def resolve(value: Any) -> Any:
        if isinstance(value, Mapping):
            settings = {key: resolve(item) for key, item in value.items() if key != "DECODER"}
            return {**DECODER, "vocab_size": len(tokenizer), **settings} if "DECODER" in value else settings
        if isinstance(value, str) and value in tokenizer.get_vocab():
            return tokenizer.convert_tokens_to_ids(value)
        return value

    return getattr(transformers, family.model).config_class(**resolve(family.config))


def save_tiny(name: str, folder: Path, seed: int = 0, **text_settings: Any) -> Path:
    """Writes model and processor as from_pretrained expects them.

    Args:
        text_settings: changes of the text config: another decoder, say.
    """
    family = load_family(name)
    if text_settings:
        text_config = {**family.config["text_config"], **text_settings}
        family = replace(family, config={**family.config, "text_config": text_config})
    processor = tiny_processor(family)
    torch.manual_seed(seed)
    model = getattr(transformers, family.model)(tiny_config(family, processor.tokenizer)).float().eval()
    _widen_towers(model)
    _draw_experts(model)
    # random weights would now and then say a placeholder, which a model then takes for a medium that was not given
    media = [processor.tokenizer.convert_tokens_to_ids(token) for token in family.tokens.values()]
    model.generation_config.update(pad_token_id=0, bos_token_id=1, eos_token_id=2, suppress_tokens=media)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file, write in family.files.items():
        write(folder / file)
    return folder


def _widen_towers(model: torch.nn.Module) -> None:
    """Draw towers and projections so that what they read reaches the decoder: transformers draws them so narrow,
    Gemma's projection as zeros, that one medium comes out like another."""
    parts = ("vision", "visual", "audio_tower", "projector", "connector")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and any(part in name for part in parts) and not name.startswith(("talker", "token2wav")):
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def _draw_experts(model: torch.nn.Module) -> None:
    """Draw the talker's experts, which transformers leaves as the memory was."""
    for name, parameter in model.named_parameters():
        if name.startswith("talker") and ".experts." in name:
            torch.nn.init.normal_(parameter, std=0.1)


def image(height: int, width: int, seed: int = 0) -> Any:
    """A random picture, uint8 [height, width, 3]."""
    return torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed)).byte().numpy()


def frames(count: int, height: int, width: int, seed: int = 0) -> Any:
    """A random video, uint8 [count, height, width, 3]."""
    shape = (count, height, width, 3)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).byte().numpy()


def tone(seconds: float, seed: int = 0, rate: int = 16000) -> Any:
    """A noisy tone, float32 [samples]."""
    time = torch.arange(int(seconds * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    return (0.3 * torch.sin(2 * torch.pi * (220 + 40 * seed) * time) + 0.05 * noise).numpy()
