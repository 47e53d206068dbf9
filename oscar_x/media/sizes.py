"""Sizes of images and frames: which are taken at all, and what they are shrunk to."""

from __future__ import annotations

from types import ModuleType

from ..errors import MediaError, MissingPackageError, first_line
from .limits import MediaLimits


def check_size(width: int, height: int, where: str, limits: MediaLimits) -> None:
    """Refuse a source image or frame that is empty or too large.

    Raises:
        MediaError: naming the part, the size and the limit.
    """
    size = f"{width} x {height} pixels"
    if width < 1 or height < 1:
        raise MediaError(f"{where}: is empty ({size})")
    if max(width, height) > limits.max_side:
        raise MediaError(f"{where}: has {size}; max_side={limits.max_side} is allowed")
    if width * height > limits.max_pixels:
        raise MediaError(f"{where}: has {size}; max_pixels={limits.max_pixels} are allowed")


def fitted_size(
    width: int, height: int, where: str, *, min_pixels: int | None, max_pixels: int | None, factor: int
) -> tuple[int, int]:
    """Width and height within a number of pixels, the aspect ratio kept as well as multiples of factor allow.

    A size that is within already stays as it is: the model's processor does the final resizing. The rule is that of
    qwen-vl-utils (smart_resize), so that its settings mean the same here.

    Raises:
        MediaError: the sides differ too much, or the bounds leave no size.
        MissingPackageError: qwen-vl-utils or the torchvision it needs cannot be imported.
    """
    low, high = min_pixels or 1, max_pixels or max(width * height, min_pixels or 1)
    if low <= width * height <= high:
        return width, height
    if low > high:
        raise MediaError(f"{where}: min_pixels={low} is above the {high} pixels that are left for it")
    try:
        rows, columns = qwen_vl_utils().smart_resize(height, width, factor, min_pixels=low, max_pixels=high)
    except ValueError as error:
        raise MediaError(f"{where}: {width} x {height} pixels cannot be resized: {first_line(error)}") from None
    return max(columns, factor), max(rows, factor)


def qwen_vl_utils() -> ModuleType:
    """The module of qwen-vl-utils that holds its rules; imported late, because it imports torchvision.

    Raises:
        MissingPackageError: it cannot be imported.
    """
    try:
        from qwen_vl_utils import vision_process
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch is a RuntimeError
        raise MissingPackageError(
            f"resizing and sampling media needs qwen-vl-utils and a torchvision that matches torch "
            f"({first_line(error)}): pip install oscar-x[media]"
        ) from error
    return vision_process
