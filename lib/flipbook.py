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
from PIL import Image


def png(figure: Figure, *, colors: int = 128, dpi: float = 144, tight: bool = True) -> bytes:
    """Draw a figure as a PNG with at most so many colours, about a third of the bytes of one in full colour."""
    if not 2 <= colors <= 256:
        raise ValueError(f"colors must be from 2 to 256, got {colors}")
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi, bbox_inches="tight" if tight else figure.bbox_inches.padded(0.08))
    _quantise(Image.open(full).convert("RGB"), colors).save(small, format="png", optimize=True)
    return small.getvalue()


def _quantise(picture: Image.Image, colors: int) -> Image.Image:
    """Keep the commonest colours exactly, so that paper stays paper and a thin line keeps its hue; spread the rest."""
    codes = np.asarray(picture).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    unique, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    values = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], axis=1).astype(np.float32)
    palette, nearest = values, np.arange(len(values))
    if len(values) > colors:
        common = values[np.argsort(-counts, kind="stable")[: colors // 2]]
        spread = picture.quantize(colors - len(common), Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        palette = np.concatenate([common, np.reshape(spread.getpalette(), (-1, 3))[: colors - len(common)]])
        palette = palette.astype(np.float32)
        nearest = ((palette**2).sum(1) - 2 * values @ palette.T).argmin(1)
    reduced = Image.fromarray(nearest[index].reshape(codes.shape).astype(np.uint8), "P")
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    return reduced


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
    paper and a browser without scripts show. `interval` is in ms. The figures are closed. Raises ValueError when there
    is no frame, frames differ in size, or alt or labels do not match them.
    """
    pictures = [png(figure, colors=colors, dpi=dpi, tight=False) for figure in _figures(frames, count, size)]
    display(Markdown(_player(pictures, alt, labels, interval, still)))


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


def _player(
    pictures: list[bytes], alt: str | Sequence[str], labels: Sequence[str] | None, interval: int, still: int
) -> str:
    n = len(pictures)
    if n == 0:
        raise ValueError("a flip-book needs at least one frame; with a function pass how many as `count`")
    labels = [f"{i + 1} of {n}" for i in range(n)] if labels is None else [str(label) for label in labels]
    alts = [f"{alt} ({label})" for label in labels] if isinstance(alt, str) else list(alt)
    if not len(labels) == len(alts) == n:
        raise ValueError(f"{n} frames need as many labels and alt texts, got {len(labels)} and {len(alts)}")
    if not all(text.strip() for text in ([alt] if isinstance(alt, str) else alts)):
        raise ValueError("alt must say in words what the frames show, got an empty text")
    if not -n <= still < n or interval <= 0:
        raise ValueError(f"still must be a frame below {n} and interval positive, got {still} and {interval}")
    sizes = {Image.open(io.BytesIO(picture)).size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"frames must be of one size, got {sorted(sizes)} pixels")
    width, height = sizes.pop()
    # Pandoc reads blank lines, and text between the tags, as Markdown: each tag is a line, all words are attributes.
    lines = [f'<figure class="flipbook" data-interval="{interval}">']
    for i, (picture, text, label) in enumerate(zip(pictures, alts, labels, strict=True)):
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        about = f'width="{width}" height="{height}" alt="{_attribute(text)}" data-label="{_attribute(label)}"'
        lines.append(f'<img src="{source}" {about}{"" if i == still % n else " hidden"}>')
    return "\n".join([*lines, "</figure>"])


def _attribute(text: str) -> str:
    return html.escape(" ".join(text.split()))
