"""The U-Net of diffusion models, with embeddings of time and class (Ho et al. 2020, appendix B)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def time_embedding(t: Tensor, size: int, max_period: float = 10_000.0) -> Tensor:
    """Return cosines and sines of times t [n], at wavelengths from 2 pi to 2 pi `max_period`: [n, size], size even.

    The positions of Vaswani et al. (2017, section 3.5), by which near times get near embeddings.
    """
    if size < 2 or size % 2:
        raise ValueError(f"size must be even, got {size}")
    frequencies = torch.exp(-math.log(max_period) * torch.arange(size // 2, device=t.device) / (size // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimedResBlock(nn.Module):
    """x + branch(x, emb): x [n, c_in, h, w] and an embedding emb [n, width] -> [n, c_out, h, w].

    Norm, SiLU and convolution twice; the embedding scales and shifts the second norm (Dhariwal and Nichol 2021, section
    3.1). The last convolution is initialised with zeros, so a block starts as its shortcut.
    """

    def __init__(self, c_in: int, c_out: int, width: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(math.gcd(groups, c_in), c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.emb_proj = nn.Linear(width, 2 * c_out)
        self.norm2 = nn.GroupNorm(math.gcd(groups, c_out), c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return x with what the block adds to it."""
        scale, shift = self.emb_proj(emb)[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        return self.shortcut(x) + y


class Attention(nn.Module):
    """x + self-attention over the pixels of x [n, c, h, w], `heads` side by side (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, channels: int, heads: int = 4, groups: int = 8) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads = heads
        self.norm = nn.GroupNorm(math.gcd(groups, channels), channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what each pixel attends to in the others."""
        n, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [n, h w, c]
        q, k, v = self.qkv(tokens).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(attended).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """x [n, c_in, h, w], times t [n] and classes [n] -> [n, c_in, h, w].

    On the way down each level has `blocks` residual blocks and halves the sides; on the way up it has one block
    more, each with a skip connection from the way down. `attention` says which levels attend. With `classes` there
    are so many labels, and one more, `null`, that stands for none. With `patch` it sees squares of so many pixels a
    side as one pixel of more channels, which makes all levels cheaper (Hoogeboom et al. 2023, section 3.3).
    """

    def __init__(
        self,
        c_in: int = 1,
        channels: Sequence[int] = (32, 64, 96),
        *,
        blocks: int = 1,
        attention: Sequence[bool] = (False, False, True),
        classes: int | None = None,
        patch: int = 1,
    ) -> None:
        super().__init__()
        if len(attention) != len(channels) or not channels:
            raise ValueError(f"one answer a level is needed, got attention {attention} for channels {channels}")
        self.c_in, self.channels, self.null, self.patch = c_in, tuple(channels), classes, patch
        width = 4 * channels[0]
        self.time = nn.Sequential(nn.Linear(channels[0], width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if classes is None else nn.Embedding(classes + 1, width)
        self.first = nn.Conv2d(c_in * patch**2, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, c = [channels[0]], channels[0]
        for level, (c_out, attends) in enumerate(zip(channels, attention, strict=True)):
            for _ in range(blocks):
                self.down.append(_Level(c, c_out, width, attends))
                c = c_out
                skips.append(c)
            if level < len(channels) - 1:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
        self.middle = _Level(c, c, width, attention[-1])
        for level, (c_out, attends) in reversed(list(enumerate(zip(channels, attention, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(_Level(c + skips.pop(), c_out, width, attends))
                c = c_out
            if level:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(c, c, 3, padding=1)))
        self.last = nn.Sequential(
            nn.GroupNorm(math.gcd(8, c), c), nn.SiLU(), nn.Conv2d(c, c_in * patch**2, 3, padding=1)
        )
        nn.init.zeros_(self.last[-1].weight)
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the prediction; raises ValueError for sides that cannot be halved, and labels out of range."""
        emb = F.silu(self._embed(x, t, label))
        x = self.first(F.pixel_unshuffle(x, self.patch))
        skips = [x]
        for part in self.down:
            x = part(x, emb) if isinstance(part, _Level) else part(x)
            skips.append(x)
        x = self.middle(x, emb)
        for part in self.up:
            x = part(torch.cat([x, skips.pop()], dim=1), emb) if isinstance(part, _Level) else part(x)
        return F.pixel_shuffle(self.last(x), self.patch)

    def _embed(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        whole = self.patch * 2 ** (len(self.channels) - 1)
        if x.ndim != 4 or x.shape[1] != self.c_in or x.shape[2] % whole or x.shape[3] % whole:
            raise ValueError(f"x must be [n, {self.c_in}, h, w], h and w multiples of {whole}, got {list(x.shape)}")
        emb = self.time(time_embedding(t, self.channels[0]).to(x.dtype))
        if self.label is None and label is not None:
            raise ValueError("this U-Net has no classes: it was made without `classes`")
        if self.label is None:
            return emb
        label = torch.full((len(x),), self.null, device=x.device) if label is None else label
        # On a GPU looking would wait for it; the embedding's own assertion fails there.
        if not label.is_cuda and bool(((label < 0) | (label > self.null)).any()):
            raise ValueError(f"labels are from 0 to {self.null - 1}, or {self.null} for none, got {label.tolist()}")
        return emb + self.label(label)


class _Level(nn.Module):
    """A residual block, and attention after it where the level attends."""

    def __init__(self, c_in: int, c_out: int, width: int, attends: bool) -> None:
        super().__init__()
        self.block = TimedResBlock(c_in, c_out, width)
        self.attention = Attention(c_out) if attends else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))
