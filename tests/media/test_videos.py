"""Videos: the frames of a plain decoder, chosen by the rule of qwen-vl-utils, in bounded memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image
from qwen_vl_utils import vision_process

from oscar_x.errors import MissingPackageError
from oscar_x.media import MediaLimits, load_image, load_video

LIMITS = MediaLimits()
CONTAINERS = [
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("mp4", "mpeg4"),
    ("matroska", "libx264"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("mpegts", "libx264"),
    ("flv", "libx264"),
]


def loaded(make, source, *, options=None, limits=LIMITS, **wishes):
    video = load_video(make.part("video", source, **(options or {})), limits, **wishes)
    assert video.frames.dtype == np.uint8
    assert len(video.frames) == len(video.frames_indices)
    return video


@pytest.mark.parametrize(("form", "codec"), CONTAINERS)
@pytest.mark.parametrize("wanted", [None, 24, 7, 3, 1])
def test_frames_are_those_of_a_plain_decoder(make, form, codec, wanted):
    """Few frames of many skip from key frame to key frame: what is shown must be what was asked for."""
    data = make.video(form, codec)
    video, every = loaded(make, data, num_frames=wanted), make.decoded(data)
    assert video.total_num_frames == len(every) == 24
    assert video.frames_indices == np.linspace(0, 23, wanted or 24).round().astype(int).tolist()
    assert np.array_equal(video.frames, every[video.frames_indices])
    assert video.source_fps == 12
    assert video.duration == 2
    assert video.fps == pytest.approx((wanted or 24) / 2)


@pytest.mark.parametrize("gop", [1, 5, 250])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_frames_are_right_whatever_they_refer_to(make, gop, b_frames):
    for form in ("mp4", "matroska"):
        data = make.video(form, frames=61, gop=gop, b_frames=b_frames)
        every = make.decoded(data)
        for count in (2, 5, 9, 30, 61):
            video = loaded(make, data, num_frames=count)
            assert np.array_equal(video.frames, every[video.frames_indices])


@pytest.mark.parametrize("wishes", [{"fps": 2}, {"fps": 3.7}, {"fps": 12}, {"fps": 100}, {"fps": 0.1}])
@pytest.mark.parametrize("most", [None, 2, 5, 16])
@pytest.mark.parametrize("frames", [24, 25, 3, 2])
def test_frames_a_second_follow_the_rule_of_qwen_vl_utils(make, wishes, most, frames):
    video = loaded(make, make.video(frames=frames), max_frames=most, **wishes)
    rule = {"fps": min(wishes["fps"], 12), **({} if most is None else {"max_frames": min(most, frames)})}
    count = vision_process.smart_nframes(rule, frames, 12)
    assert video.frames_indices == torch.linspace(0, frames - 1, count).round().long().tolist()
    assert video.fps == pytest.approx(count / frames * 12)


def test_a_single_frame_is_a_video(make):
    for wishes in ({"fps": 2}, {"num_frames": 8}, {}):
        video = loaded(make, make.video(frames=1), **wishes)
        assert video.frames_indices == [0]
        assert video.frames.shape == (1, 48, 64, 3)


def test_the_parts_own_options_stand_above_the_models(make):
    data = make.video()
    assert len(loaded(make, data, options={"fps": 4}, fps=2).frames) == 8
    assert len(loaded(make, data, options={"fps": 4}, num_frames=3).frames) == 8
    assert len(loaded(make, data, options={"num_frames": 3}, fps=2).frames) == 3
    assert len(loaded(make, data, options={"max_frames": 6}, fps=12, max_frames=2).frames) == 6
    assert len(loaded(make, data, options={"fps": 0.5, "min_frames": 10}).frames) == 10
    assert loaded(make, data, options={"max_pixels": 1000}, max_pixels=100).frames.shape[1:3] == (27, 36)


def test_limits_stand_above_all(make):
    data = make.video()
    assert len(loaded(make, data, limits=MediaLimits(max_frames=5)).frames) == 5
    few = loaded(make, data, limits=MediaLimits(max_video_pixels=24 * 500))
    assert few.frames.shape[1] * few.frames.shape[2] <= 500
    assert loaded(make, data, num_frames=2, limits=MediaLimits(max_video_pixels=24 * 500)).frames.shape[1:3] == (48, 64)


@pytest.mark.parametrize(
    ("start", "stop", "wanted"),
    [(0.5, 1.5, range(6, 19)), (None, 0.4, range(5)), (1.9, None, [23]), (0.51, 0.58, []), (1.0, 99, range(12, 24))],
)
def test_a_stretch_of_time_is_kept(make, start, stop, wanted):
    data = make.video()
    options = {"video_start": start, "video_end": stop}
    if not wanted:
        with pytest.raises(ValueError, match="no frame lies within"):
            loaded(make, data, options=options)
        return
    video = loaded(make, data, options=options)
    assert video.frames_indices == list(wanted)
    assert np.array_equal(video.frames, make.decoded(data)[list(wanted)])
    assert (video.total_num_frames, video.duration) == (24, 2)


def test_large_frames_are_shrunk_while_they_are_decoded(make):
    data = make.video(size=(320, 240))
    video = loaded(make, data, num_frames=6, max_pixels=28 * 28 * 20, factor=28)
    height, width = vision_process.smart_resize(240, 320, 28, max_pixels=28 * 28 * 20)
    assert video.frames.shape == (6, height, width, 3)
    for frame, whole in zip(video.frames, make.decoded(data)[video.frames_indices], strict=True):
        expected = np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(frame - expected).mean() < 2


@pytest.mark.parametrize("left_out", [1, 6, 9])
def test_frames_that_an_edit_list_leaves_out_are_no_frames(make, left_out):
    """The first key frame may be left out, and what follows needs it all the same."""
    data = make.trimmed(make.video(frames=30), left_out / 12)
    every = make.decoded(data)
    assert len(every) == 30 - left_out
    for count in (None, 3, 8):
        video = loaded(make, data, num_frames=count)
        assert video.total_num_frames == len(every)
        assert np.array_equal(video.frames, every[video.frames_indices])


def test_small_frames_stay_as_they_are(make):
    assert loaded(make, make.video(), max_pixels=64 * 48, factor=28).frames.shape[1:3] == (48, 64)


def test_videos_stand_upright(make):
    data = make.video()
    video = loaded(make, make.rotated(data))
    assert np.array_equal(video.frames, np.rot90(make.decoded(data), -1, axes=(1, 2)))
    small = loaded(make, make.rotated(data), max_pixels=800)
    assert small.frames.shape[1:3] == (32, 24)


def test_every_way_to_give_a_video_is_the_same(make, tmp_path):
    data = make.video()
    (tmp_path / "a.mp4").write_bytes(data)
    expected = make.decoded(data)
    for source in (str(tmp_path / "a.mp4"), tmp_path / "a.mp4", data, make.data_uri(data, "video/mp4")):
        assert np.array_equal(loaded(make, source).frames, expected)


def test_frames_may_be_given(make, tmp_path):
    pixels = np.stack([make.scene(frame=index) for index in range(5)])
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for path, frame in zip(paths, pixels, strict=True):
        Image.fromarray(frame).save(path)
    sources = [
        pixels,
        pixels.transpose(0, 3, 1, 2),
        pixels / 255,
        torch.from_numpy(pixels),
        torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255,
        list(pixels),
        tuple(Image.fromarray(frame) for frame in pixels),
        [str(path) for path in paths],
        [paths[0].read_bytes(), *pixels[1:]],
    ]
    for source in sources:
        video = loaded(make, source, options={"fps": 2.5}, fps=1)
        assert np.array_equal(video.frames, pixels)
        assert (video.source_fps, video.fps, video.total_num_frames, video.duration) == (2.5, 2.5, 5, 2)
        assert video.sound is None
    assert loaded(make, pixels, fps=1).source_fps == 1
    assert loaded(make, pixels).source_fps == 2
    assert loaded(make, pixels, num_frames=3).frames_indices == [0, 2, 4]
    assert loaded(make, pixels, options={"max_frames": 2}).frames_indices == [0, 4]
    assert loaded(make, pixels, options={"fps": 1, "video_start": 1, "video_end": 3}).frames_indices == [1, 2, 3]
    assert loaded(make, pixels, max_pixels=1000).frames.shape == (5, 27, 36, 3)


def test_the_sound_comes_with_the_video(make):
    data = make.video("mp4", sound_seconds=2.0)
    video = loaded(make, data, num_frames=4, sound_rate=16_000)
    assert video.sound.dtype == np.float32
    assert len(video.sound) == pytest.approx(32_000, abs=700)
    assert np.corrcoef(video.sound[:31_000], make.tone(2.0)[:31_000])[0, 1] > 0.99
    assert loaded(make, data, num_frames=4).sound is None


def test_the_sound_is_that_of_the_stretch_of_time(make):
    data = make.video("mp4", sound_seconds=2.0)
    video = loaded(make, data, options={"video_start": 0.5, "video_end": 1.25}, sound_rate=16_000)
    assert len(video.sound) == 12_000
    assert np.corrcoef(video.sound, make.tone(2.0)[8_000:20_000])[0, 1] > 0.99


def test_a_sound_that_begins_later_is_silent_until_then(make):
    data = make.video("matroska", sound_seconds=1.0, sound_delay=0.75)
    video = loaded(make, data, sound_rate=16_000)
    assert len(video.sound) == pytest.approx(16_000 * 1.75, abs=700)
    assert np.abs(video.sound[: 16_000 * 7 // 10]).max() == 0
    assert np.corrcoef(video.sound[12_000:27_000], make.tone(1.0)[:15_000])[0, 1] > 0.98
    before = loaded(make, data, options={"video_start": 0.25, "video_end": 0.5}, sound_rate=16_000)
    assert before.sound.tolist() == [0] * 4_000
    longer = make.video("matroska", sound_seconds=0.5)
    with pytest.raises(ValueError, match="no sound in the part"):
        loaded(make, longer, options={"video_start": 1}, sound_rate=16_000)


def test_silence_before_a_sound_counts_as_sound(make):
    """A time stamp far ahead must not ask for memory that no sound fills."""
    data = make.video("matroska", sound_seconds=1.0, sound_delay=3.0)
    with pytest.raises(ValueError, match=r"4\.0 seconds of sound; max_audio_seconds=2\.5"):
        loaded(make, data, limits=MediaLimits(max_audio_seconds=2.5), sound_rate=16_000)


def test_a_real_video_with_sound(make, clip):
    path = clip("bigbuckbunny.mp4")
    video = loaded(make, path, fps=2, max_pixels=602_112, sound_rate=16_000, factor=28)
    assert video.frames_indices == torch.linspace(0, 131, 10).round().long().tolist()
    assert video.frames.shape == (10, 560, 1008, 3)
    assert (video.total_num_frames, video.source_fps, video.duration) == (132, 25, 5.28)
    assert len(video.sound) == pytest.approx(5.3 * 16_000, abs=1000)
    whole = loaded(make, path, num_frames=3)
    with av.open(str(path)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(whole.frames, np.stack([every[index] for index in (0, 66, 131)]))
    with av.open(str(path)) as container:
        channels = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)
    librosa = pytest.importorskip("librosa")
    expected = librosa.resample(librosa.to_mono(channels), orig_sr=48_000, target_sr=16_000)
    np.testing.assert_allclose(video.sound, expected[: len(video.sound)], atol=1e-5)


def test_a_real_silent_video(make, clip):
    path = clip("bikes.mp4")
    video = loaded(make, path, num_frames=8)
    assert video.total_num_frames == 250
    with av.open(str(path)) as container:
        every = {i: f for i, f in enumerate(container.decode(video=0)) if i in video.frames_indices}
    assert all(
        np.array_equal(frame, every[index].to_ndarray(format="rgb24"))
        for index, frame in zip(video.frames_indices, video.frames, strict=True)
    )
    with pytest.raises(ValueError, match="no sound track, and use_audio_in_video needs it"):
        loaded(make, path, num_frames=8, sound_rate=16_000)


def test_frames_of_uneven_rate_keep_their_order(make):
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=100)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, stamp in enumerate((0, 3, 4, 10, 30, 31, 32, 60, 99, 100)):
            frame = av.VideoFrame.from_ndarray(make.scene(frame=index), "rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = loaded(make, file.getvalue())
    assert np.array_equal(video.frames, make.decoded(file.getvalue()))
    assert video.source_fps == pytest.approx(9)


MEMORY = """
import json, resource, sys
from oscar_x.media import MediaLimits, MediaPart, load_video
def load(path):
    video = load_video(MediaPart("video", path, "x"), MediaLimits(), num_frames=16, max_pixels=80 * 60)
    return video.frames.nbytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
