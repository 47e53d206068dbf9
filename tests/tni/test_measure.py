from __future__ import annotations

import json

import pytest
import torch

import oscar_x
from oscar_x.key_bias_detect import detect_key_biases
from oscar_x.tni import TniFileError, TniReport, measure_tni
from oscar_x.tni.treatments import FULL, NONE

TEXT = "Norms of tokens that share a scale should not differ. " * 6


@pytest.fixture(scope="module")
def report(llama):
    return measure_tni(llama, [TEXT, TEXT[:100]])


def test_the_report_says_what_was_measured(llama, report):
    assert report.tokens == {"text": len(TEXT) + 100}
    assert (report.sequences, report.model_type, report.library_version) == (2, "llama", oscar_x.__version__)
    assert (report.settings.group_size, report.settings.key_bits, report.settings.sink_tokens) == (16, 2, 4)
    assert [layer.index for layer in report.layers] == [0, 1]
    for layer, head in report.heads():
        assert layer.compressed
        for state in (head.keys, head.values):
            assert state.norms["text"].count == len(TEXT) + 100
            assert state.groups["text"].groups == (len(TEXT) - 4) // 16 + 96 // 16
            assert state.first_group is not None
            assert state.first_group.groups == 2
            assert 0 < state.groups["text"].along_tokens[FULL].energy < 1
        assert head.key_bias is None
    assert report.error(NONE) > 0
    assert len(report.norm_map.low[0]) == len(TEXT)


def test_norms_are_those_of_the_models_own_keys(llama, tiny, report):
    plain = oscar_x.load(tiny("llama"), kv_bits=16, device="cpu")
    ids = llama.processor(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        cache = plain.model(ids, use_cache=True).past_key_values
    found = measure_tni(llama, TEXT)
    for layer in found.layers:
        for head in layer.heads:
            for state, own in (
                (head.keys, cache.layers[layer.index].keys),
                (head.values, cache.layers[layer.index].values),
            ):
                norms = own[0, head.index].norm(dim=-1)
                assert state.norms["text"].high == pytest.approx(float(norms.max()), rel=1e-4)
                assert state.norms["text"].mean == pytest.approx(float(norms.mean()), rel=1e-4)
                assert state.low_tokens[0].position == int(norms.argmin())


def test_low_and_high_tokens_are_named_by_their_text(llama):
    texts = [TEXT, TEXT[::-1].upper()]
    found = measure_tni(llama, texts)
    tokens = [token for state in found.states("keys") for token in (*state.low_tokens, *state.high_tokens)]
    assert {token.sequence for token in tokens} == {0, 1}
    for token in tokens:
        assert token.text == texts[token.sequence][token.position]
        assert token.modality == "text"
    assert found.norm_map == measure_tni(llama, TEXT).norm_map


def test_the_same_again_is_the_same(llama, report):
    again = measure_tni(llama, [TEXT, TEXT[:100]])
    assert again.data_hash == report.data_hash
    assert again.layers == report.layers
    assert measure_tni(llama, TEXT[::-1]).data_hash != report.data_hash


def test_the_model_stays_as_it_was(llama):
    before = llama.generate(TEXT, max_new_tokens=4, do_sample=False)
    memory = llama.memory()
    measure_tni(llama, TEXT)
    assert llama.memory() == memory
    assert torch.equal(llama.generate(TEXT, max_new_tokens=4, do_sample=False), before)


def test_16_bits_are_measured_as_the_default_preset(tiny, report):
    plain = oscar_x.load(tiny("llama"), kv_bits=16, device="cpu")
    found = measure_tni(plain, [TEXT, TEXT[:100]])
    assert found.settings == report.settings
    assert all(layer.compressed for layer in found.layers)
    assert found.error(FULL) == pytest.approx(report.error(FULL), rel=1e-3)


def test_larger_groups_err_more(llama):
    errors = [measure_tni(llama, TEXT, group_size=size).error(FULL) for size in (8, 16, 64)]
    assert errors == sorted(errors)
    assert errors[2] > 1.5 * errors[0]


def test_only_max_tokens_count(llama):
    found = measure_tni(llama, [TEXT, TEXT], max_tokens=50)
    assert found.tokens == {"text": 100}
    assert found.layers[0].heads[0].keys.norms["text"].count == 100
    ids = llama.processor(TEXT, return_tensors="pt")["input_ids"][0, :50]
    assert measure_tni(llama, [ids, ids]).layers == found.layers


def test_progress_goes_from_nothing_to_everything(llama):
    calls = []
    measure_tni(llama, [TEXT, TEXT], progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 4)
    assert {call[1:] for call in calls} == {(4, "sequence 1 of 2"), (4, "sequence 2 of 2")}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data is an empty list; give a text"),
        (3, "data is int; give a text"),
        ([TEXT, 3], r"data\[1\] is int; give a text, token ids"),
        (torch.zeros(2, 2, dtype=torch.int64), r"data\[0\] is torch.int64 \[2, 2\]; token ids are whole numbers"),
        (torch.zeros(30), r"data\[0\] is torch.float32 \[30\]"),
        ("short", "data is too short: no sequence has 20 tokens, of which 4 stay exact and 16 make a group"),
        ("", "without tokens"),
        (TEXT * 20, r"data\[0\] has 6480 tokens, but the model reads 4096; give max_tokens"),
    ],
)
def test_wrong_data_is_refused(llama, data, message):
    with pytest.raises(ValueError, match=message):
        measure_tni(llama, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"group_size": 12}, "key_group_size=12 is not allowed"), ({"max_tokens": 0}, "max_tokens=0 is not allowed")],
)
def test_wrong_settings_are_refused(llama, options, message):
    with pytest.raises(ValueError, match=message):
        measure_tni(llama, TEXT, **options)


