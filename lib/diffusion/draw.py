"""Images from a trained network: which sampler, how many steps, what class, how much guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.diffusion.denoise import Denoise, clipped, denoiser, guided
from lib.diffusion.samplers import StepCallback, make_generators, randn_like, sample
from lib.diffusion.schedule import Schedule


def draw(
    model: nn.Module,
    schedule: Schedule,
    prediction: str,
    labels: Tensor | None,
    shape: tuple[int, ...] = (1, 32, 32),
    *,
    count: int | None = None,
    sampler: str = "ddim",
    steps: int | Tensor = 50,
    guidance: float = 1.0,
    clip: bool = True,
    seed: int = 0,
    first: int = 0,
    batch_size: int = 128,
    callback: StepCallback | None = None,
) -> Tensor:
    """Draw an image of each label [n], or `count` of no class where `labels` is None: [n, *shape].

    Image i depends on `seed` and `first` + i alone, up to rounding: not on the batch size, nor on the other images.
    `clip` keeps the predicted images within [-1, 1]. Raises ValueError for an unknown sampler, schedule or
    prediction, more steps than the schedule has, and labels out of range; FloatingPointError, with the step, for NaN.
    """
    total = count if labels is None else len(labels)
    if total is None or total < 1:
        raise ValueError("how many? labels [n], at least one, or count are needed")
    device = next(model.parameters()).device
    drawn = []
    for start in range(0, total, batch_size):
        n = min(batch_size, total - start)
        part = None if labels is None else labels[start : start + n].to(device)
        generators = make_generators(seed, n, first + start)
        x = randn_like(torch.empty(n, *shape, device=device), generators)
        denoise = class_denoiser(model, schedule, prediction, part, guidance)
        denoise = clipped(denoise, schedule) if clip else denoise
        with torch.no_grad():
            drawn.append(sample(sampler, denoise, x, schedule, steps, generators, callback=callback))
    return torch.cat(drawn)


def class_denoiser(
    model: Callable[..., Tensor], schedule: Schedule, prediction: str, labels: Tensor | None, guidance: float = 1.0
) -> Denoise:
    """Return the denoiser of a class-conditional network for labels [n], or for no class.

    `guidance` extrapolates from the unconditional prediction to the conditional one (`guided`), which takes two
    calls of the network; at 0 and 1 one call is enough.
    """
    uncond = denoiser(model, schedule, prediction)
    if labels is None or guidance == 0:
        return uncond
    cond = denoiser(model, schedule, prediction, labels)
    return cond if guidance == 1 else guided(cond, uncond, guidance)
