"""Editing with a text-to-image model: inpainting, inversion, and DiffEdit (Couairon et al. 2022, arXiv 2210.11427).

All of them share one loop: after each step, what lies outside of the mask is reset to what it should be at that time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.diffusion.denoise import Denoise
from lib.diffusion.latent.generation import (
    match_counts,
    noised,
    prepare_image_to_image,
    text_denoiser,
    timesteps,
    truncate_timesteps,
)
from lib.diffusion.latent.images import ImageInput, decode, encode_image
from lib.diffusion.latent.masks import MaskInput, latent_difference, mask_from_difference, prepare_mask
from lib.diffusion.latent.parts import Parts
from lib.diffusion.latent.text import encode_prompt
from lib.diffusion.samplers import StepCallback, check_finite, invert_ddim, make_generators, randn_like


class Edit(NamedTuple):
    """What DiffEdit made: images [n, 3, h, w], and on the latents' grid the difference [n, h, w] and the mask."""

    images: Tensor
    difference: Tensor
    mask: Tensor


def inpaint(
    parts: Parts,
    images: ImageInput,
    mask: MaskInput,
    prompts: str | Sequence[str],
    *,
    strength: float = 1.0,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    steps: int = 50,
    seed: int = 0,
    first: int = 0,
    callback: StepCallback | None = None,
) -> Tensor:
    """Draw prompts inside of a mask [h, w] or [n, h, w] in pixels, 1 where to draw; the rest is kept.

    After each step the outside is reset to the image, noised as that time demands (Avrahami et al. 2023, section 4). At
    strength 1 the inside begins with pure noise, so that nothing of what was there decides what comes (as in
    diffusers); below it with the noised image.
    """
    ts = truncate_timesteps(timesteps(parts, steps), strength)
    z, denoise = prepare_image_to_image(parts, images, prompts, negative, guidance)
    inside = prepare_mask(parts, mask, z)
    noise = randn_like(z, make_generators(seed, len(z), first))

    def outside(step: int) -> Tensor:
        if step + 1 == len(ts):
            return z
        return parts.schedule.add_noise(z, noise, ts[step + 1 : step + 2].expand(len(z)))

    x = torch.where(inside > 0, noised(parts, z, noise, ts, strength), outside(-1))
    return decode(parts, masked_ddim(parts, denoise, x, ts, inside, outside, callback))


def invert(
    parts: Parts,
    images: ImageInput,
    prompts: str | Sequence[str] = "",
    *,
    strength: float = 1.0,
    guidance: float = 1.0,
    steps: int = 200,
    callback: StepCallback | None = None,
) -> Tensor:
    """Return the latents [n, 4, h/f, w/f] from which DDIM, with these prompts and steps, draws the images again.

    With a `strength` below 1 it adds only that much noise, as DiffEdit's encoding does.
    """
    ts = truncate_timesteps(timesteps(parts, steps), strength)
    z, denoise = prepare_image_to_image(parts, images, prompts, "", guidance)
    return invert_ddim(denoise, z, parts.schedule, ts, callback=callback)


def diffedit(
    parts: Parts,
    images: ImageInput,
    source: str | Sequence[str],
    target: str | Sequence[str],
    *,
    strength: float = 0.8,
    guidance: float = 7.5,
    steps: int = 50,
    mask: MaskInput | None = None,
    mask_strength: float = 0.5,
    quantile: float = 0.99,
    threshold: float = 0.2,
    draws: int = 10,
    seed: int = 0,
    first: int = 0,
    callback: StepCallback | None = None,
) -> Edit:
    """Change images so that `target` is true of them instead of `source`, and leave the rest (DiffEdit, section 3).

    Find the mask, unless it is given (in pixels or on the latents' grid); encode the images to `strength` by DDIM
    without a prompt; decode with the target, and outside of the mask reset each step to the encoding. The defaults were
    chosen on Pocket Stable Diffusion; the paper has a threshold of 0.5.
    """
    ts = truncate_timesteps(timesteps(parts, steps), strength)
    z, before, cond = match_counts(
        images=encode_image(parts, images), sources=encode_prompt(parts, source), targets=encode_prompt(parts, target)
    )
    given = None if mask is None else prepare_mask(parts, mask, z)[:, 0]
    maps = latent_difference(parts, z, before, cond, mask_strength, draws, seed, first)
    inside = mask_from_difference(maps, quantile, threshold) if given is None else given
    encoded = [z]
    uncond = encode_prompt(parts, "").expand_as(cond)
    x = invert_ddim(
        text_denoiser(parts, uncond), z, parts.schedule, ts, callback=lambda step, t, x, x0: encoded.append(x)
    )
    denoise = text_denoiser(parts, cond, uncond, guidance)
    x = masked_ddim(parts, denoise, x, ts, inside[:, None], lambda step: encoded[len(ts) - 1 - step], callback)
    return Edit(decode(parts, x), maps, inside)


@torch.no_grad()
def masked_ddim(
    parts: Parts,
    denoise: Denoise,
    x: Tensor,
    timesteps: Tensor,
    inside: Tensor,
    outside: Callable[[int], Tensor],
    callback: StepCallback | None = None,
) -> Tensor:
    """Sample by DDIM; after each step what is not `inside` [n, 1, h, w], 0 or 1, becomes `outside(step)`.

    Raises FloatingPointError, with the step, for NaN or infinity.
    """
    levels = [*(parts.schedule.level(t) for t in timesteps.tolist()), parts.schedule.last]
    for step, (now, then) in enumerate(itertools.pairwise(levels)):
        x0, noise = denoise(x, torch.full((len(x),), now.t, device=x.device))
        x = then.alpha_t * x0 + then.sigma_t * noise
        x = torch.where(inside > 0, x, outside(step))
        check_finite(x, step, now)
        if callback is not None:
            callback(step, now.t, x, x0)
    return x
