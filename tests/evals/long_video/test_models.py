"""The published models' figures: towers built again from their configs without memory, tokens of frames, hours."""

from __future__ import annotations

import pytest
import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig
from transformers.models.qwen2_5_omni import configuration_qwen2_5_omni as omni_config
from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni
from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl as vl_config
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as vl
from transformers.models.qwen3_omni_moe import configuration_qwen3_omni_moe as moe_config
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as moe

from oscar_x.cache_settings import CacheSettings
from oscar_x.config import PRESETS
from oscar_x.evals.long_video import VIDEO_MODELS, hours_table

# what the published config.json files say where transformers' defaults differ
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
SIGLIP = {
    "hidden_size": 1152,
    "image_size": 384,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 26,
    "patch_size": 14,
    "vision_use_head": False,
}


def towers(name: str) -> list[torch.nn.Module]:
    if name == "Qwen2.5-VL-7B":
        return [vl.Qwen2_5_VisionTransformerPretrainedModel(vl_config.Qwen2_5_VLVisionConfig(**VISION))]
    if name == "Qwen2.5-Omni-7B":
        sound = omni_config.Qwen2_5OmniAudioEncoderConfig(output_dim=3584)
        seen = omni_config.Qwen2_5OmniVisionEncoderConfig(**VISION)
        return [omni.Qwen2_5OmniVisionEncoder(seen), omni.Qwen2_5OmniAudioEncoder(sound)]
    if name == "Qwen3-Omni-30B-A3B":
        seen = moe_config.Qwen3OmniMoeVisionEncoderConfig(out_hidden_size=2048)
        sound = moe_config.Qwen3OmniMoeAudioEncoderConfig(output_dim=2048)
        return [moe.Qwen3OmniMoeVisionEncoder(seen), moe.Qwen3OmniMoeAudioEncoder(sound)]
    text = Qwen2Config(hidden_size=3584, intermediate_size=8, num_hidden_layers=1, num_attention_heads=28)
    config = LlavaOnevisionConfig(vision_config=SiglipVisionConfig(**SIGLIP), text_config=text)
    whole = LlavaOnevisionForConditionalGeneration(config).model
    newline = torch.nn.Module()
    newline.image_newline = whole.image_newline
    return [whole.vision_tower, whole.multi_modal_projector, newline]


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_towers_have_as_many_parameters_as_stated(name):
    with torch.device("meta"):
        built = towers(name)
    assert VIDEO_MODELS[name].tower_parameters == sum(p.numel() for tower in built for p in tower.parameters())


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Qwen2.5-VL-7B", 13 * 23),
        ("Qwen2.5-Omni-7B", 13 * 23 + 25),
        ("LLaVA-OneVision-7B", 196),
        ("Qwen3-Omni-30B-A3B", 11 * 20 + 13),
    ],
)
def test_tokens_of_a_second(name, tokens):
    assert VIDEO_MODELS[name].tokens_per_second(360, 640) == tokens


def test_hours_fit_and_grow_as_bits_shrink():
    rows = hours_table({name: CacheSettings(settings) for name, settings in PRESETS.items()})
    assert len(rows) == 4 * 3 * 4
    for row in rows:
        if not row.tokens:
            assert row.weights_bytes + row.reserve_bytes > row.memory_bytes
            continue
        held = row.weights_bytes + row.reserve_bytes + row.tokens * row.bytes_per_token
        assert held <= row.memory_bytes < 1.08 * held
        assert row.hours == pytest.approx(row.tokens / row.tokens_per_second / 3600)
        assert row.hours_within_positions * row.tokens_per_second * 3600 <= row.positions * 1.001
    ratios = {r.method: r.times_full for r in rows if (r.model, r.memory_bytes) == ("Qwen2.5-VL-7B", 80_000_000_000)}
    assert ratios["full"] == 1 < 5 < ratios["paper"] < ratios["balanced"] < ratios["max"] < 8
    with pytest.raises(ValueError, match="height=0"):
        hours_table({}, height=0)
