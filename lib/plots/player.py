"""Figures that move: a flip-book that the reader can play, step through or just look at; an animation for a file."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure
from scipy.ndimage import maximum_filter

from lib.plots.encode import encode, render


def flipbook(
    frames: Iterable[Figure] | Callable[[Figure, int], object],
    count: int | None = None,
    *,
    alt: str | Sequence[str],
    labels: Sequence[str] | None = None,
    interval: int = 800,
    still: int = 0,
    size: tuple[float, float] = (6.5, 3.6),
    colours: int = 48,
    dpi: float = 110,
) -> None:
    """Display figures of one size as a player: play and pause, a slider, arrow keys, swipes.

    `frames` are figures, or a function `draw(figure, i)` called `count` times with an empty figure of `size` inches.
    `alt` says what all the frames show, or what each does; `labels` name the frames. Frame `still` is what Jupyter,
    paper and a browser without scripts show; the others hold only what differs from it. `interval` is in ms. The
    figures are closed. Raises ValueError when there is no frame, frames differ in size, or alt or labels do not match.
    """
    drawn = [render(figure, dpi, figure.bbox_inches.padded(0.08)) for figure in _figures(frames, count, size)]
    labels, alts = _words(len(drawn), alt, labels)
    if not -len(drawn) <= still < len(drawn) or interval <= 0:
        raise ValueError(f"still must be one of {len(drawn)} frames and interval positive, got {still} and {interval}")
    sizes = {picture.shape[1::-1] for picture in drawn}
    if len(sizes) > 1:
        raise ValueError(f"frames must be of one size, got {sorted(sizes)} pixels")
    base = drawn[still]
    # The base shows through in every frame, so its colours are nearly exact.
    pictures = [encode(p, 256) if p is base else encode(p, colours, _changed(p, base)) for p in drawn]
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


def _changed(pixels: np.ndarray, base: np.ndarray, margin: int = 3) -> np.ndarray:
    """Say where pixels [h, w, 3] differ from the base, and near it: a browser that shrinks both blends pixels."""
    return maximum_filter((pixels != base).any(-1), 2 * margin + 1)


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
        attributes = f'width="{size[0]}" height="{size[1]}" alt="{_attribute(text)}" data-label="{_attribute(label)}"'
        lines.append(f'<img src="{source}" {attributes}{"" if i == still else " hidden"}>')
    return "\n".join([*lines, "</figure>"])


def _attribute(text: str) -> str:
    return html.escape(" ".join(text.split()))


def animate(
    draw: Callable[[Figure, int], object],
    frames: int,
    *,
    interval: int = 400,
    size: tuple[float, float] = (6.5, 3.6),
) -> FuncAnimation:
    """Make an animation of `frames` pictures, `interval` ms each: `draw(figure, i)` draws picture i on an empty figure.

    For a notebook (`.to_jshtml()`) or a file (`.save("x.gif", writer="pillow")`); a post shows a `flipbook`.
    """
    if frames < 1 or interval <= 0:
        raise ValueError(f"frames must be at least 1 and interval positive, got frames={frames}, interval={interval}")
    figure = Figure(figsize=size, layout="constrained")

    def step(i: int) -> list:
        figure.clear()
        draw(figure, i)
        return []

    return FuncAnimation(figure, step, frames=frames, interval=interval, blit=False)
