"""Editing with a text-to-image model: inpainting, inversion, and DiffEdit (Couairon et al. 2022, arXiv 2210.11427).

Masks are [n, h, w] on the grid of the latents, or [h, w] for all, 1 where a picture may change. The walk back is one
for all of them: after each step, what lies outside of the mask is put back to what it should be at that time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.diffusion.denoise import Denoise
from lib.diffusion.latent import Picture, conditioned, decode, encode_image, encode_prompt, over, part_of, times
from lib.diffusion.parts import Parts
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
    return _disagreement(parts, encode_image(parts, pictures), source, target, strength, draws, seed, first)


def _disagreement(
    parts: Parts,
    z: Tensor,
    source: str | Sequence[str],
    target: str | Sequence[str],
    strength: float,
    draws: int,
    seed: int,
    first: int,
) -> Tensor:
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
    maps = _disagreement(parts, z, source, target, mask_strength, draws, seed, first)
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
