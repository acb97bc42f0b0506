"""The site's look: paper and ink, a palette for every eye, and two colour maps."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from IPython import get_ipython
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from lib.plots.encode import png

PAPER, INK, FAINT = "#fcfcfa", "#22262b", "#d9dad4"
# Distinguishable with any colour vision (tested), and darker than paper by 3 to 1 or more.
BLUE, ORANGE, GREEN, PURPLE, WINE, GREY = "#1f64a8", "#cf540b", "#179f6d", "#521b54", "#86201f", "#868d98"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, WINE, GREY)
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "lib_sequential", ["#fafaf5", "#bcd5e6", "#5f9dca", "#1f64a8", "#0c2f57"]
)
DIVERGING = LinearSegmentedColormap.from_list(
    "lib_diverging", ["#0c3c70", "#3f86bf", "#b4d2e5", "#fafaf5", "#f3c6a5", "#d9772f", "#7f2d05"]
)


def use_style() -> None:
    """Set the site's look: paper and ink, thin lines, a palette for every eye; in IPython, small PNGs as well."""
    shell = get_ipython()
    if shell is not None:
        plt.switch_backend(
            plt.get_backend()
        )  # loads the inline backend, which sets a formatter of its own, before ours
        shell.display_formatter.formatters["image/png"].for_type(Figure, png)
    mpl.rcParams.update(_style())


def _style() -> dict[str, Any]:
    return {
        "figure.figsize": (6.5, 3.6),
        "figure.dpi": 120,
        "savefig.dpi": 144,
        "figure.constrained_layout.use": True,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.axisbelow": True,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "font.size": 11,
        "legend.frameon": False,
        "legend.fontsize": "small",
        "lines.linewidth": 1.8,
        "patch.linewidth": 0.7,
        "image.interpolation": "nearest",
    }
