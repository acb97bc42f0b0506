"""The one reader of pictures: tensors in [0, 1] from whatever kind of file, Pillow image or array they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor


def load(source: str | Path | Image.Image | np.ndarray | Tensor, size: int | None = None) -> Tensor:
    """Return a picture as RGB in [0, 1]: float32 [1, 3, h, w]; with `size` its longer side has so many pixels.

    `source` is a file, a Pillow image, an array [h, w], [h, w, 1 to 4], or a tensor [3, h, w] or [1, 3, h, w]. Of
    integers the whole range counts (8 and 16 bits, or bool), floats lie in [0, 1]. Grey becomes three equal channels;
    what is transparent is laid on white; files and Pillow images are turned as their EXIF tells. Raises ValueError for
    another shape, range or kind of number, and what Pillow raises for a file that is no picture.
    """
    if isinstance(source, str | Path):
        with Image.open(source) as image:
            source = _decoded(image)
    elif isinstance(source, Image.Image):
        source = _decoded(source)
    elif isinstance(source, Tensor):
        source = _channels_last(source.detach().cpu())
    values = _on_white(_unit(np.asarray(source)))
    values = values if values.shape[-1] == 3 else values.repeat(3, -1)
    x = torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None].contiguous()
    return x if size is None else resize(x, size)


def pixels(image: Image.Image) -> Tensor:
    """Return what `load` reads of a Pillow image with the channels that it has: [1, h, w] if grey, [3, h, w] if not.

    As bytes, or as float32 in [0, 1] where bytes cannot hold it: 16 bits, floats, and what shines through.
    """
    values = _decoded(image)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8 or values.shape[2:] in ((2,), (4,)):
        values = _unit(values)
    return torch.from_numpy(np.array(_on_white(values))).movedim(-1, 0)


def resize(picture: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Return pictures [n, c, h, w] in [0, 1] with `size` pixels along the longer side, or (height, width).

    Bicubic, after the blur that a smaller picture needs; overshoot is cut.
    """
    sides = picture.shape[-2:]
    wanted = size if isinstance(size, tuple) else tuple(max(1, round(side * size / max(sides))) for side in sides)
    if min(wanted) < 1:
        raise ValueError(f"a picture needs at least one pixel a side, got size={size}")
    if tuple(sides) == wanted:
        return picture
    return F.interpolate(picture, wanted, mode="bicubic", antialias=True).clamp(0, 1)


def array(picture: Tensor) -> np.ndarray:
    """Return a picture [3, h, w] or [1, 3, h, w] in [0, 1] as 8 bits for a file or a figure: [h, w, 3]."""
    values = torch.from_numpy(np.ascontiguousarray(_channels_last(picture.detach().cpu().float())))
    return values.clamp(0, 1).mul(255).round().byte().numpy()


def _decoded(image: Image.Image) -> np.ndarray:
    """Return a Pillow image of any mode, upright: grey [h, w], RGB [h, w, 3], or either with its opacity besides."""
    image.load()  # some files tell how to turn it after its pixels
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep(image)
    if image.has_transparency_data:
        values = np.asarray(image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA"))
        return values[..., :-1] if (values[..., -1] == 255).all() else values
    return np.asarray(image if image.mode in ("1", "L", "RGB") else image.convert("RGB"))


def _deep(image: Image.Image) -> np.ndarray:
    """Return grey of more than 8 bits, which Pillow's own conversions clip at 255."""
    values, most = np.asarray(image), np.iinfo(np.uint16).max
    if image.mode == "I" and ((values >= 0) & (values <= most)).all():  # 32 bits, as which it reads some files of 16
        values = values.astype(np.uint16)
    transparent = image.info.get("transparency") if values.dtype.kind == "u" else None
    return values if transparent is None else np.stack([values, (values != transparent) * values.dtype.type(most)], -1)


def _channels_last(x: Tensor) -> np.ndarray:
    if x.ndim == 4 and len(x) == 1:
        x = x[0]
    if x.ndim != 3 or len(x) not in (1, 3, 4):
        raise ValueError(f"expected a tensor [3, h, w] or [1, 3, h, w], got {list(x.shape)}")
    return x.permute(1, 2, 0).numpy()


def _unit(values: np.ndarray) -> np.ndarray:
    """Bring numbers of any kind to float32 in [0, 1]."""
    if values.size == 0:
        raise ValueError(f"a picture needs pixels, got shape {list(values.shape)}")
    if values.dtype == bool:
        return values.astype(np.float32)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:  # in either order of bytes
        return values.astype(np.float32) / np.iinfo(values.dtype).max
    if values.dtype.kind != "f":
        raise ValueError(f"expected pixels of 8 or 16 bits, bool, or floats in [0, 1], got {values.dtype}")
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"expected floats in [0, 1], got {low:g} to {high:g}")
    return values.astype(np.float32)


def _on_white(values: np.ndarray) -> np.ndarray:
    """Lay [h, w], or [h, w, 1 to 4] (grey, grey and opacity, RGB, RGBA), on white: grey [h, w, 1] or RGB [h, w, 3]."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(f"expected a picture [h, w] or [h, w, 1 to 4], got {list(values.shape)}")
    if values.shape[-1] in (1, 3):
        return values
    opacity = values[..., -1:]
    return values[..., :-1] * opacity + (1 - opacity)
