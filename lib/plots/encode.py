"""Figures as small files: drawings as PNGs of few colours, photographs as JPEGs."""

from __future__ import annotations

import io

import numpy as np
from IPython import display
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image


def png(figure: Figure, *, colours: int = 128, dpi: float = 144) -> bytes:
    """Draw a figure, cropped to what is on it, as a PNG with at most so many colours (2 to 256)."""
    return encode(render(figure, dpi, "tight"), colours)


def jpeg(figure: Figure, *, quality: int = 80, dpi: float = 110) -> display.Image:
    """Draw a figure of photographs as a JPEG, for a cell to show: a PNG would be several times as large.

    It is cropped to what is on it; `quality` is 1 to 95.
    """
    packed = io.BytesIO()
    figure.savefig(
        packed, format="jpeg", dpi=dpi, bbox_inches="tight", pil_kwargs={"quality": quality, "optimize": True}
    )
    return display.Image(packed.getvalue(), format="jpeg")


def render(figure: Figure, dpi: float, box: str | Bbox) -> np.ndarray:
    """Draw a figure: uint8 [h, w, 3]."""
    full = io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi, bbox_inches=box)
    return np.asarray(Image.open(full).convert("RGB"))


def encode(pixels: np.ndarray, colours: int, changed: np.ndarray | None = None) -> bytes:
    """Pack pixels [h, w, 3] into a PNG of so many colours; where `changed` [h, w] is false it is transparent."""
    if not 2 <= colours <= 256:
        raise ValueError(f"colours must be from 2 to 256, got {colours}")
    if changed is None:
        changed = np.ones(pixels.shape[:2], bool)
    options = {} if changed.all() else {"transparency": 0}
    palette, nearest = _quantise(pixels[changed], colours - len(options))
    index = np.zeros(changed.shape, np.uint8)
    index[changed] = nearest + len(options)
    picture = Image.fromarray(index, "P")
    picture.putpalette(b"\0\0\0" * len(options) + palette.tobytes())
    packed = io.BytesIO()
    picture.save(packed, format="png", optimize=True, **options)
    return packed.getvalue()


def _quantise(pixels: np.ndarray, colours: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose a palette [at most colours, 3] for pixels [n, 3], and for each pixel the nearest of it [n].

    The commonest colours are kept exactly, so that paper stays paper and a thin line its hue; the rest are spread.
    """
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    unique, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    values = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], axis=1).astype(np.uint8)
    if len(values) <= colours:
        return values, index
    common = values[np.argsort(-counts, kind="stable")[: (colours + 1) // 2]]
    if len(common) < colours:
        rest = Image.fromarray(pixels[None]).quantize(
            colours - len(common), Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
        )
        common = np.concatenate([common, np.reshape(rest.getpalette(), (-1, 3))[: colours - len(common)]])
    palette = common.astype(np.float32)
    nearest = ((palette**2).sum(1) - 2 * values.astype(np.float32) @ palette.T).argmin(1)
    return common.astype(np.uint8), nearest[index]
