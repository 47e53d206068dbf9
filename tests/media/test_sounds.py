"""Sounds of every form end as the samples that librosa would load."""

from __future__ import annotations

import io
import tracemalloc

import librosa
import numpy as np
import pytest
import soundfile
import torch

from oscar_x.media import MediaError, MediaLimits, load_audio

LIMITS = MediaLimits()


def loaded(make, source, rate=16_000, **options) -> np.ndarray:
    samples = load_audio(make.part("audio", source, **options), LIMITS, rate)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    return samples


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "AIFF", "CAF", "AU", "W64", "RF64"])
@pytest.mark.parametrize(("stored", "wanted"), [(16_000, 16_000), (44_100, 16_000), (8_000, 24_000)])
def test_files_come_back_as_librosa_loads_them(make, tmp_path, form, stored, wanted):
    data = make.sound(form, seconds=1.5, rate=stored, channels=2)
    (tmp_path / "sound").write_bytes(data)
    expected, _ = librosa.load(tmp_path / "sound", sr=wanted, mono=True)
    for source in (data, str(tmp_path / "sound")):
        result = loaded(make, source, wanted)
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_long_files_are_the_same_across_blocks(make, tmp_path):
    """5 seconds at 44.1 kHz are more than three blocks."""
    (tmp_path / "a.wav").write_bytes(make.sound("WAV", seconds=5.0, rate=44_100))
    expected, _ = librosa.load(tmp_path / "a.wav", sr=16_000)
    np.testing.assert_allclose(loaded(make, str(tmp_path / "a.wav")), expected, atol=1e-6)


def test_mp3_comes_back(make):
    result = loaded(make, make.sound("MP3", seconds=1.0))
    assert len(result) == 16_000
    assert np.corrcoef(result, make.tone(1.0))[0, 1] > 0.99


@pytest.mark.parametrize("form", ["mp4", "matroska", "adts"])
def test_aac_comes_back(make, form):
    result, expected = loaded(make, make.sound_alone(form, seconds=1.0)), make.tone(1.0)
    assert abs(len(result) - len(expected)) <= 2 * 1024 // 3 + 1
    # the encoder begins with a frame of its own, which not every container marks as such
    shift = int(np.argmax(np.correlate(result, expected, "full"))) - (len(expected) - 1)
    assert 0 <= shift <= 1024 // 3 + 1
    count = min(len(result) - shift, len(expected))
    assert np.corrcoef(result[shift : shift + count], expected[:count])[0, 1] > 0.99


def test_the_sound_of_a_video_is_a_sound(make):
    result = loaded(make, make.video("mp4", sound_seconds=2.0))
    assert len(result) == pytest.approx(32_000, abs=700)
    assert np.abs(result).max() > 0.3


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [(np.int16, 32_768, 0), (np.int32, 2**31, 0), (np.uint8, 128, 128), (np.float64, 1, 0), (np.float16, 1, 0)],
)
def test_arrays_are_scaled_to_their_full_scale(make, dtype, scale, offset):
    wave = np.array([0.0, 0.5, -0.5, -1.0])
    stored = (wave * scale + offset).astype(dtype)
    assert np.array_equal(loaded(make, stored), wave.astype(np.float32))


def test_arrays_without_a_rate_are_at_the_models(make):
    wave = make.tone(0.5)
    for source in (wave, torch.from_numpy(wave), wave[None], (wave, 16_000), {"array": wave, "sampling_rate": 16_000}):
        assert np.array_equal(loaded(make, source), wave)
    assert np.array_equal(loaded(make, wave, 48_000), wave)


def test_arrays_with_a_rate_are_resampled(make):
    wave = make.tone(0.5, 44_100)
    expected = librosa.resample(wave, orig_sr=44_100, target_sr=16_000)
    for part in ((wave, 44_100), {"array": wave, "sampling_rate": np.int64(44_100)}):
        np.testing.assert_allclose(loaded(make, part), expected, atol=1e-6)
    np.testing.assert_allclose(loaded(make, wave, sampling_rate=44_100), expected, atol=1e-6)
    assert np.array_equal(loaded(make, (wave, 44_100), sampling_rate=44_100), loaded(make, (wave, 44_100)))


def test_channels_are_averaged(make):
    left, right = make.tone(0.5), -make.tone(0.5) / 2
    np.testing.assert_allclose(loaded(make, np.stack([left, right])), left / 4, atol=1e-7)
    np.testing.assert_allclose(loaded(make, torch.stack([torch.from_numpy(left)] * 2)), left, atol=1e-7)


def test_a_wav_written_to_a_pipe_has_no_size(make):
    data = bytearray(make.sound("WAV"))
    data[4:8] = b"\xff\xff\xff\xff"
    assert np.array_equal(loaded(make, bytes(data)), loaded(make, make.sound("WAV")))


def test_real_speech_rate_and_channels_survive_a_round_trip(make, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", rng.normal(0, 0.1, (22_050, 6)), 22_050, subtype="FLOAT")
    expected, _ = librosa.load(tmp_path / "noise.wav", sr=16_000)
    np.testing.assert_allclose(loaded(make, str(tmp_path / "noise.wav")), expected, atol=1e-6)


def test_memory_holds_the_result_and_not_the_file(make, tmp_path):
    """2 minutes of 48 kHz stereo: 46 MB as floats; 3.8 MB come out at 8 kHz."""
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 48_000, 2) as file:
        for _ in range(120):
            file.write(make.tone(1.0, 48_000, 2))
    loaded(make, make.sound("WAV"), 8_000)  # imports are not counted
    tracemalloc.start()
    try:
        result = loaded(make, str(tmp_path / "long.wav"), 8_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(result) == 960_000
    assert peak < 3 * result.nbytes + (4 << 20)


def test_the_bound_on_seconds_holds_where_the_header_says_nothing(make):
    raw = io.BytesIO()
    soundfile.write(raw, make.tone(2.0), 16_000, format="MP3")
    frames = raw.getvalue()
    limits = MediaLimits(max_audio_seconds=5)
    with pytest.raises(MediaError, match=r"seconds of sound; max_audio_seconds=5"):
        load_audio(make.part("audio", frames * 4), limits, 16_000)
