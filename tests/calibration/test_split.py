"""Calibration decides where blocks end: chosen where that pays, and counted at the bytes it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import oscar_x
from oscar_x import CacheSettings, Modality, OscarConfig
from oscar_x.cache import OscarCache
from oscar_x.calibration import Candidates
from oscar_x.calibration.data import passages_of
from oscar_x.calibration.divergence import measure
from oscar_x.calibration.errors import packed_layer
from oscar_x.calibration.padding import padding, places
from oscar_x.calibration.recording import record
from oscar_x.calibration.replay import fill
from oscar_x.modality import ModalityStream

FEW = Candidates(
    bits=(2, 4), group_sizes=(16,), scale_bits=(4,), head_ways=1, modality_split=(None, 1.0), modality_split_run=(8,)
)


@pytest.fixture(scope="module")
def shown(support, tiny_media):
    """A model, and a conversation about an image."""
    model = oscar_x.load(tiny_media("qwen2_5_vl"), device="cpu")
    picture = support("media_cases").part(support("tiny_media"), "image", model.adapter.media, 3)
    text = {"type": "text", "text": "Look at this, and remember it well. " * 6}
    messages = [{"role": "user", "content": [text, picture, text]}]
    return model, {"messages": messages, "question": "What is shown here?", "answer": "Nothing but noise."}


def mixed(*counts):
    """Text, image, text ... of these many tokens."""
    kinds = [(Modality.TEXT, Modality.IMAGE)[at % 2] for at in range(len(counts))]
    modalities = torch.cat(
        [torch.full((1, count), int(kind), dtype=torch.int8) for kind, count in zip(kinds, counts, strict=True)], 1
    )
    return ModalityStream(modalities, torch.zeros_like(modalities, dtype=torch.int32))


def test_places_are_those_of_blocks():
    """20 + 40 + 10 tokens, no sinks: blocks of 20, 32, 8 and 10 in place of 32, 32 and 6."""
    keys, values = torch.randn(2, 1, 2, 70, 64, generator=torch.Generator().manual_seed(0))
    settings = OscarConfig(block_size=32, sink_tokens=0, modality_split=1.0, modality_split_run=8)
    layer = packed_layer(keys, values, settings, stream=mixed(20, 40, 10))
    assert layer.rows[0].lengths == [20, 32, 8, 10]
    assert places(layer).tolist() == [4 * 32, 3 * 32]
    assert padding(places(layer)) == pytest.approx(4 / 3)
    assert places(packed_layer(keys, values, settings)).tolist() == [3 * 32, 3 * 32]
    assert padding(places(layer) * 0) == 1.0


def test_measured_bits_grow_as_bytes_do(shown):
    model, conversation = shown
    recording = record(model, passages_of(model, [conversation], 1, 8, 8)[0], draws=1, seed=0)
    bits, blocks = [], []
    for split in (None, 1.0):
        own = OscarConfig(sink_tokens=0, modality_split=split, modality_split_run=8)
        settings = CacheSettings(own, {})
        bits.append(measure(model, [recording], settings, model.key_biases).bits_per_element)
        cache = OscarCache(model.generator.config, settings.map(lambda own: replace(own, residual_length=0)))
        fill(cache, recording.states, recording.stream).flush()
        blocks.append([layer.pool.live for layer in cache.packed_layers])
    assert all(split > whole for whole, split in zip(*blocks, strict=True))
    assert bits[1] / bits[0] == pytest.approx(sum(blocks[1]) / sum(blocks[0]))


def test_a_split_is_chosen_and_paid_for(shown, tiny_media, tmp_path):
    """With much to spend blocks end where text and image meet, with little they do not; a loaded profile does so."""
    model, conversation = shown
    few, many = (oscar_x.calibrate(model, [conversation], bits_budget=bits, candidates=FEW) for bits in (2.75, 12))
    assert {few.settings[layer].modality_split for layer in few.settings.layers} == {None}
    assert 1.0 in {many.settings[layer].modality_split for layer in many.settings.layers}
    unsplit = {layer: replace(own, modality_split=None) for layer, own in many.settings.layers.items()}
    recording = record(model, passages_of(model, [conversation], 1, 8, 8)[0], draws=1, seed=0)
    without = measure(model, [recording], CacheSettings(many.settings.base, unsplit), model.key_biases)
    assert without.bits_per_element < many.after.bits_per_element <= 12
    many.save(tmp_path / "profile.json")
    loaded = oscar_x.load(tiny_media("qwen2_5_vl"), profile=tmp_path / "profile.json", device="cpu")
    memory = []
    for settings in (loaded.settings, CacheSettings(many.settings.base, unsplit)):
        cache = OscarCache(model.generator.config, settings.map(lambda own: replace(own, residual_length=0)))
        fill(cache, recording.states, recording.stream).flush()
        memory.append(cache.memory().unfilled)
    assert memory[0] > memory[1]


def test_text_alone_decides_nothing_about_it(shown):
    model, _ = shown
    arguments = {"sequences": 1, "prefix": 96, "continuation": 16, "bits_budget": 12, "candidates": FEW}
    profile = oscar_x.calibrate(model, "One text among others. " * 20, **arguments)
    assert {own.modality_split for own in profile.settings.layers.values()} == {None}
