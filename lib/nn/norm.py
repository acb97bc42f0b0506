"""The four normalisations, written out: the same arithmetic, averaged over different axes.

All take images [n, c, h, w], and more or fewer axes where that makes sense. Each subtracts a mean and divides by a
standard deviation, then scales and shifts by a learnt `weight` and `bias`:

    y = (x - mean) / sqrt(variance + eps) * weight + bias

LayerNorm averages over the last axes, BatchNorm over all but the channels, InstanceNorm over the space of each channel
of each item, GroupNorm over groups of channels of each item: with one group it averages the whole image, with a group
for each channel it is an InstanceNorm. Answers, gradients, buffers and the keys of `state_dict` are those of torch.nn.

Means and variances are computed in float32, or wider if x is: in float16 the square of 300 is infinite. The answer has
the dtype of x, as torch's, also with weights in float32; under autocast on a GPU torch's layer and group norm answer in
float32, and so do these.

Sources: Ioffe and Szegedy 2015 (batch), Ba, Kiros and Hinton 2016 (layer), Ulyanov, Vedaldi and Lempitsky 2016
(instance), Wu and He 2018 (group).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.checks import wide


class LayerNorm(nn.Module):
    """Normalise each item over its last axes, of sizes `shape`: [..., *shape] -> [..., *shape]."""

    def __init__(self, shape: int | Sequence[int], eps: float = 1e-5) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(self.shape))
        self.bias = nn.Parameter(torch.zeros(self.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean 0 and standard deviation 1 over the last axes, scaled and shifted."""
        if x.shape[-len(self.shape) :] != self.shape:
            raise ValueError(f"{self} got {list(x.shape)}: expected the last axes to be {list(self.shape)}")
        axes = tuple(range(-len(self.shape), 0))
        return (standardise(x, axes, self.eps) * self.weight + self.bias).to(output_dtype(x))

    def extra_repr(self) -> str:
        return f"{list(self.shape)}"


class BatchNorm(nn.Module):
    """Normalise each channel over the batch and over space: [n, c] or [n, c, *space] -> the same shape.

    In training, mean and variance are those of the batch, and the running averages move towards them by `momentum`
    (the running variance towards the unbiased one, divided by count - 1, as in torch); with `momentum=None` they are
    the plain averages of all batches. In evaluation the running averages are used, so an item's answer does not depend
    on its neighbours.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}: how far the averages move at each batch")
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised by the batch (training) or by the running averages (evaluation)."""
        check_channels(self, x, self.channels)
        if self.training:
            mean, variance = self.batch_statistics(x)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight / (wide(variance) + self.eps).sqrt()
        return ((wide(x) - over_channels(mean, x)) * over_channels(scale, x) + over_channels(self.bias, x)).to(x.dtype)

    def batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each channel [c], and move the running averages towards them."""
        count = x.numel() // self.channels
        if count < 2:
            raise ValueError(
                f"{self} in training got {list(x.shape)}, {count} value for each channel, which has no variance: "
                "use batches of two or more (drop_last=True leaves out a last one), or model.eval()"
            )
        axes = [axis for axis in range(x.ndim) if axis != 1]
        mean, variance = wide(x).mean(axes), wide(x).var(axes, correction=0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        return mean, variance

    def extra_repr(self) -> str:
        return f"{self.channels}"


class GroupNorm(nn.Module):
    """Normalise each item over groups of its channels and over space: [n, c, *space] -> the same shape."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f"{channels} channels cannot be split into {groups} groups of the same size")
        self.groups, self.channels, self.eps = groups, channels, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean 0 and standard deviation 1 in each group of each item, scaled and shifted by channel."""
        check_channels(self, x, self.channels)
        size = math.prod(x.shape[1:]) // self.groups  # said, as -1 is not known where n is 0
        grouped = x.reshape(len(x), self.groups, size)
        check_several(self, x, grouped.shape[-1], "group")
        normalised = standardise(grouped, (-1,), self.eps).reshape(x.shape)
        return (normalised * over_channels(self.weight, x) + over_channels(self.bias, x)).to(output_dtype(x))

    def extra_repr(self) -> str:
        return f"{self.groups}, {self.channels}"


class InstanceNorm(nn.Module):
    """Normalise each channel of each item over its space: [n, c, *space] -> the same shape.

    As in torch it learns no scale and shift unless `affine`, and keeps no running averages.
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean 0 and standard deviation 1 over the space of each channel of each item."""
        check_channels(self, x, self.channels)
        check_several(self, x, x[0, 0].numel() if len(x) else 2, "channel of an item")
        normalised = standardise(x, tuple(range(2, x.ndim)), self.eps)
        if self.weight is not None:
            normalised = normalised * over_channels(self.weight, x) + over_channels(self.bias, x)
        return normalised.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}"


def standardise(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Subtract the mean over `axes` and divide by the standard deviation; `eps` keeps the division from zero.

    The answer is in float32, or wider if x is.
    """
    x = wide(x)
    centred = x - x.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    return centred / (variance + eps).sqrt()


def output_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which torch's layer and group norm answer: x's, but float32 under autocast on a GPU."""
    return torch.float32 if x.is_cuda and torch.is_autocast_enabled("cuda") else x.dtype


def over_channels(values: Tensor, x: Tensor) -> Tensor:
    """Give one value for each channel [c] the axes [c, 1, ...] that broadcast over x [n, c, ...]."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def check_channels(norm: nn.Module, x: Tensor, channels: int) -> None:
    """Raise a ValueError unless x is [n, channels, ...]."""
    if x.ndim < 2 or x.shape[1] != channels:
        raise ValueError(f"{norm} got {list(x.shape)}: expected [n, {channels}, ...], the channels in axis 1")


def check_several(norm: nn.Module, x: Tensor, count: int, where: str) -> None:
    """Raise a ValueError where there is nothing to average over."""
    if count < 2:
        raise ValueError(f"{norm} got {list(x.shape)}: one value for each {where}, which has no variance")
