"""Text to image and image to image: each is a start, a denoiser of latents, and a sampler.

Noise comes from one generator for each image, so an image is the same alone and in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.diffusion.denoise import Denoise, x0_and_noise
from lib.diffusion.latent.images import ImageInput, decode, encode_image
from lib.diffusion.latent.parts import Parts
from lib.diffusion.latent.text import encode_prompt
from lib.diffusion.samplers import Generators, StepCallback, make_generators, randn_like, sample


def text_denoiser(parts: Parts, cond: Tensor, uncond: Tensor | None = None, guidance: float = 1.0) -> Denoise:
    """Return a denoiser of latents for encoded prompts `cond` [n, length, width].

    `guidance` extrapolates from the prediction for `uncond` to that for `cond` (Ho and Salimans 2022, equation 6).
    `uncond` is the encoded empty prompt, or a negative prompt, which names what is *not* wanted. Both predictions are
    one call of the U-Net. Raises ValueError for guidance below 0.
    """
    if not 0 <= guidance < math.inf:
        raise ValueError(f"guidance must be at least 0 and finite, got {guidance}")
    if guidance != 1 and uncond is None:
        raise ValueError(f"guidance {guidance:g} needs an encoded prompt to go away from: pass `uncond`")
    both = cond if guidance == 1 else torch.cat([uncond.expand_as(cond), cond])

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.to(x.device)
        if guidance == 1:
            predicted = parts.unet(x, t, both).sample
        else:
            pred_uncond, pred_cond = parts.unet(torch.cat([x, x]), torch.cat([t, t]), both).sample.chunk(2)
            predicted = pred_uncond + guidance * (pred_cond - pred_uncond)
        return x0_and_noise(parts.schedule, parts.prediction, x, predicted, t)

    return denoise


def timesteps(parts: Parts, steps: int) -> Tensor:
    """Return so many timesteps, spaced as the model's scheduler says (Stable Diffusion's: leading, offset 1)."""
    return parts.schedule.timesteps(steps, parts.spacing, parts.offset)


def match_counts(**tensors: Tensor) -> list[Tensor]:
    """Return tensors [n, ...] or [1, ...] as [n, ...] each; raise ValueError, which counts them, for others."""
    n = max(map(len, tensors.values()))
    if any(len(each) not in (1, n) for each in tensors.values()):
        counts = ", ".join(f"{len(each)} {name.replace('_', ' ')}" for name, each in tensors.items())
        raise ValueError(f"got {counts}: of each there must be as many as of the others, or one for all")
    return [each.expand(n, *each.shape[1:]) for each in tensors.values()]


def prepare_latents(parts: Parts, generators: Generators, size: tuple[int, int] | None = None) -> Tensor:
    """Return the initial noise for images of `size` (h, w), by default the size that the model was trained on."""
    height, width = (parts.size, parts.size) if size is None else size
    if height % (2 * parts.factor) or width % (2 * parts.factor):
        raise ValueError(f"height and width must be multiples of {2 * parts.factor}, got {height} and {width}")
    shape = (len(generators), parts.unet.config.in_channels, height // parts.factor, width // parts.factor)
    return randn_like(torch.empty(shape, device=parts.device, dtype=parts.dtype), generators)


def text_to_image(
    parts: Parts,
    prompts: str | Sequence[str],
    *,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    sampler: str = "ddim",
    steps: int = 25,
    seed: int = 0,
    first: int = 0,
    size: tuple[int, int] | None = None,
    latents: Tensor | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Draw an image of each prompt: [n, 3, h, w] in [0, 1].

    The start is noise of `seed` (image i has that of `first` + i), or `latents` if they are given. Of prompts, negative
    prompts and latents there are as many as images, or one for all. Raises ValueError for other counts, sizes, steps.
    """
    ts = timesteps(parts, steps)
    given = {} if latents is None else {"latents": check_latents(parts, latents)}
    cond, uncond, *x = match_counts(
        prompts=encode_prompt(parts, prompts), negative_prompts=encode_prompt(parts, negative), **given
    )
    generators = make_generators(seed, len(cond), first)
    start = x[0] if x else prepare_latents(parts, generators, size)
    denoise = text_denoiser(parts, cond, uncond, guidance)
    return decode(parts, sample(sampler, denoise, start, parts.schedule, ts, generators, callback=callback))


def image_to_image(
    parts: Parts,
    images: ImageInput,
    prompts: str | Sequence[str],
    *,
    strength: float = 0.8,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    sampler: str = "ddim",
    steps: int = 50,
    seed: int = 0,
    first: int = 0,
    callback: StepCallback | None = None,
) -> Tensor:
    """Draw prompts over images: add noise up to `strength` (0 to 1), and sample from there.

    The idea of Meng et al. (2022, SDEdit, section 3): what the noise covers is drawn anew, what it leaves is kept. At
    strength 1 nothing is: it begins with pure noise. (The pipeline of diffusers noises the image there, too, and as
    Stable Diffusion's schedule ends before pure noise, its brightness shines through.)
    """
    ts = truncate_timesteps(timesteps(parts, steps), strength)
    z, denoise = prepare_image_to_image(parts, images, prompts, negative, guidance)
    generators = make_generators(seed, len(z), first)
    x = noised(parts, z, randn_like(z, generators), ts, strength)
    return decode(parts, sample(sampler, denoise, x, parts.schedule, ts, generators, callback=callback))


def noised(parts: Parts, z: Tensor, noise: Tensor, timesteps: Tensor, strength: float) -> Tensor:
    """Return what sampling begins with at a strength: latents z with noise of the first timestep, at 1 noise alone."""
    return noise if strength == 1 else parts.schedule.add_noise(z, noise, timesteps[:1].expand(len(z)))


def check_latents(parts: Parts, latents: Tensor) -> Tensor:
    """Return latents where the parts are, in their dtype; raise ValueError unless they are [n, channels, h/f, w/f]."""
    channels = parts.unet.config.in_channels
    if not isinstance(latents, Tensor) or latents.ndim != 4 or latents.shape[1] != channels:
        got = list(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(f"latents must be a tensor [n, {channels}, h/{parts.factor}, w/{parts.factor}], got {got}")
    return latents.to(parts.device, parts.dtype)


def prepare_image_to_image(
    parts: Parts, images: ImageInput, prompts: str | Sequence[str], negative: str | Sequence[str], guidance: float
) -> tuple[Tensor, Denoise]:
    """Return the latents of images [n, 4, h/f, w/f] and a denoiser for prompts; a single one of either serves all."""
    z, cond, uncond = match_counts(
        images=encode_image(parts, images),
        prompts=encode_prompt(parts, prompts),
        negative_prompts=encode_prompt(parts, negative),
    )
    return z, text_denoiser(parts, cond, uncond, guidance)


def truncate_timesteps(timesteps: Tensor, strength: float) -> Tensor:
    """Return the last `strength` (above 0, at most 1) of the timesteps, at least one of them."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    count = int(round(len(timesteps) * strength, 6))  # 100 * 0.29 is 28.999999999999996
    return timesteps[len(timesteps) - max(1, count) :]
