"""Grids of images, matrices as heat maps, and histograms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from lib.plots.style import DIVERGING, INK, PALETTE, PAPER, SEQUENTIAL


def _array(values: Any, what: str) -> np.ndarray:
    """Turn a tensor, an array or nested lists into a finite, real NumPy array with something in it."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double().numpy() if values.is_floating_point() else values.numpy()
    elif isinstance(values, Sequence) and len(values) and hasattr(values[0], "detach"):
        values = np.stack([_array(value, what) for value in values])
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{what} must be real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{what} must not be empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, got {np.count_nonzero(~np.isfinite(array))} NaN or infinite values")
    return array


def image_grid(
    images: ArrayLike,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    size: float = 1.0,
    cmap: str | Colormap = "gray",
    value_range: tuple[float, float] | None = None,
) -> Figure:
    """Show images in rows: [n, h, w], [n, 1, h, w], [n, 3, h, w] or [n, h, w, 3], each `size` inches wide.

    Floats span `value_range`, by default 0 to 1, or the smallest to the largest value where they leave that; uint8 0 to
    255. Raises ValueError for another shape, values that are not finite, or titles of another number.
    """
    images = _pictures(images)
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(images)} images need as many titles, got {len(titles)}")
    if size <= 0:
        raise ValueError(f"size must be positive, got {size} inches")
    columns = min(columns or min(len(images), max(1, int(6.5 / size))), len(images))
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    rows = math.ceil(len(images) / columns)
    low, high = value_range or _value_range(images)
    height = size * images.shape[1] / images.shape[2] + (0.25 if titles is not None else 0)
    figure = Figure(figsize=(columns * size, rows * height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for i, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        ax.set_axis_off()
        if i >= len(images):
            continue
        shown = np.clip((images[i] - low) / (high - low or 1), 0, 1) if images.ndim == 4 else images[i]
        ax.imshow(shown, cmap=cmap, vmin=low, vmax=high)
        if titles is not None:
            ax.set_title(str(titles[i]), fontsize=9, loc="center", fontweight="normal", pad=3)
    return figure


def _pictures(images: ArrayLike) -> np.ndarray:
    array = _array(images, "images")
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, -1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3):
        raise ValueError(f"images must be [n, h, w], [n, 1, h, w], [n, 3, h, w] or [n, h, w, 3], got {array.shape}")
    return array


def _value_range(images: np.ndarray) -> tuple[float, float]:
    if images.dtype == np.uint8:
        return 0, 255
    low, high = float(images.min()), float(images.max())
    return (0, 1) if low >= 0 and high <= 1 else (low, high)


def heatmap(
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    annotate: bool = True,
    fmt: str | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
    highlight: Sequence[tuple[int, int]] = (),
    cmap: str | Colormap | None = None,
    value_range: tuple[float, float] | None = None,
) -> Figure | None:
    """Show a matrix [rows, columns] as coloured cells, each with its value written in it.

    Values of both signs are blue and orange about 0. `highlight` outlines cells, as (row, column). Returns a new
    figure, or None when drawn on `ax`. Raises ValueError for another shape, values that are not finite, or labels that
    do not fit.
    """
    array = _array(values, "values")
    if array.ndim != 2:
        raise ValueError(f"values must be a matrix [rows, columns], got shape {array.shape}")
    rows, columns = array.shape
    outside = [(row, column) for row, column in highlight if not (0 <= row < rows and 0 <= column < columns)]
    if outside:
        raise ValueError(f"highlight must be cells of a {rows} x {columns} matrix, got {outside}")
    figure = None
    if ax is None:
        cell = min(0.62, 6.0 / columns)
        figure = Figure(figsize=(max(1.6, cell * columns + 0.5), max(1.0, cell * rows + 0.5)), layout="constrained")
        ax = figure.subplots()
    signed = array.min() < 0 < array.max()
    low, high = value_range or (float(array.min()), float(array.max()))
    if signed and value_range is None:
        high = max(-low, high)
        low = -high
    colours = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap or (DIVERGING if signed else SEQUENTIAL)
    mesh = ax.imshow(array, cmap=colours, vmin=low, vmax=high if high > low else low + 1, aspect="equal")
    if annotate:
        _write_values(ax, array, mesh.to_rgba(array), fmt or _format(array))
    for row, column in highlight:
        ax.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.4, zorder=3, clip_on=False
            )
        )
    _label(ax.set_xticks, column_labels, array.shape[1], "column_labels")
    _label(ax.set_yticks, row_labels, array.shape[0], "row_labels")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return figure


def _write_values(ax: Axes, array: np.ndarray, colours: np.ndarray, fmt: str) -> None:
    size = 10 if array.shape[1] <= 10 else 8
    luminance = colours[..., :3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
    for (row, column), value in np.ndenumerate(array):
        colour = PAPER if luminance[row, column] < 0.22 else INK
        text = format(int(value) if fmt == "d" else value, fmt).replace("-", "\N{MINUS SIGN}")
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _format(array: np.ndarray) -> str:
    """One format for all values, as wide as five characters where it can be; `z` writes no minus before a zero."""
    largest = np.abs(array.astype(float)).max()
    if np.array_equal(array, np.round(array)) and largest < 1e5:
        return "d"
    if not 0.05 <= largest < 1e5:
        return ".1e"
    return "z.2f" if largest < 10 else "z.1f" if largest < 1000 else "z.0f"


def _label(set_ticks: Callable, labels: Sequence[str] | None, count: int, what: str) -> None:
    if labels is None:
        set_ticks([])
        return
    if len(labels) != count:
        raise ValueError(f"{what} must be {count}, got {len(labels)}")
    set_ticks(range(count), [str(label) for label in labels])


def histogram(
    values: ArrayLike | Sequence[ArrayLike],
    *,
    bins: int | Sequence[float] = 40,
    labels: Sequence[str] | str | None = None,
    ax: Axes | None = None,
    xlabel: str | None = None,
    title: str | None = None,
    density: bool = False,
) -> Figure | None:
    """Count values in bins; with a sequence of `labels`, `values` are as many sets, drawn over each other.

    Returns a new figure, or None when drawn on `ax`. Raises ValueError for values that are empty or not finite.
    """
    several = labels is not None and not isinstance(labels, str)
    sets = [_array(v, "values").ravel() for v in (values if several else [values])]
    names = list(labels) if several else [labels]
    if len(sets) != len(names):
        raise ValueError(f"{len(sets)} sets of values need as many labels, got {len(names)}")
    figure = None
    if ax is None:
        figure = Figure(layout="constrained")
        ax = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate(sets), bins)
    for i, (data, name) in enumerate(zip(sets, names, strict=True)):
        colour = PALETTE[i % len(PALETTE)]
        ax.hist(data, edges, density=density, histtype="stepfilled", color=colour, alpha=0.25 if several else 0.8)
        ax.hist(data, edges, density=density, histtype="step", color=colour, linewidth=1.4, label=name)
    ax.set_ylabel("density" if density else "count")
    if xlabel:
        ax.set_xlabel(xlabel)
    if title:
        ax.set_title(title)
    if any(names):
        ax.legend()
    return figure
