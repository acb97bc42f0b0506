"""Pictures with labels by name, from wherever they are at hand, each checked; and batches of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib.checks import check_choice
from lib.data import digits, fashion_mnist
from lib.data.dataset import Dataset, Source
from lib.data.files import MANIFEST
from lib.data.loaders import DataLoaders, FastLoader, Normalise, in_memory

__all__ = ["MANIFEST", "DataLoaders", "Dataset", "FastLoader", "Normalise", "Source", "in_memory", "load"]


def load(
    name: str,
    *,
    root: str | Path | None = None,
    network: bool = True,
    sizes: tuple[int, int] | None = None,
) -> Dataset:
    """Load "fashion_mnist" or "digits"; `dataset.source` says where from. `sizes` keeps the first: (training, test).

    Fashion-MNIST is looked for in `root` (by default the environment's LIB_DATA), then in what ships with the
    repository where that is enough (12,000 and 10,000 images), then, with `network`, on the hub; without these the part
    that ships is returned, which may be fewer than were asked for, and the source's kind is "part". The images are the
    same from every source. Raises ValueError for an unknown name, a size that is not there, or a broken file.
    """
    loaders: dict[str, Callable[[], Dataset]] = {
        "fashion_mnist": lambda: fashion_mnist.load(root, network, sizes),
        "digits": lambda: digits.load(sizes),
    }
    check_choice("data", name, loaders)
    return loaders[name]()
