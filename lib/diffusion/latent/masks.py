"""Masks: where two prompts disagree about a picture (DiffEdit's first step, Couairon et al. 2022, arXiv 2210.11427).

Masks are [n, h, w] on the grid of the latents, or [h, w] for all, 1 where a picture may change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.diffusion.latent.generation import conditioned, part_of
from lib.diffusion.latent.images import Picture, encode_image
from lib.diffusion.latent.parts import Parts
from lib.diffusion.latent.text import encode_prompt
from lib.diffusion.samplers import normal, seeded


@torch.no_grad()
def difference(
    parts: Parts,
    pictures: Picture,
    source: str | Sequence[str],
    target: str | Sequence[str],
    *,
    strength: float = 0.5,
    draws: int = 10,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Return where two prompts disagree about the noise in pictures: [n, h/f, w/f], at least 0 (DiffEdit, step 1).

    The pictures are noised to `strength` of the times, with `draws` different noises; the absolute difference of the
    two predictions is averaged over these and over channels. Guidance would do no more than multiply it.
    """
    return latent_difference(parts, encode_image(parts, pictures), source, target, strength, draws, seed, first)


def latent_difference(
    parts: Parts,
    z: Tensor,
    source: str | Sequence[str],
    target: str | Sequence[str],
    strength: float,
    draws: int,
    seed: int,
    first: int,
) -> Tensor:
    """Return the same for the latents z [n, 4, h/f, w/f] of the pictures."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    t = part_of(parts.schedule.times(len(parts.schedule)), strength)[:1].expand(len(z))
    two = [conditioned(parts, encode_prompt(parts, prompt).expand(len(z), -1, -1)) for prompt in (source, target)]
    generators = seeded(seed, len(z), first)
    total = torch.zeros_like(z[:, 0])
    for _ in range(draws):
        x = parts.schedule.noised(z, normal(z, generators), t)
        before, after = (denoise(x, t)[1] for denoise in two)
        total += (after - before).abs().mean(dim=1)
    return total / draws


def normalised(difference: Tensor, quantile: float = 0.99) -> Tensor:
    """Return differences [n, h, w] from 0 to 1: those above the quantile are cut to it, which becomes 1.

    The paper removes extreme values and rescales, and does not say how (section 3.2). The pipeline of diffusers cuts at
    three times the mean, which assumes that little of the picture changes; a quantile does not.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be above 0 and at most 1, got {quantile}")
    flat = difference.flatten(1).float()
    most = flat.quantile(quantile, dim=1).clamp(min=torch.finfo(flat.dtype).tiny)[:, None, None]
    return (difference / most.to(difference.dtype)).clamp(max=1)


def thresholded(values: Tensor, threshold: float = 0.2) -> Tensor:
    """Return the mask [n, h, w], 0 or 1, of values that reach the threshold (DiffEdit, section 3.2)."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
    return (values >= threshold).to(values.dtype)


def closed(mask: Tensor) -> Tensor:
    """Return a mask [n, h, w] without its holes of one or two places: grown by one, then shrunk by one (a closing).

    Where there is a hole the old picture would show through; the paper does not close them.
    """
    grown = F.max_pool2d(F.pad(mask[:, None], (2, 2, 2, 2)), 3, 1)
    return -F.max_pool2d(-grown, 3, 1)[:, 0]


def edit_mask(
    parts: Parts,
    pictures: Picture,
    source: str | Sequence[str],
    target: str | Sequence[str],
    *,
    quantile: float = 0.99,
    threshold: float = 0.2,
    **how: float,
) -> Tensor:
    """Return the mask of what has to change for `target` to be true instead of `source`: [n, h/f, w/f].

    `how` are the settings of `difference`.
    """
    return found(difference(parts, pictures, source, target, **how), quantile, threshold)


def found(difference: Tensor, quantile: float = 0.99, threshold: float = 0.2) -> Tensor:
    """Return the mask [n, h, w] that a difference makes: normalised, thresholded and closed."""
    return closed(thresholded(normalised(difference, quantile), threshold))


def on_grid(parts: Parts, mask: Tensor, z: Tensor) -> Tensor:
    """Bring a mask [h, w] or [n, h, w], in pixels or on the grid, onto the grid of latents z: [n, 1, h/f, w/f].

    A place of the grid may change if any of its pixels may. Raises ValueError for other sizes, and values but 0 and 1.
    """
    mask = mask[None] if mask.ndim == 2 else mask
    grid, pixels = list(z.shape[2:]), [side * parts.factor for side in z.shape[2:]]
    if mask.ndim != 3 or list(mask.shape[1:]) not in (grid, pixels) or len(mask) not in (1, len(z)):
        raise ValueError(f"a mask must be {pixels} pixels, or {grid} on the latents' grid, got {list(mask.shape)}")
    mask = mask.to(z.device, z.dtype)
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"a mask is 0 or 1, got values from {mask.min():.3g} to {mask.max():.3g}")
    if list(mask.shape[1:]) == pixels:
        mask = F.max_pool2d(mask[:, None], parts.factor)[:, 0]
    return mask[:, None].expand(len(z), -1, -1, -1)
