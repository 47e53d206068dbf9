"""What a cache knows of its columns follows every operation on its rows."""

from __future__ import annotations

import pytest
import torch

from oscar_x.cache import OscarCache
from oscar_x.cache.serialize import CacheFileError
from oscar_x.modality import Modality, ModalityStream


@pytest.fixture
def filled(support):
    """(cache, stream): two rows of 90 columns, the second padded on the left, with one image each."""
    harness = support("harness")
    cache = harness.new_cache()
    modalities = torch.zeros(2, 90, dtype=torch.int8)
    modalities[0, 10:30] = int(Modality.IMAGE)
    modalities[1, :5] = int(Modality.PADDING)
    modalities[1, 40:80] = int(Modality.VIDEO)
    positions = torch.arange(90, dtype=torch.int32).expand(3, 2, -1).clone()
    stream = ModalityStream(modalities, (modalities > 0).int(), positions)
    cache.expect_prompt(90, stream)
    mask = harness.causal_mask([[], []], [[True] * 90, [False] * 5 + [True] * 85], 0)
    harness.attend(cache, *harness.states(2, 2, 90, 16, seed=1), mask)
    return cache, stream


def same(found: ModalityStream, expected: ModalityStream) -> None:
    assert torch.equal(found.modalities, expected.modalities)
    assert torch.equal(found.segments, expected.segments)
    assert torch.equal(found.positions, expected.positions)


def test_held_as_told(filled):
    cache, stream = filled
    same(cache.modalities, stream)


def test_generated_tokens_are_text(filled, support):
    cache, _ = filled
    harness = support("harness")
    harness.attend(cache, *harness.states(2, 2, 1, 16, seed=2))
    assert cache.modalities.shape == (2, 91)
    assert cache.modalities.modalities[:, 90].tolist() == [0, 0]
    assert cache.modalities.positions[:, :, 90].tolist() == [[90, 90]] * 3


def test_rows_move_with_the_cache(filled):
    cache, stream = filled
    cache.reorder_cache(torch.tensor([1, 1]))
    same(cache.modalities, stream.select(torch.tensor([1, 1])))
    cache.batch_repeat_interleave(2)
    same(cache.modalities, stream.select(torch.tensor([1, 1, 1, 1])))
    cache.batch_select_indices(torch.tensor([True, False, False, True]))
    assert cache.modalities.shape == (2, 90)
    cache.reset()
    assert cache.modalities.shape == (0, 0)


def test_crop_and_a_later_turn(filled):
    cache, stream = filled
    cache.crop(-30)
    same(cache.modalities, stream.crop(60))
    new = ModalityStream(torch.full((2, 3), int(Modality.AUDIO), dtype=torch.int8), torch.ones(2, 3, dtype=torch.int32))
    cache.expect_prompt(63, new)
    told = cache.shared.stream
    assert told.segments[:, 60:].tolist() == [[2, 2, 2]] * 2
    assert told.positions[0, :, 60:].tolist() == [[60, 61, 62]] * 2


def test_beams_of_a_prompt_told_once(support):
    """generate() repeats the rows of a prompt by itself before the cache sees them."""
    harness = support("harness")
    cache = harness.new_cache()
    modalities = torch.tensor([[0, 1, 1], [2, 0, 0]], dtype=torch.int8)
    cache.expect_prompt(3, ModalityStream(modalities, (modalities > 0).int()))
    harness.attend(cache, *harness.states(4, 2, 3, 16, seed=3))
    assert cache.modalities.modalities.tolist() == [[0, 1, 1], [0, 1, 1], [2, 0, 0], [2, 0, 0]]


def test_fork_goes_its_own_way(filled, support):
    cache, stream = filled
    twin = cache.fork()
    twin.crop(-40)
    same(cache.modalities, stream)
    same(twin.modalities, stream.crop(50))


def test_file_keeps_stream_and_notes(filled, tmp_path):
    cache, stream = filled
    cache.save(tmp_path / "c.safetensors", notes={"who": "a test"})
    loaded = OscarCache.load(tmp_path / "c.safetensors", cache.model_config)
    same(loaded.modalities, stream)
    assert loaded.notes == {"who": "a test"}


def test_file_with_a_foreign_stream(filled, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    cache, _ = filled
    path = tmp_path / "c.safetensors"
    cache.save(path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, wrong in {
        "stream.modalities": tensors["stream.modalities"][:, 1:].contiguous(),
        "stream.segments": tensors["stream.segments"].long(),
        "stream.else": tensors["stream.segments"].clone(),
    }.items():
        save_file({**tensors, name: wrong}, path, metadata=metadata)
        with pytest.raises(CacheFileError):
            OscarCache.load(path, cache.model_config)


def test_stream_is_counted_in_memory(filled):
    cache, _ = filled
    before = cache.memory().other
    cache.shared.tell(None)
    assert before - cache.memory().other == 2 * 90 * (1 + 4 + 3 * 4)


def test_bare_cache_knows_padding(support):
    harness = support("harness")
    cache = harness.new_cache()
    assert cache.modalities.shape == (0, 0)
    mask = harness.causal_mask([[], []], [[True] * 3, [False] + [True] * 2], 0)
    harness.attend(cache, *harness.states(2, 2, 3, 16, seed=4), mask)
    assert cache.modalities.modalities.tolist() == [[0, 0, 0], [-1, 0, 0]]
