"""Masks: where two prompts disagree about an image (DiffEdit's first step, Couairon et al. 2022, arXiv 2210.11427).

Masks are [n, h, w] on the grid of the latents, or [h, w] for all, 1 where an image may change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lib.data.images import load
from lib.diffusion.latent.generation import match_counts, text_denoiser, truncate_timesteps
from lib.diffusion.latent.images import ImageInput, encode_image
from lib.diffusion.latent.parts import Parts
from lib.diffusion.latent.text import encode_prompt
from lib.diffusion.samplers import make_generators, randn_like

MaskInput = Tensor | np.ndarray | Image.Image


@torch.no_grad()
def difference(
    parts: Parts,
    images: ImageInput,
    source: str | Sequence[str],
    target: str | Sequence[str],
    *,
    strength: float = 0.5,
    draws: int = 10,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Return where two prompts disagree about the noise in images: [n, h/f, w/f], at least 0 (DiffEdit, step 1).

    The images are noised to `strength`, with `draws` different noises; the absolute difference of the two predictions
    is averaged over these and over channels. Guidance would only multiply it.
    """
    z, before, after = match_counts(
        images=encode_image(parts, images), sources=encode_prompt(parts, source), targets=encode_prompt(parts, target)
    )
    return latent_difference(parts, z, before, after, strength, draws, seed, first)


def latent_difference(
    parts: Parts, z: Tensor, source: Tensor, target: Tensor, strength: float, draws: int, seed: int, first: int
) -> Tensor:
    """Return the same for the latents z [n, 4, h/f, w/f] of the images, and encoded prompts [n, length, width]."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    t = truncate_timesteps(parts.schedule.timesteps(len(parts.schedule)), strength)[:1].expand(len(z))
    denoisers = [text_denoiser(parts, prompt) for prompt in (source, target)]
    generators = make_generators(seed, len(z), first)
    total = torch.zeros_like(z[:, 0], dtype=torch.promote_types(z.dtype, torch.float32))
    with torch.no_grad():
        for _ in range(draws):
            x = parts.schedule.add_noise(z, randn_like(z, generators), t)
            before, after = (denoise(x, t)[1] for denoise in denoisers)
            total += (after.to(total) - before.to(total)).abs().mean(dim=1)
    return total / draws


def normalise_difference(difference: Tensor, quantile: float = 0.99) -> Tensor:
    """Return differences [n, h, w] scaled to 0 to 1: those above the quantile are clipped to it, and it becomes 1.

    The paper removes extreme values and rescales, and does not say how (section 3.2). The pipeline of diffusers clips
    at three times the mean, which assumes that little of the image changes; a quantile does not.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be above 0 and at most 1, got {quantile}")
    flat = difference.flatten(1).float()
    upper = flat.quantile(quantile, dim=1).clamp(min=torch.finfo(flat.dtype).tiny)[:, None, None]
    return (difference / upper.to(difference.dtype)).clamp(max=1)


def threshold_mask(values: Tensor, threshold: float = 0.2) -> Tensor:
    """Return the mask [n, h, w], 0 or 1, of values that reach the threshold (DiffEdit, section 3.2)."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
    return (values >= threshold).to(values.dtype)


def close_mask(mask: Tensor) -> Tensor:
    """Return a mask [n, h, w] with holes of one or two positions filled: dilated by one, then eroded (a closing).

    Through a hole the old image would show; the paper does not close them.
    """
    dilated = F.max_pool2d(F.pad(mask[:, None], (2, 2, 2, 2)), 3, 1)
    return -F.max_pool2d(-dilated, 3, 1)[:, 0]


def edit_mask(
    parts: Parts,
    images: ImageInput,
    source: str | Sequence[str],
    target: str | Sequence[str],
    *,
    quantile: float = 0.99,
    threshold: float = 0.2,
    strength: float = 0.5,
    draws: int = 10,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Return the mask of what has to change for `target` to be true instead of `source`: [n, h/f, w/f]."""
    values = difference(parts, images, source, target, strength=strength, draws=draws, seed=seed, first=first)
    return mask_from_difference(values, quantile, threshold)


def mask_from_difference(difference: Tensor, quantile: float = 0.99, threshold: float = 0.2) -> Tensor:
    """Return the mask [n, h, w] of a difference: normalised, thresholded and closed."""
    return close_mask(threshold_mask(normalise_difference(difference, quantile), threshold))


def prepare_mask(parts: Parts, mask: MaskInput, z: Tensor) -> Tensor:
    """Bring a mask [h, w] or [n, h, w], in pixels or on the grid, onto the grid of latents z: [n, 1, h/f, w/f].

    A place of the grid may change if any of its pixels may. Takes tensors, arrays, and PIL images of any mode, of which
    white and what is transparent may change. Raises ValueError for other sizes, other counts, and values but 0 and 1
    (in an image, black and white).
    """
    if isinstance(mask, Image.Image):
        mask = load(mask)[0].mean(dim=0)
    mask = torch.as_tensor(mask)
    mask = mask[None] if mask.ndim == 2 else mask
    grid, pixels = list(z.shape[2:]), [side * parts.factor for side in z.shape[2:]]
    if mask.ndim != 3 or list(mask.shape[1:]) not in (grid, pixels):
        raise ValueError(f"a mask must be {pixels} pixels, or {grid} on the latents' grid, got {list(mask.shape)}")
    if len(mask) not in (1, len(z)):
        raise ValueError(f"one mask for all images, or one for each is needed: got {len(mask)} for {len(z)} images")
    mask = mask.to(z.device, z.dtype)
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"a mask is 0 or 1, got values from {mask.min():.3g} to {mask.max():.3g}")
    if list(mask.shape[1:]) == pixels:
        mask = F.max_pool2d(mask[:, None], parts.factor)[:, 0]
    return mask[:, None].expand(len(z), -1, -1, -1)
