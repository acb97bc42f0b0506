"""Pictures from a trained network: which sampler, how many steps, what class, how much guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.diffusion.denoise import Denoise, clipped, denoiser, guided
from lib.diffusion.samplers import Watch, normal, sample, seeded
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
    watch: Watch | None = None,
) -> Tensor:
    """Draw a picture of each label [n], or `count` of no class where `labels` is None: [n, *shape].

    Picture i hangs on `seed` and `first` + i alone: not on the batch size, nor on the pictures beside it (but for
    rounding). `clip` keeps the guessed pictures within [-1, 1]. Raises ValueError for an unknown sampler, schedule or
    prediction, more steps than the schedule has, and labels out of range; FloatingPointError, with the step, for NaN.
    """
    total = count if labels is None else len(labels)
    if total is None or total < 1:
        raise ValueError("how many? labels [n], at least one, or count are needed")
    device = next(model.parameters()).device
    done = []
    for start in range(0, total, batch_size):
        n = min(batch_size, total - start)
        part = None if labels is None else labels[start : start + n].to(device)
        generators = seeded(seed, n, first + start)
        x = normal(torch.empty(n, *shape, device=device), generators)
        denoise = conditional(model, schedule, prediction, part, guidance)
        denoise = clipped(denoise, schedule) if clip else denoise
        with torch.no_grad():
            done.append(sample(sampler, denoise, x, schedule, steps, generators, watch=watch))
    return torch.cat(done)


def conditional(
    model: Callable[..., Tensor], schedule: Schedule, prediction: str, labels: Tensor | None, guidance: float = 1.0
) -> Denoise:
    """Return the denoiser of a class-conditional network for labels [n], or for no class.

    `guidance` goes so far from the unconditional prediction to the conditional one (`guided`). That takes two calls of
    the network, and one where it is 0 or 1.
    """
    unconditional = denoiser(model, schedule, prediction)
    if labels is None or guidance == 0:
        return unconditional
    of_class = denoiser(model, schedule, prediction, labels)
    return of_class if guidance == 1 else guided(of_class, unconditional, guidance)
