"""Images: files, payloads, PIL images, arrays and tensors to upright RGB."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import MediaError
from .fetch import decoding, is_encoded, open_source
from .limits import MediaLimits
from .messages import MediaPart
from .options import check_options
from .pixels import as_bytes, as_numpy, channels_last, is_array
from .sizes import check_size, fitted_size

# formats of photographs and figures; others of PIL's start programs (EPS) or hold images within images (ICO)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "TGA")
_ONE_AT_A_TIME = threading.Lock()


def load_image(part: MediaPart, limits: MediaLimits, *, factor: int = 1) -> Image.Image:
    """The image of a part: RGB, upright as its EXIF orientation says, transparency over white, the first of several.

    Args:
        part: of kind "image"; source a path, address, data URI, bytes, PIL image, or pixels [height, width],
            [height, width, channels] or [channels, height, width], uint8, uint16 or floats from 0 to 1.
        limits: checked on the header, before pixels are decoded.
        factor: sides become multiples of it where min_pixels or max_pixels of the part ask for another size.

    Raises:
        MediaError: whatever is wrong; the text begins with part.where.
        MissingPackageError: another size is asked for and torchvision is not there.
    """
    if part.kind != "image":
        raise MediaError(f"{part.where}: an image is needed here, not {part.kind}")
    check_options(part.options, part.kind, part.where)
    source = part.source
    if isinstance(source, Image.Image):
        check_size(*source.size, part.where, limits)
        with decoding(part):
            image = _as_rgb(source, part.where)
    elif is_array(source):
        image = _from_pixels(source, part.where, limits)
    elif is_encoded(source):
        image = _from_file(part, limits)
    else:
        raise MediaError(
            f"{part.where}: {type(source).__name__} is no image; use a path, bytes, a PIL image, an array or a tensor"
        )
    wanted = fitted_size(
        *image.size,
        part.where,
        min_pixels=part.options.get("min_pixels"),
        max_pixels=part.options.get("max_pixels"),
        factor=factor,
    )
    check_size(*wanted, part.where, limits)
    return image if wanted == image.size else image.resize(wanted, Image.Resampling.BICUBIC)


def _from_file(part: MediaPart, limits: MediaLimits) -> Image.Image:
    with open_source(part, limits) as file, decoding(part):
        try:
            with _quiet():
                image = Image.open(file, formats=[name for name in FORMATS if name in _readable()])
        except Image.UnidentifiedImageError:
            raise MediaError(f"{part.where}: is no image of a known format ({', '.join(FORMATS)})") from None
        except Image.DecompressionBombError as error:
            raise MediaError(f"{part.where}: has too many pixels: {error}") from None
        with image:
            check_size(*image.size, part.where, limits)
            image.load()
            check_size(*image.size, part.where, limits)  # some headers learn better while they are decoded
            return _as_rgb(image, part.where)


def _readable() -> dict[str, Any]:
    Image.init()
    return Image.OPEN


@contextmanager
def _quiet() -> Iterator[None]:
    """PIL warns of sizes that are checked here anyway, and logs what it raises. Whoever set a handler up still gets the
    log; without one it does not go to stderr. Filters are process-wide, so one thread at a time."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)


def _from_pixels(source: Any, where: str, limits: MediaLimits) -> Image.Image:
    if source.ndim not in (2, 3):
        raise MediaError(f"{where}: an image has 2 or 3 dimensions, this array has the shape {tuple(source.shape)}")
    grey = source[..., None] if source.ndim == 2 else source
    if source.ndim == 2:
        check_size(source.shape[1], source.shape[0], where, limits)
        pixels = as_numpy(grey)
    else:
        pixels = as_numpy(channels_last(grey, where, limits))
    return _as_rgb(image_of(as_bytes(pixels, where)), where)


def image_of(pixels: np.ndarray) -> Image.Image:
    """uint8 [height, width, 1, 3 or 4] as a PIL image: grey, RGB or RGBA."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def _as_rgb(image: Image.Image, where: str) -> Image.Image:
    with _quiet():
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        upright = ImageOps.exif_transpose(image) if turned else image
        if upright.mode in ("I", "F") or upright.mode.startswith("I;"):
            upright = _deep_grey(upright, where)
        if upright.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in upright.info:
            coloured = (upright.convert("LA") if upright.mode == "La" else upright).convert("RGBA")
            white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
            upright = Image.alpha_composite(white, coloured)
        # a copy even where nothing is to do: the caller's image may change or be closed
        return upright.copy() if upright.mode == "RGB" and upright is image else upright.convert("RGB")


def _deep_grey(image: Image.Image, where: str) -> Image.Image:
    """Grey of more than 8 bits; PIL would cut it off at 255. 32-bit integers hold what 16-bit files said."""
    pixels = np.asarray(image)
    if image.mode != "F":
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 65_535:
            raise MediaError(f"{where}: grey values from {low} to {high} are not allowed; use 0 to 65535")
        pixels = pixels.astype(np.uint16)
    return Image.fromarray(as_bytes(pixels, where))
