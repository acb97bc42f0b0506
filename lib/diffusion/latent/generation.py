"""Text to image and image to image: each is a start, a denoiser of latents, and a sampler.

Noise comes from one generator a picture: it looks the same alone and in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.diffusion.denoise import Denoise, split
from lib.diffusion.latent.images import Picture, decode, encode_image
from lib.diffusion.latent.parts import Parts
from lib.diffusion.latent.text import encode_prompt
from lib.diffusion.samplers import Generators, Watch, normal, sample, seeded


def conditioned(parts: Parts, known: Tensor, nothing: Tensor | None = None, guidance: float = 1.0) -> Denoise:
    """Return a denoiser of latents for what is known of prompts [n, length, width].

    With `guidance` w it goes from the prediction for `nothing` w times the way to that for `known` (Ho and Salimans
    2022, equation 6). `nothing` is what is known of the empty prompt, or of one that names what is *not* wanted: a
    negative prompt. Both predictions are one call of the U-Net. Raises ValueError for guidance below 0.
    """
    if not 0 <= guidance < math.inf:
        raise ValueError(f"guidance must be at least 0 and finite, got {guidance}")
    if guidance != 1 and nothing is None:
        raise ValueError(f"guidance {guidance:g} needs a prompt to go away from: pass `nothing`")
    both = known if guidance == 1 else torch.cat([nothing.expand_as(known), known])

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.to(x.device)
        if guidance == 1:
            predicted = parts.unet(x, t, both).sample
        else:
            away, to = parts.unet(torch.cat([x, x]), torch.cat([t, t]), both).sample.chunk(2)
            predicted = away + guidance * (to - away)
        return split(parts.prediction, parts.schedule, x, predicted, t)

    return denoise


def times(parts: Parts, steps: int) -> Tensor:
    """Return the times of so many steps, as Stable Diffusion has them: leading, with the scheduler's offset."""
    return parts.schedule.times(steps, "leading", parts.offset)


def noise(parts: Parts, generators: Generators, size: tuple[int, int] | None = None) -> Tensor:
    """Return the noise that pictures of `size` (h, w) begin with, by default of the size that was trained on."""
    height, width = (parts.size, parts.size) if size is None else size
    if height % (2 * parts.factor) or width % (2 * parts.factor):
        raise ValueError(f"height and width must be multiples of {2 * parts.factor}, got {height} and {width}")
    shape = (len(generators), parts.unet.config.in_channels, height // parts.factor, width // parts.factor)
    return normal(torch.empty(shape, device=parts.device, dtype=parts.dtype), generators)


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
    watch: Watch | None = None,
) -> Tensor:
    """Draw a picture of each prompt: [n, 3, h, w] in [0, 1].

    The start is noise of `seed` (picture i has that of `first` + i), or `latents` if they are given.
    """
    known, nothing = encode_prompt(parts, prompts), encode_prompt(parts, negative)
    generators = seeded(seed, len(known), first)
    x = noise(parts, generators, size) if latents is None else latents.to(parts.device, parts.dtype)
    denoise = conditioned(parts, known, nothing, guidance)
    with torch.no_grad():
        x = sample(sampler, denoise, x, parts.schedule, times(parts, steps), generators, watch=watch)
    return decode(parts, x)


def image_to_image(
    parts: Parts,
    pictures: Picture,
    prompts: str | Sequence[str],
    *,
    strength: float = 0.8,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    sampler: str = "ddim",
    steps: int = 50,
    seed: int = 0,
    first: int = 0,
    watch: Watch | None = None,
) -> Tensor:
    """Draw prompts over pictures: noise them so far (`strength`, 0 to 1), and walk the rest of the steps back.

    The idea of Meng et al. (2022, SDEdit, section 3): what the noise covers is drawn anew, what it leaves is kept.
    """
    left = part_of(times(parts, steps), strength)
    z, denoise = over(parts, pictures, prompts, negative, guidance)
    generators = seeded(seed, len(z), first)
    x = parts.schedule.noised(z, normal(z, generators), left[:1].expand(len(z)))
    with torch.no_grad():
        x = sample(sampler, denoise, x, parts.schedule, left, generators, watch=watch)
    return decode(parts, x)


def over(
    parts: Parts, pictures: Picture, prompts: str | Sequence[str], negative: str | Sequence[str], guidance: float
) -> tuple[Tensor, Denoise]:
    """Return the latents of pictures [n, 4, h/f, w/f] and a denoiser for prompts; one of either is for all."""
    z = encode_image(parts, pictures)
    known, nothing = encode_prompt(parts, prompts), encode_prompt(parts, negative)
    z = z.expand(max(len(z), len(known)), -1, -1, -1)
    return z, conditioned(parts, known.expand(len(z), -1, -1), nothing, guidance)


def part_of(times: Tensor, strength: float) -> Tensor:
    """Return the last `strength` (above 0, at most 1) of the times, at least one of them."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    return times[len(times) - max(1, int(len(times) * strength)) :]
