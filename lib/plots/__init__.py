"""Pictures of one family: grids, heat maps, histograms, animations and flip-books on a sheet of paper."""

from lib.plots.encode import jpeg, png
from lib.plots.grids import heatmap, histogram, image_grid
from lib.plots.player import animate, flipbook
from lib.plots.style import (
    BLUE,
    DIVERGING,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALETTE,
    PAPER,
    PURPLE,
    SEQUENTIAL,
    WINE,
    use_style,
)

__all__ = [
    "BLUE",
    "DIVERGING",
    "FAINT",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PALETTE",
    "PAPER",
    "PURPLE",
    "SEQUENTIAL",
    "WINE",
    "animate",
    "flipbook",
    "heatmap",
    "histogram",
    "image_grid",
    "jpeg",
    "png",
    "use_style",
]
