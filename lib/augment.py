"""Pictures changed at random while a model trains, and looked at in several ways when it is tested.

Each picture is changed by a generator of its own, so that a result does not depend on how a batch is split. Pictures
are x [n, c, h, w], floats or bytes, and stay where and what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor, nn

from lib.learner.callback import LearnerState
from lib.learner.callbacks.transform import BatchTransform

Generators = Sequence[torch.Generator]


def random_crop(x: Tensor, generators: Generators, padding: int = 1, fill: float = 0.0) -> Tensor:
    """Cut pictures of the same size out of ones padded by so many pixels of `fill` on each side."""
    _check(x, generators)
    if padding < 0:
        raise ValueError(f"random_crop: padding must be at least 0 pixels, got {padding}")
    top, left = (uniform(generators, 2).to(x.device) * (2 * padding + 1)).long().T
    return _moved(F.pad(x, [padding] * 4, value=fill), top, left, x.shape[2:])


def random_flip(x: Tensor, generators: Generators, p: float = 0.5) -> Tensor:
    """Mirror each picture, left to right, with probability p."""
    _check(x, generators, p)
    return torch.where(_chosen(x, generators, p), x.flip(-1), x)


def random_erase(
    x: Tensor,
    generators: Generators,
    p: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.2),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> Tensor:
    """Fill a rectangle of each picture, with probability p, with pixels drawn from anywhere in it.

    So what fills it has the picture's own range and, in expectation, its mean and standard deviation; noise with both,
    cut off at the range, would have neither. `scale` is the share of the area, `ratio` that of height to width (Zhong
    et al. 2020, "Random erasing data augmentation", arXiv 1708.04896, algorithm 1).
    """
    _check(x, generators, p)
    box = _boxes(x, generators, scale, ratio)
    places = torch.stack([torch.randint(x[0, 0].numel(), x.shape[2:], generator=g) for g in generators]).to(x.device)
    drawn = x.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return torch.where(_chosen(x, generators, p) & box.inside, drawn, x)


def random_copy(
    x: Tensor,
    generators: Generators,
    p: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.2),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> Tensor:
    """Fill a rectangle of each picture, with probability p, with another of its own; sizes are as in `random_erase`."""
    _check(x, generators, p)
    box = _boxes(x, generators, scale, ratio)
    source = _place(uniform(generators, 2).to(x.device), box.height, box.width, box.size)
    down, right = source - torch.stack([box.top, box.left])
    copied = _moved(x, down, right, x.shape[2:])
    return torch.where(_chosen(x, generators, p) & box.inside, copied, x)


def mixup(
    x: Tensor, targets: Tensor, generators: Generators, classes: int, alpha: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Blend each picture, and the probabilities of its classes, with those of the next one of the batch.

    Targets are classes [n] or probabilities [n, classes], which are returned; the share that stays is drawn from
    Beta(alpha, alpha) (Zhang et al. 2018, "mixup: beyond empirical risk minimization", arXiv 1710.09412).
    """
    _check(x, generators)
    share = _beta(generators, alpha).to(x.device)
    y = _probabilities(targets, classes)
    mixed = torch.lerp(x.roll(-1, 0).float(), x.float(), share.view(-1, 1, 1, 1)).to(x.dtype)
    return mixed, torch.lerp(y.roll(-1, 0), y, share[:, None])


