"""Images of every form end as the same upright RGB."""

from __future__ import annotations

import base64
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from oscar_x.media import MediaLimits, load_image, parse_parts

LIMITS = MediaLimits()


def loaded(make, source, **options) -> np.ndarray:
    image = load_image(make.part("image", source, **options), LIMITS)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA", "QOI"])
def test_lossless_formats_come_back_exactly(make, form):
    assert np.array_equal(loaded(make, make.image(form)), make.scene())


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "AVIF", "JPEG2000"])
def test_lossy_formats_come_back_as_their_decoder_has_them(make, form):
    if form == "AVIF":
        pytest.importorskip("PIL._avif")
    data = make.image(form)
    assert np.array_equal(loaded(make, data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(loaded(make, data).astype(int) - make.scene()).mean() < 12


def test_every_way_to_give_an_image_is_the_same(make, tmp_path):
    data, scene = make.image(), make.scene()
    (tmp_path / "a.png").write_bytes(data)
    encoded = base64.b64encode(data).decode()
    parts = [
        {"image": str(tmp_path / "a.png")},
        {"image": tmp_path / "a.png"},
        {"type": "image", "path": str(tmp_path / "a.png")},
        {"image": data},
        {"image": bytearray(data)},
        {"image": memoryview(data)},
        {"type": "image", "base64": encoded},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        {"image": f"data:;base64,{encoded}"},
        {"image": "data:image/png;charset=utf-8;base64," + "\n".join(encoded[i : i + 76] for i in range(0, 8000, 76))},
        {"image": "data:image/png," + "".join(f"%{byte:02x}" for byte in data)},
        {"image": Image.fromarray(scene)},
        {"image": scene},
        {"image": scene.transpose(2, 0, 1)},
        {"image": scene.astype(np.uint16) * 257},
        {"image": scene / 255},
        {"image": (scene / 255).astype(np.float32)},
        {"image": torch.from_numpy(scene)},
        {"image": torch.from_numpy(scene.transpose(2, 0, 1).copy()) / 255},
        {"image": np.asfortranarray(scene)},
    ]
    for part in parse_parts(parts):
        assert np.array_equal(np.asarray(load_image(part, LIMITS)), scene), part.where


def test_half_precision_tensors_are_taken(make):
    exact = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1).expand(3, 4, 4)
    for dtype in (torch.bfloat16, torch.float16):
        assert loaded(make, exact.to(dtype))[0, 0].tolist() == [0, 128, 255]


def test_ambiguous_shapes_are_read_as_their_users_mean_them(make):
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert np.array_equal(loaded(make, pixels), pixels)
    assert np.array_equal(loaded(make, torch.from_numpy(pixels)), pixels.transpose(1, 2, 0))


def test_grey_becomes_three_equal_channels(make):
    grey = make.scene()[..., 0]
    wanted = np.repeat(grey[..., None], 3, -1)
    for source in (grey, grey[..., None], grey[None], torch.from_numpy(grey), Image.fromarray(grey), grey / 255):
        assert np.array_equal(loaded(make, source), wanted)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_not_cut_off(make, form):
    deep = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, form)
    assert np.array_equal(loaded(make, file.getvalue())[..., 0], deep // 257)


def test_images_of_integers_and_floats_are_scaled(make):
    deep = np.array([[0, 65_535]], np.int32)
    assert loaded(make, Image.fromarray(deep))[0, :, 0].tolist() == [0, 255]
    assert loaded(make, Image.fromarray(np.array([[0.0, 1.0]], np.float32)))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_what_is_transparent_becomes_white(make, mode):
    colours = len(mode) - 1
    image = Image.new(mode, (2, 1), (0,) * colours + (255,))
    image.putpixel((1, 0), (0,) * (colours + 1))
    assert loaded(make, image)[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_half_transparent_pixels_are_mixed_with_white(make):
    pixels = np.full((2, 2, 4), (100, 100, 100, 51), np.uint8)
    assert np.abs(loaded(make, pixels).astype(int) - (100 * 0.2 + 255 * 0.8)).max() <= 1


def test_a_palette_with_a_transparent_entry_is_composed(make):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert loaded(make, image)[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    assert loaded(make, file.getvalue())[0].tolist() == [[255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_modes_are_converted(make, mode):
    image = (
        Image.new("RGB", (3, 2), "white").convert(mode) if mode != "LAB" else Image.new("LAB", (3, 2), (255, 128, 128))
    )
    assert loaded(make, image).shape == (2, 3, 3)
    assert loaded(make, image).min() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(make, orientation):
    scene = make.scene()
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1),
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, "PNG", exif=exif)
    assert np.array_equal(loaded(make, file.getvalue()), scene)


def test_the_first_image_of_several_is_taken(make):
    first, second = Image.fromarray(make.scene(frame=0)), Image.fromarray(make.scene(frame=20))
    for form in ("PNG", "TIFF", "WEBP"):
        file = io.BytesIO()
        first.save(file, form, save_all=True, append_images=[second], **({"lossless": True} if form == "WEBP" else {}))
        assert np.array_equal(loaded(make, file.getvalue()), make.scene(frame=0))


def test_the_users_own_image_is_not_changed(make):
    image = Image.fromarray(make.scene())
    result = load_image(make.part("image", image), LIMITS)
    result.putpixel((0, 0), (9, 9, 9))
    assert np.array_equal(np.asarray(image), make.scene())


def test_options_ask_for_another_size(make):
    small = load_image(make.part("image", make.scene(400, 300), max_pixels=28 * 28 * 20), LIMITS, factor=28)
    assert small.width * small.height <= 28 * 28 * 20
    assert small.width % 28 == small.height % 28 == 0
    large = load_image(make.part("image", make.scene(20, 10), min_pixels=4000), LIMITS)
    assert 4000 <= large.width * large.height < 4400
    assert abs(large.width / large.height - 2) < 0.1
    same = load_image(make.part("image", make.scene(400, 300), max_pixels=120_000), LIMITS, factor=28)
    assert same.size == (400, 300)


def test_no_setting_of_the_process_stays_changed(make):
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: loaded(make, make.image("PNG")), range(64)))
    assert all(np.array_equal(result, make.scene()) for result in results)
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_inside_the_allowed_root_paths_and_links_are_read(make, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").write_bytes(make.image())
    (tmp_path / "sub" / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)
    for root in (tmp_path, tmp_path.parent / f"{tmp_path.name}-link"):
        limits = MediaLimits(allowed_root=root)
        for path in (tmp_path / "a.png", tmp_path / "sub" / ".." / "a.png", tmp_path / "sub" / "link.png"):
            assert load_image(make.part("image", str(path)), limits).size == (64, 48)
