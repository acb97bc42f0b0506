"""What clustering is measured on: blobs in a plane, garments, and a line through the logarithms of times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import data
from lib.diffusion import fashion
from lib.measure import Comparison, Record

SEED, SIDE, BLOBS = 0, 20.0, 20


def blobs(n: int, spread: float = 0.5, larger: float = 1.0, count: int = BLOBS) -> Tensor:
    """Return n points in blobs with random centres: float64 [n, 2].

    There are `count` in a square of side 20, and as many to its area in one that is `larger` by that factor.
    """
    generator, count = torch.Generator().manual_seed(SEED), round(count * larger)
    centres = torch.rand(count, 2, generator=generator, dtype=torch.float64) * SIDE * math.sqrt(larger)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return centres[torch.randint(count, (n,), generator=generator)] + spread * noise


def mixture(n: int, d: int, count: int = 100) -> Tensor:
    """Return n points of a mixture of normal distributions whose means are four times as far apart: float32 [n, d]."""
    generator = torch.Generator().manual_seed(SEED)
    means = 4 * torch.randn(count, d, generator=generator)
    return means[torch.randint(count, (n,), generator=generator)] + torch.randn(n, d, generator=generator)


def garments(queries: int = 1000) -> tuple[Tensor, Tensor]:
    """Return the training images of Fashion-MNIST [n, 784] and some test images, in [0, 1]."""
    images = data.load("fashion_mnist")
    base, asked = (
        torch.as_tensor(part.images).reshape(len(part), -1).float() / 255 for part in (images.train, images.test)
    )
    return base, asked[:queries].contiguous()


def features(n: int = 10_000) -> Tensor:
    """Return what the classifier that ships makes of the first n test images: [n, 96]."""
    images = torch.as_tensor(data.load("fashion_mnist").test.first(n).images).reshape(-1, 1, 28, 28)
    return fashion.features(fashion.load("classifier"), F.pad(images.float() / 127.5 - 1, (2, 2, 2, 2), value=-1))


def recall(found: Tensor, exact: Tensor) -> float:
    """Return the share of the nearest [m, k] that were found [m, k]."""
    return (found[:, :, None] == exact[:, None]).any(dim=1).float().mean().item()


def exponent(values: dict[int, float]) -> float:
    """Return the power of n that values grow with, as a line through their logarithms has it."""
    return float(np.polyfit(np.log(list(values)), np.log(list(values.values())), 1)[0])


def growth(name: str, what: str, sizes: tuple[int, ...], make: Callable[[int], Callable[[], object]]) -> Record:
    """Fit the exponent of the time over the number of points; `make(n)` returns what is timed, once."""
    make(1000)()
    seconds = {}
    for n in sizes:
        run = make(n)
        start = time.perf_counter()
        run()
        seconds[n] = time.perf_counter() - start
    measured = ", ".join(f"{n:,}: {value:.2f} s" for n, value in seconds.items())
    return Record(f"cluster/{name}/growth", exponent(seconds), "exponent", n=1, seed=SEED, note=f"{what}; {measured}")


def timed(name: str, timing: Comparison, peer: str, same: bool, note: str, target: str | None = None) -> Record:
    """Return the record of a comparison."""
    return Record(
        f"cluster/{name}",
        timing.ratio,
        "time ratio",
        peer=peer,
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=same,
        target=target,
        n=timing.n,
        seed=SEED,
        note=note,
    )