def cutmix(
    x: Tensor, targets: Tensor, generators: Generators, classes: int, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Fill a rectangle of each picture with the next one of the batch; targets as in `mixup`, by the share of pixels.

    The rectangle has the picture's proportions, its middle lies anywhere, and it is cut off at the border (Yun et al.
    2019, "CutMix", arXiv 1905.04899, section 3.1).
    """
    _check(x, generators)
    size = x.new_tensor(x.shape[2:], dtype=torch.float32)[:, None]  # [2, 1]: height and width
    half = (1 - _beta(generators, alpha).to(x.device)).sqrt() * size / 2
    middle = uniform(generators, 2).to(x.device).T * size
    low, high = ((middle + side * half).round().clamp(min=0).minimum(size).long() for side in (-1, 1))
    box = Box(low[0], low[1], high[0] - low[0], high[1] - low[1], x.shape[2:])
    y = _probabilities(targets, classes)
    share = 1 - box.inside.flatten(1).float().mean(1)
    return torch.where(box.inside, x.roll(-1, 0), x), torch.lerp(y.roll(-1, 0), y, share[:, None])


class Augment(BatchTransform):
    """Change the pictures of each training batch by functions of (x, generators), as `random_flip` is.

    Then `mix`, a function of (x, targets, generators) such as `partial(cutmix, classes=10)`, blends pictures and
    targets. The generator of the k-th picture of a fit is made of `seed` and k alone; a checkpoint keeps the count.
    """

    def __init__(
        self,
        *functions: Callable[[Tensor, Generators], Tensor],
        mix: Callable[[Tensor, Tensor, Generators], tuple[Tensor, Tensor]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(self._change, valid=False)
        self.functions, self.mix, self.seed, self.seen = functions, mix, seed, 0

    def before_fit(self, learn: LearnerState) -> None:
        self.seen = 0

    def _change(self, batch: Any) -> tuple:
        x, *rest = batch
        generators = picture_generators(self.seed, len(x), self.seen)
        self.seen += len(x)
        for function in self.functions:
            x = function(x, generators)
        return (x, *rest) if self.mix is None else self.mix(x, *rest, generators)

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint keeps."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


@torch.no_grad()
def mean_probabilities(
    models: Iterable[nn.Module], x: Tensor, views: Sequence[Callable[[Tensor], Tensor]] = ()
) -> Tensor:
    """Return the mean of the probabilities [n, classes] that models give to views of x, which is one of them.

    Several views of one model are test-time augmentation, several models an ensemble.
    """
    outputs = [model(view(x)).float().softmax(1) for model in models for view in (lambda x: x, *views)]
    if not outputs:
        raise ValueError("mean_probabilities: at least one model is needed, got none")
    return torch.stack(outputs).mean(0)


def picture_generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """Return the generators of the pictures `first` to `first + count - 1` of a seed.

    They take as long for the millionth picture as for the first; those of `lib.diffusion.samplers`, made for a few
    hundred samples, draw the seeds of all that come before.
    """
    words = [np.random.SeedSequence([seed, i]).generate_state(1)[0] for i in range(first, first + count)]
    return [torch.Generator().manual_seed(int(word)) for word in words]


def uniform(generators: Generators, count: int) -> Tensor:
    """Return so many numbers from 0 up to 1 of each generator: float32 [n, count]."""
    return torch.stack([torch.rand(count, generator=g) for g in generators])


@dataclass(frozen=True)
class Box:
    """A rectangle for each of n pictures of the same size: whole numbers [n] of pixels."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    size: tuple[int, int]

    @property
    def inside(self) -> Tensor:
        """Tell of each pixel whether it lies in the rectangle: [n, 1, h, w]."""
        rows = _between(self.top, self.height, self.size[0])
        columns = _between(self.left, self.width, self.size[1])
        return (rows[:, :, None] & columns[:, None, :])[:, None]


def _boxes(x: Tensor, generators: Generators, scale: tuple[float, float], ratio: tuple[float, float]) -> Box:
    """Draw a rectangle for each picture; one that would be larger than the picture is cut to its size."""
    for name, (low, high), most in (("scale", scale, 1.0), ("ratio", ratio, float("inf"))):
        if not 0 < low <= high <= most:
            raise ValueError(f"{name} must be two numbers, 0 < smallest <= largest <= {most:g}, got ({low}, {high})")
    u = uniform(generators, 4).to(x.device)
    rows, columns = x.shape[2:]
    area = (scale[0] + (scale[1] - scale[0]) * u[:, 0]) * rows * columns
    proportion = ratio[0] * (ratio[1] / ratio[0]) ** u[:, 1]
    height = (area * proportion).sqrt().round().clamp(1, rows).long()
    width = (area / proportion).sqrt().round().clamp(1, columns).long()
    return Box(*_place(u[:, 2:], height, width, (rows, columns)), height, width, (rows, columns))


def _place(numbers: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]) -> Tensor:
    """Return top and left [2, n] of rectangles somewhere in pictures of a size, from numbers [n, 2] in [0, 1)."""
    free = torch.stack([size[0] - height, size[1] - width]) + 1
    return (numbers.T * free).long()


def _between(start: Tensor, length: Tensor, count: int) -> Tensor:
    places = torch.arange(count, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])


def _moved(x: Tensor, down: Tensor, right: Tensor, size: Sequence[int]) -> Tensor:
    """Return windows [n, c, *size], each with its own corner; what lies beyond one edge comes from the other."""
    n, c, h, w = x.shape
    rows = (torch.arange(size[0], device=x.device) + down[:, None]) % h
    columns = (torch.arange(size[1], device=x.device) + right[:, None]) % w
    places = (rows[:, :, None] * w + columns[:, None, :]).flatten(1)  # [n, pixels]
    return x.flatten(2).gather(2, places[:, None].expand(-1, c, -1)).view(n, c, *size)


def _chosen(x: Tensor, generators: Generators, p: float) -> Tensor:
    return (uniform(generators, 1).to(x.device) < p).view(-1, 1, 1, 1)


def _beta(generators: Generators, alpha: float) -> Tensor:
    """Draw a number from Beta(alpha, alpha) for each sample, by the inverse of its distribution function."""
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    drawn = betaincinv(alpha, alpha, uniform(generators, 1)[:, 0].double().numpy())
    return torch.from_numpy(drawn).float()


def _probabilities(targets: Tensor, classes: int) -> Tensor:
    return targets.float() if targets.ndim == 2 else F.one_hot(targets, classes).float()


def _check(x: Tensor, generators: Generators, p: float = 1.0) -> None:
    if x.ndim != 4:
        raise ValueError(f"expected pictures [n, c, h, w], got {list(x.shape)}")
    if len(generators) != len(x):
        raise ValueError(f"one generator for each picture is needed: got {len(generators)} for {len(x)}")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability from 0 to 1, got {p}")
