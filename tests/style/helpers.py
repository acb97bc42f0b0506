"""Pictures for the tests of style transfer, and how many hooks are on."""

import torch
from torch import nn


def picture(height: int, width: int, seed: int = 0, n: int = 1) -> torch.Tensor:
    """Return smooth noise in [0, 1], float64: [n, 3, height, width]."""
    coarse = torch.rand(n, 3, height // 4 + 2, width // 4 + 2, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse.double(), (height, width), mode="bilinear")


def hooked(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())
