"""Residual nets: blocks that add to their input what they have learnt to change in it (He et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lib.nn.init import fixup_, init_weights
from lib.nn.layers import conv_block


class ResBlock(nn.Module):
    """act(branch(x) + shortcut(x)): [n, c_in, h, w] -> [n, c_out, h / stride, w / stride], sides rounded up.

    The branch is two 3 x 3 convolutions, each with its norm. The shortcut passes x on as it is; where sides or channels
    change it averages squares of stride x stride and mixes channels by a 1 x 1 convolution. `shortcut=False` leaves it
    out, and a plain net of the same depth is left.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int = 1,
        *,
        act: Callable[[], nn.Module] = nn.ReLU,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_block(c_in, c_out, stride=stride, act=act, norm=norm),
            conv_block(c_out, c_out, act=None, norm=norm),
        )
        self.shortcut = _shortcut(c_in, c_out, stride, norm) if shortcut else None
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Return act(branch(x) + shortcut(x))."""
        y = self.branch(x)
        return self.act(y if self.shortcut is None else y + self.shortcut(x))


class FixupBlock(nn.Module):
    """A residual block with no normalisation (Zhang, Dauphin and Ma 2019): the same shapes as `ResBlock`.

    Where a norm would centre and scale, single numbers do: a shift before each convolution and each activation, and one
    factor for the branch. `fixup_` gives the convolutions the weights to start from.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1, *, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shifts = nn.Parameter(torch.zeros(4))
        self.factor = nn.Parameter(torch.ones(()))
        self.shortcut = _shortcut(c_in, c_out, stride, None)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Return act(branch(x) + shortcut(x))."""
        y = self.act(self.conv1(x + self.shifts[0]) + self.shifts[1])
        y = self.factor * self.conv2(y + self.shifts[2]) + self.shifts[3]
        return self.act(y + self.shortcut(x))


def _shortcut(c_in: int, c_out: int, stride: int, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    """Return what brings x to the branch's shape, with as few weights as that takes."""
    steps: list[nn.Module] = []
    if stride != 1:
        steps.append(nn.AvgPool2d(stride, ceil_mode=True))
    if c_in != c_out:
        steps.append(conv_block(c_in, c_out, kernel=1, act=None, norm=norm))
    return nn.Sequential(*steps) if steps else nn.Identity()


class ResNet(nn.Sequential):
    """A stem, stages of residual blocks, a linear classifier of the average: [n, c_in, h, w] -> [n, classes].

    The stem is a 3 x 3 convolution to `stem` channels at full size. Each of `channels` is a stage that halves the sides
    and has `blocks` blocks (a number, or one for each stage). `block=FixupBlock` builds a net without normalisation.
    """

    def __init__(
        self,
        channels: Sequence[int] = (48, 96, 192),
        blocks: int | Sequence[int] = 1,
        *,
        classes: int = 10,
        c_in: int = 1,
        stem: int = 24,
        block: Callable[..., nn.Module] = ResBlock,
        act: Callable[[], nn.Module] = nn.ReLU,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        shortcut: bool = True,
        dropout: float = 0.0,
    ) -> None:
        counts = [blocks] * len(channels) if isinstance(blocks, int) else list(blocks)
        if len(counts) != len(channels) or min(counts, default=0) < 1:
            raise ValueError(f"ResNet: {len(channels)} stages need as many numbers of blocks, at least 1, got {blocks}")
        fixup = block is FixupBlock
        if fixup and not shortcut:
            raise ValueError("ResNet: Fixup starts each block as its shortcut, without shortcuts nothing would pass")
        super().__init__()
        self.stem = conv_block(c_in, stem, act=act, norm=None if fixup else norm)
        options = {"act": act} if fixup else {"act": act, "norm": norm, "shortcut": shortcut}
        width = stem
        for i, (channel, count) in enumerate(zip(channels, counts, strict=True)):
            stage = nn.Sequential()
            for j in range(count):
                stage.append(block(width, channel, 1 if j else 2, **options))
                width = channel
            self.add_module(f"stage{i + 1}", stage)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if dropout:
            self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        init_weights(self)
        if fixup:
            fixup_([(m.conv1, m.conv2) for m in self.modules() if isinstance(m, FixupBlock)], self.head)
