"""Editing with a text-to-image model: inpainting, inversion, and DiffEdit (Couairon et al. 2022, arXiv 2210.11427).

The walk back is one for all of them: after each step, what lies outside of the mask is put back to what it should be at
that time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.diffusion.denoise import Denoise
from lib.diffusion.latent.generation import conditioned, over, part_of, times
from lib.diffusion.latent.images import Picture, decode, encode_image
from lib.diffusion.latent.masks import found, latent_difference, on_grid
from lib.diffusion.latent.parts import Parts
from lib.diffusion.latent.text import encode_prompt
from lib.diffusion.samplers import Watch, invert_ddim, normal, seeded


class Edit(NamedTuple):
    """What DiffEdit made: pictures [n, 3, h, w], and on the latents' grid the difference [n, h, w] and the mask."""

    pictures: Tensor
    difference: Tensor
    mask: Tensor


def inpaint(
    parts: Parts,
    pictures: Picture,
    mask: Tensor,
    prompts: str | Sequence[str],
    *,
    strength: float = 1.0,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    steps: int = 50,
    seed: int = 0,
    first: int = 0,
    watch: Watch | None = None,
) -> Tensor:
    """Draw prompts inside of a mask [h, w] or [n, h, w] in pixels, 1 where to draw; what is outside of it stays.

    Outside, each step is put back to the picture with as much noise as there is (Avrahami et al. 2023, section 4).
    """
    left = part_of(times(parts, steps), strength)
    z, denoise = over(parts, pictures, prompts, negative, guidance)
    inside = on_grid(parts, mask, z)
    noise = normal(z, seeded(seed, len(z), first))

    def outside(i: int) -> Tensor:
        return z if i + 1 == len(left) else parts.schedule.noised(z, noise, left[i + 1 : i + 2].expand(len(z)))

    x = parts.schedule.noised(z, noise, left[:1].expand(len(z)))
    return decode(parts, masked_walk(parts, denoise, x, left, inside, outside, watch))


def invert(
    parts: Parts,
    pictures: Picture,
    prompts: str | Sequence[str] = "",
    *,
    strength: float = 1.0,
    guidance: float = 1.0,
    steps: int = 200,
    watch: Watch | None = None,
) -> Tensor:
    """Return the noise that DDIM, with these prompts and steps, takes back to pictures: latents [n, 4, h/f, w/f].

    With a `strength` below 1 it goes only so far, as DiffEdit's encoding does.
    """
    z = encode_image(parts, pictures)
    known, nothing = encode_prompt(parts, prompts), encode_prompt(parts, "")
    denoise = conditioned(parts, known.expand(len(z), -1, -1), nothing, guidance)
    with torch.no_grad():
        return invert_ddim(denoise, z, parts.schedule, part_of(times(parts, steps), strength), watch=watch)


def diffedit(
    parts: Parts,
    pictures: Picture,
    source: str | Sequence[str],
    target: str | Sequence[str],
    *,
    strength: float = 0.8,
    guidance: float = 7.5,
    steps: int = 50,
    mask: Tensor | None = None,
    mask_strength: float = 0.5,
    quantile: float = 0.99,
    threshold: float = 0.2,
    draws: int = 10,
    seed: int = 0,
    first: int = 0,
    watch: Watch | None = None,
) -> Edit:
    """Change pictures so that `target` is true of them instead of `source`, and leave the rest (DiffEdit, section 3).

    Find the mask, unless it is given (in pixels or on the latents' grid); encode the pictures to `strength` by DDIM
    without a prompt; walk back with the target, outside of the mask along the way that the encoding took. The defaults
    were chosen on Pocket Stable Diffusion; the paper has a threshold of 0.5.
    """
    z = encode_image(parts, pictures)
    maps = latent_difference(parts, z, source, target, mask_strength, draws, seed, first)
    inside = found(maps, quantile, threshold) if mask is None else on_grid(parts, mask, z)[:, 0]
    left = part_of(times(parts, steps), strength)
    way = [z]
    empty = encode_prompt(parts, "")
    with torch.no_grad():
        free = conditioned(parts, empty.expand(len(z), -1, -1))
        x = invert_ddim(free, z, parts.schedule, left, watch=lambda i, t, x, x0: way.append(x))
    denoise = conditioned(parts, encode_prompt(parts, target).expand(len(z), -1, -1), empty, guidance)
    x = masked_walk(parts, denoise, x, left, inside[:, None], lambda i: way[len(left) - 1 - i], watch)
    return Edit(decode(parts, x), maps, inside)


@torch.no_grad()
def masked_walk(
    parts: Parts,
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    inside: Tensor,
    outside: Callable[[int], Tensor],
    watch: Watch | None = None,
) -> Tensor:
    """Walk back by DDIM, a step at a time; after step i what is not `inside` [n, 1, h, w] becomes `outside(i)`."""
    levels = [*(parts.schedule.level(t) for t in times.tolist()), parts.schedule.last]
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        x0, noise = denoise(x, torch.full((len(x),), now.time, device=x.device))
        x = then.signal * x0 + then.noise * noise
        x = inside * x + (1 - inside) * outside(i)
        if watch is not None:
            watch(i, now.time, x, x0)
    return x