def test_sliding_layers_are_measured_but_not_counted_as_compressed(tiny):
    found = measure_tni(oscar_x.load(tiny("gemma3"), device="cpu"), TEXT)
    assert [layer.compressed for layer in found.layers] == [False, False, True]
    assert found.layers[0].heads[0].keys.norms["text"].count == len(TEXT)
    assert len(list(found.heads())) == 1


def test_every_modality_has_its_norms(support, tiny_media):
    make = support("tiny_media")
    model = oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")
    kinds = make.load_family("qwen2_5_omni").kinds
    conversation = support("media_cases").cases(make, kinds, model.adapter.media)["mixed"][0]
    found = measure_tni(model, conversation)
    prompt = model.prepare(conversation)
    assert found.tokens == {kind.name.lower(): count for kind, count in prompt.stream.counts()[0].items()}
    assert set(found.tokens) == {"text", "image", "video", "audio"}
    keys = found.layers[0].heads[0].keys
    assert {kind: norms.count for kind, norms in keys.norms.items()} == found.tokens
    assert "mixed" in keys.groups
    assert set(found.norm_map.modalities) == set(found.tokens)
    assert any("video tokens' median norm" in sentence for sentence in found.findings())


@pytest.mark.parametrize("family", ["qwen2", "qwen2_5_vl"])
def test_a_key_bias_is_taken_out_of_the_figures_and_its_share_is_told(support, tiny, tiny_media, family):
    make = support("tiny_media")
    model = oscar_x.load(tiny(family) if family == "qwen2" else tiny_media(family), device="cpu")
    layers = model.adapter.find_layers(model.model)
    data = TEXT
    if family == "qwen2_5_vl":  # positions on three axes
        data = [
            {
                "role": "user",
                "content": [{"type": "image", "image": make.image(112, 112)}, {"type": "text", "text": TEXT}],
            }
        ]
    plain = measure_tni(model, data)
    support("key_biases").set_key_biases(layers, 300.0, "high")
    model.key_biases = detect_key_biases(model.model, model.adapter)
    biased = measure_tni(model, data)
    for head, same in zip(biased.layers[0].heads, plain.layers[0].heads, strict=True):
        assert head.key_bias is not None
        assert same.key_bias is not None
        assert head.key_bias.norm == pytest.approx(300, rel=1e-4)
        assert head.key_bias.share == pytest.approx(1, abs=0.1)
        assert head.key_bias.removed
        assert (same.key_bias.removed, same.key_bias.share, same.key_bias.error_left_in) == (False, 0, None)
        # keys of the first layer do not depend on attention: what is left is the keys without bias
        assert head.keys.median == pytest.approx(same.keys.median, rel=0.02)
        assert head.keys.groups["text"].along_tokens[FULL].energy == pytest.approx(
            same.keys.groups["text"].along_tokens[FULL].energy, rel=0.02
        )
    assert any("bias has" in sentence and "Left in" in sentence for sentence in biased.findings())


def test_a_saved_report_is_the_report(report, tmp_path):
    report.save(tmp_path / "tni.json")
    assert TniReport.load(tmp_path / "tni.json") == report
    assert TniReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert [path.name for path in tmp_path.iterdir()] == ["tni.json"]


def change(path, edit):
    plain = json.loads(path.read_text())
    edit(plain)
    path.write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda plain: plain.update(version=99), "report version 99; this version reads 1"),
        (lambda plain: plain.pop("format"), "not a TNI report"),
        (lambda plain: plain.pop("layers"), r"other fields than expected \(layers\)"),
        (lambda plain: plain["layers"][1].update(index="1"), r"report\.layers\[1\]\.index is str, not int"),
        (lambda plain: plain["settings"].update(more=1), r"report\.settings has other fields than expected \(more\)"),
        (lambda plain: plain.update(tokens=[1]), r"report\.tokens is list"),
    ],
)
def test_files_that_are_no_report_are_refused(report, tmp_path, edit, message):
    path = tmp_path / "tni.json"
    report.save(path)
    change(path, edit)
    with pytest.raises(TniFileError, match=message):
        TniReport.load(path)


def test_damaged_and_missing_files(report, tmp_path):
    path = tmp_path / "tni.json"
    with pytest.raises(FileNotFoundError):
        TniReport.load(path)
    report.save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TniFileError, match=r"tni\.json is damaged or no TNI report"):
        TniReport.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TniFileError, match="is damaged or no TNI report"):
        TniReport.load(path)
