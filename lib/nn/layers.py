"""The convolutional net of the posts, and the activation that keeps its mean at zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class GeneralReLU(nn.Module):
    """A ReLU that leaks below zero, is lowered as a whole, and may be cut off above: any shape -> the same shape.

        y = min((x if x > 0 else a * x) - subtract, maximum)

    where a is `negative_slope`. For x normal with mean 0 and standard deviation 1, and no maximum,

        mean of y        = (1 - a) / sqrt(2 pi) - subtract
        mean square      = (1 + a^2) / 2                       before anything is subtracted
        variance of y    = (1 + a^2) / 2 - (1 - a)^2 / (2 pi)

    so `centring(a)` is what to subtract for a mean of 0. Kaiming weights make up for the mean square; once the mean
    is gone it is the variance they have to make up for, and the gain that holds it at 1 is 1 / sqrt(variance of y).
    """

    def __init__(self, negative_slope: float = 0.0, subtract: float = 0.0, maximum: float | None = None) -> None:
        super().__init__()
        self.negative_slope, self.subtract, self.maximum = negative_slope, subtract, maximum

    @staticmethod
    def centring(negative_slope: float) -> float:
        """Return the `subtract` that gives mean 0 for normal inputs."""
        return (1 - negative_slope) / math.sqrt(2 * math.pi)

    def forward(self, x: Tensor) -> Tensor:
        """Return y, of the shape of x."""
        y = F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)
        if self.subtract:
            y = y - self.subtract
        return y if self.maximum is None else y.clamp(max=self.maximum)

    def extra_repr(self) -> str:
        parts = {
            "negative_slope": self.negative_slope or None,
            "subtract": self.subtract or None,
            "maximum": self.maximum,
        }
        return ", ".join(f"{name}={value:.3g}" for name, value in parts.items() if value is not None)


def conv_block(
    c_in: int,
    c_out: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    act: Callable[[], nn.Module] | None = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
) -> nn.Sequential:
    """Return conv, then norm and activation where there are any: [n, c_in, h, w] -> [n, c_out, h / stride, w / stride].

    `act` makes an activation, `norm` a normalisation of so many channels (`BatchNorm`, `nn.BatchNorm2d`, ...). A
    normalisation has a bias of its own, so the convolution before it has none. Sizes that do not divide are rounded up.
    """
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=norm is None))
    if norm is not None:
        block.add_module("norm", norm(c_out))
    if act is not None:
        block.add_module("act", act())
    return block


def convnet(
    channels: Sequence[int] = (16, 32, 64, 128),
    classes: int = 10,
    *,
    act: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    c_in: int = 1,
) -> nn.Sequential:
    """Return the plain net of the posts: [n, c_in, h, w] -> [n, classes].

    Each block halves the sides, and the last one has a channel for each class: with four `channels` pictures of 28 x 28
    go 14, 7, 4, 2, 1. The first block looks at 5 x 5 pixels, because 3 x 3 of one channel are hardly more numbers than
    the channels that come out. More than one pixel left at the end is averaged.
    """
    if not channels:
        raise ValueError("convnet: at least one number of channels is needed, got none")
    sizes = [c_in, *channels]
    blocks = [
        conv_block(a, b, kernel=5 if i == 0 else 3, stride=2, act=act, norm=norm)
        for i, (a, b) in enumerate(itertools.pairwise(sizes))
    ]
    last = conv_block(sizes[-1], classes, stride=2, act=None, norm=norm)
    return nn.Sequential(*blocks, last, nn.AdaptiveAvgPool2d(1), nn.Flatten())
