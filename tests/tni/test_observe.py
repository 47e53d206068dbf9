from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from oscar_x.modality import Modality, ModalityStream
from oscar_x.tni.observe import ObservingCache
from oscar_x.tni.treatments import FULL


def assert_alike(found: Any, expected: Any, where: str = "report") -> None:
    """Equal, figures to a hundred-thousandth: a chunk's rotation is rounded in another order than the whole's, by an
    eighth of a millionth of a state, and quantization errors are a few hundredths of it."""
    if is_dataclass(expected):
        for field in fields(expected):
            if field.name != "date":
                assert_alike(getattr(found, field.name), getattr(expected, field.name), f"{where}.{field.name}")
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name, value in expected.items():
            assert_alike(found[name], value, f"{where}.{name}")
    elif isinstance(expected, tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_alike(found[index], value, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("pieces", [(100, 100, 57), (1,) * 40 + (217,), (250, 3, 4)])
def test_chunks_give_the_statistics_of_one_pass(given, report_of, pieces):
    keys, values = given.states(257)
    keys = keys * torch.rand(257, 1, generator=torch.Generator().manual_seed(1)).exp()
    modalities = [0] * 30 + [1] * 40 + [0] * 9 + [2] * 100 + [3] * 20 + [0] * 58
    assert_alike(report_of(keys, values, modalities, pieces), report_of(keys, values, modalities))


def test_groups_begin_behind_the_exact_tokens_and_know_their_modality(given, report_of):
    keys, values = given.states(4 + 5 * 16)
    # the first three groups are text, video and both; a group counted from 0 would mix text and video throughout
    report = report_of(keys, values, [0] * 20 + [2] * 16 + [0] * 8 + [2] * 8 + [0] * 32)
    groups = report.layers[0].heads[1].keys.groups
    assert {kind: group.groups for kind, group in groups.items()} == {"text": 3, "video": 1, "mixed": 1}
    assert groups["mixed"].dealt.keys() == {"split", "rotation+scaling+split"}
    assert groups["mixed"].along_tokens["split"] != groups["mixed"].along_tokens["none"]
    assert groups["text"].along_tokens["split"] == groups["text"].along_tokens["none"]
    assert not groups["text"].dealt


def test_planted_norms_are_found(given, report_of):
    keys, values = given.states(500)
    keys[:, :, 0] *= 0.05
    keys[:, 1, 300] *= 9
    keys[:, :, 100:200] *= 2
    report = report_of(keys, values, [0] * 100 + [1] * 100 + [0] * 300)
    head = report.layers[1].heads[1].keys
    assert (head.low_tokens[0].position, head.high_tokens[0].position) == (0, 300)
    assert [token.position for token in report.layers[1].heads[0].keys.outliers] == []
    assert head.low_tokens[0].ratio == pytest.approx(0.05, rel=0.02)
    assert head.leading[0] == pytest.approx(0.05, rel=0.02)
    assert head.leading[1] == pytest.approx(1, rel=0.02)
    assert head.ratio("image") == pytest.approx(2, rel=0.03)
    assert head.ratio("audio") is None
    assert head.groups["mixed"].max_over_min.high == pytest.approx(2, rel=1e-5)
    first = head.first_group
    assert first is not None
    assert first.max_over_min.high == pytest.approx(20, rel=1e-5)
    # a small token among large ones loses everything but what scaling saves
    assert first.along_tokens["none"].token > 5 * first.along_tokens[FULL].token
    said = " ".join(report.findings())
    assert "4 of 4 heads have tokens with a norm below 0.5" in said
    assert "2 of 4 heads have tokens with a norm above 2 times the median" in said
    assert re.search(r"the largest is (8\.9|9\.0)\d times, token 300 ", said)
    assert re.search(r"image tokens' median norm is (1\.9|2\.0)\d times the text's", said)


def test_channel_outliers_are_found_and_rotation_removes_them(given, report_of):
    keys, values = given.states(500)
    keys[..., 7] *= 20
    channels = report_of(keys, values).layers[0].heads[0].keys.channels
    assert channels.largest == 7
    assert channels.before == pytest.approx(20, rel=0.2)
    assert channels.after < 2
    attribution = report_of(keys, values).attribution(measure="channel")
    # the channel makes the norms uneven, so that scaling helps alone; once rotated there is nothing left for it
    assert attribution["rotation"].last > 10 * abs(attribution["scaling"].last)


def test_norms_of_modalities_that_share_a_group_make_the_split_worth_while(given, report_of):
    keys, values = given.states(4 + 64 * 16)
    modalities = [0] * 4 + ([0] * 8 + [1] * 8) * 64
    grown = torch.tensor([1.0 if kind == 0 else 30.0 for kind in modalities])[:, None]
    even, uneven = report_of(keys, values, modalities), report_of(keys * grown, values, modalities)
    assert uneven.attribution(measure="token")["split"].share > 20 * even.attribution(measure="token")["split"].share
    groups = uneven.layers[0].heads[0].keys.groups["mixed"]
    # split where the modality changes it is worth much; split elsewhere, hardly anything
    assert groups.along_tokens["split"].token < 0.01 * groups.along_tokens["none"].token
    assert groups.dealt["split"].token > 0.3 * groups.along_tokens["none"].token


def test_a_rows_statistics_do_not_depend_on_padding_or_neighbours(given, llama):
    keys, values = given.states(120)
    others, more = given.states(150, seed=5)
    keys = keys * torch.rand(120, 1, generator=torch.Generator().manual_seed(1)).exp()

    def watch(batch_keys, batch_values, kinds):
        cache = ObservingCache(llama.model.config, llama.config, llama.config, {})
        cache.begin(0)
        cache.expect_prompt(kinds.shape[1], ModalityStream(kinds, torch.zeros_like(kinds, dtype=torch.int32)))
        cache.update(batch_keys, batch_values, 0)
        return cache.observers[0].keys

    pad = torch.full((1, 2, 30, given.HEAD_DIM), 1e4)
    kinds = torch.zeros(2, 150, dtype=torch.int8)
    kinds[0, :30] = int(Modality.PADDING)
    padded = watch(
        torch.cat([torch.cat([pad, keys], 2), others]), torch.cat([torch.cat([pad, values], 2), more]), kinds
    )
    apart = [watch(k, v, torch.zeros(1, k.shape[2], dtype=torch.int8)) for k, v in ((keys, values), (others, more))]
    assert set(padded.norms) == set(padded.groups) == {"text"}
    counts = [state.norms["text"].counts for state in (padded, *apart)]
    assert torch.equal(counts[0], counts[1] + counts[2])
    groups = [state.groups["text"] for state in (padded, *apart)]
    assert groups[0].groups == groups[1].groups + groups[2].groups
    torch.testing.assert_close(groups[0].energy, groups[1].energy + groups[2].energy)


def test_statistics_take_no_more_memory_for_more_tokens(given, llama):
    def held(tokens: int) -> int:
        cache = ObservingCache(llama.model.config, llama.config, llama.config, {})
        cache.begin(0)
        cache.update(*given.states(tokens), 0)
        seen: dict[int, int] = {}

        def walk(value: Any) -> None:
            if isinstance(value, torch.Tensor):
                seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            elif isinstance(value, dict):
                for item in value.values():
                    walk(item)
            elif isinstance(value, (list, tuple)):
                for item in value:
                    walk(item)
            elif hasattr(value, "__dict__"):
                walk(vars(value))

        walk(cache.observers[0])
        return sum(seen.values())

    assert held(8 * 16 + 4) == held(512 * 16 + 4)


def test_states_that_are_no_numbers_are_refused_by_layer(given, llama):
    cache = ObservingCache(llama.model.config, llama.config, llama.config, {})
    keys, values = given.states(40)
    values[0, 1, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="layer 1: values hold NaN or infinity"):
        cache.update(keys, values, 1)
    assert cache.get_seq_length() == 0