_, before = load(sys.argv[1])
kept, after = load(sys.argv[2])
print(json.dumps([kept, before, after]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in kilobytes on Linux alone")
def test_memory_does_not_grow_with_the_length_of_a_video(make, tmp_path):
    """800 frames of 320 x 240 are 184 MB decoded; 16 small ones are kept."""
    for name, frames in (("short.mp4", 20), ("long.mp4", 800)):
        (tmp_path / name).write_bytes(make.video("mp4", "mpeg4", frames=frames, size=(320, 240), gop=250))
    paths = [str(tmp_path / name) for name in ("short.mp4", "long.mp4")]
    result = subprocess.run([sys.executable, "-c", MEMORY, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    kept, before, after = json.loads(result.stdout)
    assert kept <= 16 * 80 * 60 * 3
    assert after - before < 40 << 20


def test_a_missing_package_says_what_to_install(make, monkeypatch):
    """As it is where torchvision is missing or does not fit torch."""
    monkeypatch.setitem(sys.modules, "qwen_vl_utils", None)
    with pytest.raises(MissingPackageError, match=r"pip install oscar-x\[media\]"):
        loaded(make, make.video(), fps=2)
    with pytest.raises(MissingPackageError, match=r"pip install oscar-x\[media\]"):
        load_image(make.part("image", make.scene(), max_pixels=100), LIMITS)
    assert len(loaded(make, make.video(), num_frames=2).frames) == 2


@pytest.mark.parametrize(
    "wishes",
    [{"fps": 0}, {"fps": -1.0}, {"num_frames": 0}, {"max_frames": -1}, {"sound_rate": 0}, {"fps": 1, "num_frames": 2}],
)
def test_wishes_that_are_none_are_the_callers_error(make, wishes):
    with pytest.raises(ValueError, match=r"is not allowed|exclude each other"):
        loaded(make, make.video(), **wishes)
