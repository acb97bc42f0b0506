"""Figures as small PNGs, and many of them as a flip-book that the reader can play, step through or just look at."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from scipy.ndimage import maximum_filter


def png(figure: Figure, *, colors: int = 128, dpi: float = 144) -> bytes:
    """Draw a figure, cropped to what is on it, as a PNG with at most so many colours (2 to 256)."""
    return _encode(_pixels(figure, dpi, "tight"), colors)


def _pixels(figure: Figure, dpi: float, box: str | Bbox) -> np.ndarray:
    """Draw a figure: uint8 [h, w, 3]."""
    full = io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi, bbox_inches=box)
    return np.asarray(Image.open(full).convert("RGB"))


def _encode(pixels: np.ndarray, colors: int, changed: np.ndarray | None = None) -> bytes:
    """Pack pixels [h, w, 3] into a PNG of so many colours; where `changed` [h, w] is false it is transparent."""
    if not 2 <= colors <= 256:
        raise ValueError(f"colors must be from 2 to 256, got {colors}")
    if changed is None:
        changed = np.ones(pixels.shape[:2], bool)
    options = {} if changed.all() else {"transparency": 0}
    palette, nearest = _quantise(pixels[changed], colors - len(options))
    index = np.zeros(changed.shape, np.uint8)
    index[changed] = nearest + len(options)
    picture = Image.fromarray(index, "P")
    picture.putpalette(b"\0\0\0" * len(options) + palette.tobytes())
    packed = io.BytesIO()
    picture.save(packed, format="png", optimize=True, **options)
    return packed.getvalue()


def _changed(pixels: np.ndarray, base: np.ndarray, margin: int = 3) -> np.ndarray:
    """Say where pixels [h, w, 3] differ from the base, and near it: a browser that shrinks both blends pixels."""
    return maximum_filter((pixels != base).any(-1), 2 * margin + 1)


def _quantise(pixels: np.ndarray, colors: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose a palette [at most colors, 3] for pixels [n, 3], and for each pixel the nearest of it [n].

    The commonest colours are kept exactly, so that paper stays paper and a thin line its hue; the rest are spread.
    """
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    unique, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    values = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], axis=1).astype(np.uint8)
    if len(values) <= colors:
        return values, index
    common = values[np.argsort(-counts, kind="stable")[: (colors + 1) // 2]]
    if len(common) < colors:
        rest = Image.fromarray(pixels[None]).quantize(
            colors - len(common), Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
        )
        common = np.concatenate([common, np.reshape(rest.getpalette(), (-1, 3))[: colors - len(common)]])
    palette = common.astype(np.float32)
    nearest = ((palette**2).sum(1) - 2 * values.astype(np.float32) @ palette.T).argmin(1)
    return common.astype(np.uint8), nearest[index]


def flipbook(
    frames: Iterable[Figure] | Callable[[Figure, int], object],
    count: int | None = None,
    *,
    alt: str | Sequence[str],
    labels: Sequence[str] | None = None,
    interval: int = 800,
    still: int = 0,
    size: tuple[float, float] = (6.5, 3.6),
    colors: int = 48,
    dpi: float = 110,
) -> None:
    """Display figures of one size as a player: play and pause, a slider, arrow keys, swipes.

    `frames` are figures, or a function `draw(figure, i)` called `count` times with an empty figure of `size` inches.
    `alt` says what all the frames show, or what each does; `labels` name the frames. Frame `still` is what Jupyter,
    paper and a browser without scripts show; the others hold only what differs from it. `interval` is in ms. The
    figures are closed. Raises ValueError when there is no frame, frames differ in size, or alt or labels do not match.
    """
    drawn = [_pixels(figure, dpi, figure.bbox_inches.padded(0.08)) for figure in _figures(frames, count, size)]
    labels, alts = _words(len(drawn), alt, labels)
    if not -len(drawn) <= still < len(drawn) or interval <= 0:
        raise ValueError(f"still must be one of {len(drawn)} frames and interval positive, got {still} and {interval}")
    sizes = {picture.shape[1::-1] for picture in drawn}
    if len(sizes) > 1:
        raise ValueError(f"frames must be of one size, got {sorted(sizes)} pixels")
    base = drawn[still]
    # The base shows through in every frame, so its colours are nearly exact.
    pictures = [_encode(p, 256) if p is base else _encode(p, colors, _changed(p, base)) for p in drawn]
    display(Markdown(_markup(pictures, sizes.pop(), alts, labels, interval, still % len(drawn))))


def _figures(
    frames: Iterable[Figure] | Callable[[Figure, int], object], count: int | None, size: tuple[float, float]
) -> Iterator[Figure]:
    if not callable(frames):
        for figure in frames:
            yield figure
            plt.close(figure)
        return
    for i in range(count or 0):
        figure = Figure(figsize=size, layout="constrained")
        frames(figure, i)
        yield figure


def _words(n: int, alt: str | Sequence[str], labels: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return a label and an alt text for each of n frames."""
    if n == 0:
        raise ValueError("a flip-book needs at least one frame; with a function pass how many as `count`")
    labels = [f"{i + 1} of {n}" for i in range(n)] if labels is None else [str(label) for label in labels]
    alts = [alt] * len(labels) if isinstance(alt, str) else list(alt)
    if not len(labels) == len(alts) == n:
        raise ValueError(f"{n} frames need as many labels and alt texts, got {len(labels)} and {len(alts)}")
    if not all(text.strip() for text in alts):
        raise ValueError("alt must say in words what the frames show, got an empty text")
    if isinstance(alt, str):
        alts = [f"{alt} ({label})" for label in labels]
    return labels, alts


def _markup(
    pictures: list[bytes], size: tuple[int, int], alts: list[str], labels: list[str], interval: int, still: int
) -> str:
    """Write the figure that the site's flipbook.js makes a player of.

    Pandoc reads blank lines, and text between the tags, as Markdown: so each tag is a line, and all words attributes.
    """
    lines = [f'<figure class="flipbook" data-interval="{interval}">']
    for i, (picture, text, label) in enumerate(zip(pictures, alts, labels, strict=True)):
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        about = f'width="{size[0]}" height="{size[1]}" alt="{_attribute(text)}" data-label="{_attribute(label)}"'
        lines.append(f'<img src="{source}" {about}{"" if i == still else " hidden"}>')
    return "\n".join([*lines, "</figure>"])


def _attribute(text: str) -> str:
    return html.escape(" ".join(text.split()))
